"""The version of this package, as installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("zipml-codec")
except PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "0+unknown"
