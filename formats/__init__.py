"""File formats: readers of users' data (`sources`, `binary`, `text`) and the files that this package writes.

The specification of the package's own file is `FORMAT.md` beside this module.
"""
