"""Random rows of a file in the page cache, decoded, by `Dataset[rows]`; beside h5py's indexing, which gives bytes."""

import h5py
import numpy as np
import pytest

from zipml_codec import compress

COUNT, TIMES = 1000, 5  # the file is the data, so many times over: 256 MB of codes at the sizes that conftest.py takes
PEER = "h5py of bytes"


@pytest.fixture(scope="module", params=[None, 3], ids=["plain", "zstd"])
def file(request, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("access") / "a.zipml.h5"
    with compress([data.X] * TIMES, path=path, bits=4, levels="uniform", zstd=request.param) as rows:
        rows.decode(slice(0, None, rows.chunk_rows))  # every chunk is checked
        yield rows
    path.unlink()


@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
def test_random_rows(measure, file, together):
    rows = np.random.default_rng(0).choice(len(file), COUNT, replace=False)
    ascending = np.sort(rows)  # as h5py wants them
    zstd = file._file.header.zstd
    if zstd:
        rows = rows[:10]  # a chunk is unpacked for each of them
    values = len(rows) * file.shape[1]

    def each(of, numbers):
        return of[numbers] if together else np.stack([of[row] for row in numbers.tolist()])

    with h5py.File(file.path) as plain:
        got = measure(
            f"{len(rows):,} rows {'together' if together else 'one by one'}{', zstd' if zstd else ''}, all thr.",
            lambda: each(file, rows),
            values=values,
            nbytes=4 * values,
            unit="float32 out",
            peers={} if zstd else {PEER: (lambda: each(plain["codes"], ascending), values)},
        )
    np.testing.assert_array_equal(got, file.codec.decode(file.packed(rows)))
