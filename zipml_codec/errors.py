"""Every error that this package raises on purpose.

Each is a `ValueError` or an `OSError`, so that callers who know nothing of this package catch what they
expect, and each message says what is wrong, where, and what to do.
"""


class ZipMLError(Exception):
    """Base of all errors raised by zipml_codec."""


class OptionError(ZipMLError, ValueError):
    """An option or argument that does not fit, alone or with the others."""


class RowError(OptionError, IndexError):
    """The number of a row that is not there."""


class LevelError(OptionError):
    """Levels too close together, or too far apart, for float32; `feature` is the number of theirs."""

    def __init__(self, message: str, feature: int) -> None:
        super().__init__(message)
        self.feature = feature

    def __reduce__(self) -> tuple[type[Exception], tuple[str, int]]:
        return type(self), (str(self), self.feature)


class DataError(ZipMLError, ValueError):
    """A source's content: text in a numeric column, NaN, no rows, a missing column."""


class SourceError(ZipMLError, OSError):
    """A source that cannot be opened or read."""


class FormatError(ZipMLError, OSError):
    """A file that is not a zipml file, or of a newer version."""


class CorruptError(FormatError):
    """A zipml file whose bytes are not those that were written."""


class OutputError(ZipMLError, OSError):
    """An output that cannot be written: it exists, the disk is full, another writer is at it."""


class MissingDependencyError(ZipMLError, ImportError, ValueError):
    """An optional library is needed; the message names the extra to install."""


class DivergenceError(ZipMLError, ValueError):
    """Training that left the finite numbers and could not be brought back."""


class PrecisionWarning(UserWarning):
    """Values that float32, the codec's input type, cannot hold to within a level's width."""
