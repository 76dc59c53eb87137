"""Statistics of parts of the rows, which shards have of their own, and how those of parts make up those of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .codec import Codec, noise_total
from .kernels.codes import GROUP
from .statistics import ColumnStatistics

Statistics = dict[str, NDArray[Any]]  # low, high, mean, std, noise, error and, where values were clipped, clipped


def mean_errors(codec: Codec, total: NDArray[np.float64], rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noise D and mean squared error of each feature from their sums over rows, in the kernel's units."""
    mean_square = total / rows * codec.noise_scale()
    noise = np.zeros(codec.features) if codec.rounding == "nearest" else mean_square[0] / codec.samples
    return noise, mean_square[1]


class ShardStatistics:
    """Statistics of each shard's rows, learnt block by block while they are encoded.

    Parameters
    ----------
    codec : Codec
    seed, shard_rows, threads : int
    """

    def __init__(self, codec: Codec, seed: int, shard_rows: int, threads: int) -> None:
        self.codec, self.seed, self.shard_rows, self.threads = codec, seed, shard_rows, threads
        self._shards: dict[int, tuple[ColumnStatistics, list[Any]]] = {}

    def add(
        self, values: NDArray[np.float32], row: int, groups: NDArray[np.float32], moved: NDArray[np.bool_] | None
    ) -> None:
        """Learn from rows row, row + 1, ...: `groups` (2, ceil(m/GROUP), features) are their sums, `moved` what was clipped."""
        start = 0
        while start < len(values):
            number = (row + start) // self.shard_rows
            end = min(len(values), (number + 1) * self.shard_rows - row)
            fresh = ColumnStatistics(self.codec.features, sketch=False, sample=False), [np.zeros((2, self.codec.features)), None]
            columns, learnt = self._shards.setdefault(number, fresh)
            columns.add(values[start:end], self.threads)
            learnt[0] = self._errors(learnt[0], values, row, groups, start, end)
            if moved is not None:
                count = np.count_nonzero(moved[start:end], axis=0).astype(np.uint64)
                learnt[1] = count if learnt[1] is None else learnt[1] + count
            start = end

    def state(self, row: int) -> Statistics:
        """What was learnt of the shard that `row`, the next one, lies in, as arrays of their own; empty where it begins there."""
        if row // self.shard_rows not in self._shards:
            return {}
        columns, (total, clipped) = self._shards[row // self.shard_rows]
        found = columns.state() | {"total": total} | ({} if clipped is None else {"clipped": clipped})
        return {name: array.copy() for name, array in found.items()}

    def restore(self, row: int, state: Statistics) -> None:
        """Go on at `row` with what `state` gave."""
        if state:
            columns = ColumnStatistics(self.codec.features, sketch=False, sample=False)
            columns.restore({name: array.copy() for name, array in state.items()})
            self._shards[row // self.shard_rows] = columns, [state["total"], state.get("clipped")]

    def _errors(
        self,
        total: NDArray[np.float64],
        values: NDArray[np.float32],
        row: int,
        groups: NDArray[np.float32],
        start: int,
        end: int,
    ) -> NDArray[np.float64]:
        """`total` and rows start..end-1 of a block: groups that lie in them, and the rows of others, encoded once more."""
        first, last = -(-start // GROUP), groups.shape[1] if end == len(values) else end // GROUP
        rest = [(start, min(first * GROUP, end)), (max(last * GROUP, start), end)] if first <= last else [(start, end)]
        parts = [groups[:, first:last]]
        for at, stop in rest:
            if at < stop:
                sums = np.empty((2, 1, self.codec.features), np.float32)
                packed = np.empty((stop - at, self.codec.stride), np.uint8)
                self.codec.encode_into(values[at:stop], packed, self.seed, row + at, 1, sums[0], sums[1])
                parts.append(sums)
        for part in parts:
            total = np.stack([noise_total(total[i], part[i]) for i in (0, 1)])
        return total

    def of_rows(self, number: int) -> Statistics:
        """What was learnt of a shard, all rows of which were added; it is forgotten here."""
        columns, (total, clipped) = self._shards.pop(number)
        noise, error = mean_errors(self.codec, total, columns.rows)
        learnt: Statistics = {"low": columns.low, "high": columns.high, "mean": columns.mean, "std": columns.std}
        return learnt | {"noise": noise, "error": error} | ({} if clipped is None else {"clipped": clipped})


def merged(parts: Sequence[tuple[int, Statistics]]) -> Statistics:
    """Statistics of rows from those of parts of them, (rows, statistics) each: exact, but for float64's rounding."""
    if len(parts) == 1:
        return parts[0][1]
    share = np.array([rows for rows, _ in parts], np.float64)
    share = (share / share.sum())[:, None]

    def of(name: str) -> NDArray[Any]:
        return np.stack([statistics[name] for _, statistics in parts])

    low, high, means = of("low").min(axis=0), of("high").max(axis=0), of("mean")
    mean = means[0] + np.sum(share * (means - means[0]), axis=0)
    variance = np.sum(share * (of("std") ** 2 + (means - mean) ** 2), axis=0)
    out = {"low": low, "high": high, "mean": mean, "std": np.where(high > low, np.sqrt(variance), 0.0)}
    out |= {name: np.sum(share * of(name), axis=0) for name in ("noise", "error")}
    counts = [statistics["clipped"] for _, statistics in parts if "clipped" in statistics]
    return out | ({"clipped": np.sum(counts, axis=0, dtype=np.uint64)} if counts else {})
