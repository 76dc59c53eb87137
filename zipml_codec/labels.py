"""Which of several labels is meant."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import OptionError
from .formats.columns import as_index


def choose_label(label: str | int | None, names: Sequence[str] | None, count: int, where: str) -> int:
    """Number of a label among `count`, which is given by its name or its number; the only one needs no name.

    Raises
    ------
    OptionError
        There is no such label, or several and none was named. The message lists them.
    """
    if label is None and count == 1:
        return 0
    number = None
    if label is not None:
        number = names.index(label) if names is not None and label in names else as_index(label)
    if number is None or not -count <= number < count:
        known = ", ".join(map(repr, names)) if names else f"0 to {count - 1}" if count > 1 else "one, without a name"
        what = f"has {count} labels: name one of them with label= (--label)" if label is None else f"has no label {label!r}"
        raise OptionError(f"{where} {what}; there {'are' if count > 1 else 'is'} {known}")
    return number % count


def label_title(names: Sequence[str] | None, number: int, count: int) -> str | int | None:
    """Name of a label; its number where they have no names; None of the only one without a name."""
    return names[number] if names else number if count > 1 else None
