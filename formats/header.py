"""What a zipml file is: its root attributes, and the sizes that follow from them (FORMAT.md, section 4)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..arrays import row_stride

CHUNK_BYTES = 2 << 20
PAGE, ALIGNED = 4096, 16 * 4096  # objects of at least so many bytes begin at a page
ROUND_ROWS = 16  # rows of a chunk are a multiple of this where there are many: kernels take 16 together


@dataclass(frozen=True)
class Header:
    """The root attributes (FORMAT.md, section 4)."""

    rows: int
    features: int
    bits: int
    samples: int
    stride: int
    chunk_rows: int
    level_kind: str  # "uniform": levels holds (low, high); "table": all of them
    rounding: str
    seed: int
    row_offset: int
    zstd: int  # compression level; 0: none
    tool: str
    options: str  # JSON: how it was made
    layout: str = "rows"  # or "weave": planes of bits (section 7), which has `coarsest` too
    coarsest: int = 0  # least precision that is read

    @property
    def chunks(self) -> int:
        """Number of chunks of `codes`."""
        return -(-self.rows // self.chunk_rows)

    @property
    def woven(self) -> bool:
        """Whether chunks are planes of bits."""
        return self.layout == "weave"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the dataset `codes`."""
        return (self.bits, self.rows, row_stride(self.features, 1)) if self.woven else (self.rows, self.stride)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Of a chunk of it."""
        return (*self.shape[:-2], self.chunk_rows, self.shape[-1])

    @property
    def row_size(self) -> int:
        """Bytes of a row in the file."""
        return disk_row(self.features, self.bits, self.layout)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk."""
        return self.chunk_rows * self.row_size

    @property
    def plane_bytes(self) -> int:
        """Bytes of a plane of a chunk."""
        return self.chunk_bytes // self.bits

    def about(self) -> dict[str, Any]:
        """The root attributes, but `format`, `version` and `xxh3`: rows have no layout to tell."""
        found = asdict(self)
        if not self.woven:
            del found["layout"], found["coarsest"]
        return found


def disk_row(features: int, bits: int, layout: str) -> int:
    """Bytes of a row in a file of this layout, of all planes together."""
    return bits * row_stride(features, 1) if layout == "weave" else row_stride(features, bits)


def chunk_rows_for(rows: int, size: int) -> int:
    """Rows, of `size` bytes each, of a chunk: about CHUNK_BYTES, cut evenly so that the last chunk is almost full.

    Whole pages, where some number of rows leaves the last chunk full but for a 32nd of all: large chunks begin at pages, and
    only those that follow one another without gaps can be mapped as one array.
    """
    most = max(1, CHUNK_BYTES // size)
    even = -(-rows // -(-rows // most))
    chunk = min(-(-even // ROUND_ROWS) * ROUND_ROWS, rows) if even >= 16 * ROUND_ROWS else even
    if size * chunk < ALIGNED or size * chunk % PAGE == 0 or chunk == rows:
        return chunk
    step = max(ROUND_ROWS, PAGE // math.gcd(PAGE, size))
    paged = range(max(-(-most // (2 * step)), 1) * step, min(2 * most + 1, rows), step)
    return min((count for count in paged if -rows % count <= rows // 32), key=lambda count: abs(count - chunk), default=chunk)
