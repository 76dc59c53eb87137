"""Columns that are carried through exactly, row ids say: their types, found in the first pass, and text as bytes and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .formats.sources import as_text

TEXT = "OUS"  # kinds of dtypes that hold text
LONGEST_TEXT = 65535  # bytes: every row takes as many as the longest text
PIECE_BYTES = 1 << 20

Column = NDArray[Any]
Parts = Mapping[str, Sequence[Column]]  # columns by name, each in one part or more


def to_bytes(column: Column) -> list[bytes]:
    """Texts in UTF-8."""
    return [item if isinstance(item, bytes) else item.encode() for item in column.tolist()]


def from_bytes(column: Column) -> Column:
    """A column as a file holds it: what is text as str, dtype object; numbers as they are."""
    if column.dtype.kind != "S":
        return column
    texts = np.empty(len(column), object)
    texts[:] = [item.decode() for item in column.tolist()]
    return texts


def type_name(dtype: np.dtype[Any]) -> str:
    """What a kept column's type is called, for people."""
    return f"text of up to {dtype.itemsize} bytes" if dtype.kind == "S" else dtype.name


class KeptTypes:
    """Types of kept columns, learnt from all rows, block by block; and the columns in these types.

    Integers of several widths are of the widest, and so are floats; integers beside text are text.

    Parameters
    ----------
    name : str
        The source's, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._widths: dict[str, int] = {}  # bytes of the longest text, or of the longest integer in decimals

    def add(self, kept: Parts, first_row: int) -> None:
        """Learn from rows.

        Raises
        ------
        DataError
            Types that no one type holds exactly, text with a zero byte, not in Unicode, or too long.
        """
        for key, parts in kept.items():
            row = first_row
            for column in parts:
                if len(column):
                    self._widths[key] = max(self._widths.get(key, 1), self._width(key, column, row))
                    dtype = np.dtype(np.bytes_) if column.dtype.kind in TEXT else column.dtype
                    self._dtypes[key] = self._common(key, self._dtypes.get(key, dtype), dtype, row)
                row += len(column)

    def _common(self, key: str, before: np.dtype[Any], dtype: np.dtype[Any], first_row: int) -> np.dtype[Any]:
        if before == dtype:
            return dtype
        kinds = {before.kind, dtype.kind}
        if "S" in kinds and kinds <= set("Siu"):
            return np.dtype(np.bytes_)
        common = np.result_type(before, dtype)
        if common.kind not in kinds or not (kinds <= set("iu") or len(kinds) == 1):
            was, now = ("text" if one.kind == "S" else one.name for one in (before, dtype))
            raise DataError(
                f"{self._name}: column {key!r} is {was} up to row {first_row}, and {now} after it; it is kept in one type only"
            )
        return common

    def _width(self, key: str, column: Column, first_row: int) -> int:
        if column.dtype.kind in "iu":
            return max(len(str(column.min())), len(str(column.max())))
        if column.dtype.kind not in TEXT:
            return 1
        try:
            texts = to_bytes(column)
        except UnicodeEncodeError as error:
            raise DataError(f"{self._name}: column {key!r}: {error.object!r} is not text in Unicode") from error
        longest = max(map(len, texts))
        if longest > LONGEST_TEXT or b"\0" in b"".join(texts):
            bad = next(at for at, text in enumerate(texts) if len(text) > LONGEST_TEXT or b"\0" in text)
            size = len(texts[bad])
            what = f"of {size} bytes, at most {LONGEST_TEXT} are kept" if size > LONGEST_TEXT else "with a zero byte"
            raise DataError(f"{self._name}: row {first_row + bad + 1}, column {key!r}: a text {what}; leave the column out")
        return longest

    def state(self) -> dict[str, Any]:
        """What was learnt, as JSON holds it: what `restore` takes."""
        return {"types": [[key, dtype.str] for key, dtype in self._dtypes.items()], "widths": self._widths}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what was learnt of the rows before."""
        self._dtypes = {key: np.dtype(name) for key, name in state["types"]}
        self._widths = dict(state["widths"])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._dtypes)

    @property
    def rowwise(self) -> dict[str, np.dtype[Any]]:
        """Types of the columns in a file, by the names of their row arrays."""
        found = {}
        for number, (key, dtype) in enumerate(self._dtypes.items()):
            found[f"kept_{number}"] = np.dtype(f"S{self._widths[key]}") if dtype.kind == "S" else dtype.newbyteorder("<")
        return found

    def encoded(self, kept: Parts, first_row: int) -> Iterator[tuple[str, Column]]:
        """Rows of the second pass as a file holds them, by the names of row arrays; text in pieces of about a MiB.

        Raises
        ------
        DataError
            They are not those of the first pass.
        """
        if tuple(kept) != self.names:
            names = f"{list(kept)}, the first {list(self.names)}"
            raise DataError(f"{self._name}: the second pass over it gave columns to keep {names}")
        for (name, dtype), (key, parts) in zip(self.rowwise.items(), kept.items(), strict=True):
            row = first_row
            for column in parts:
                yield from ((name, piece) for piece in self._pieces(key, column, dtype, row))
                row += len(column)

    def _pieces(self, key: str, column: Column, dtype: np.dtype[Any], row: int) -> Iterator[Column]:
        if dtype.kind != "S":
            same = column.dtype.kind in (dtype.kind, "u" if dtype.kind == "i" else dtype.kind)
            self._check(same and np.can_cast(column.dtype, dtype), key, row)
            yield column
            return
        texts = column if column.dtype.kind in TEXT else as_text(column)
        step = max(1, PIECE_BYTES // dtype.itemsize)
        for start in range(0, len(texts), step):
            part = texts[start : start + step]
            self._check(self._width(key, part, row + start) <= dtype.itemsize, key, row + start)
            yield np.array(to_bytes(part), dtype)

    def _check(self, good: bool, key: str, row: int) -> None:
        if not good:
            raise DataError(f"{self._name}: column {key!r}: what is there from row {row + 1} on was not in the first pass")
