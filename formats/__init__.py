"""The file format, and the readers of user data."""
