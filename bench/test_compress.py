"""compress() of a .npy file in the page cache, both passes, beside plain ways to do as much; and the memory that it takes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zipml_codec import compress
from zipml_codec.rows import BLOCK_BYTES

SPARSE = (1_000_000, 1024)  # float32: 4 GB
MOST = (400 << 20) + 3 * BLOCK_BYTES
STEP = 2048


def copy(source, target):
    """A plain copy, on the disk as what compress() writes is."""
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def half(source, target):
    """What a user would write who has no codec: load, cast to float16, save; block by block, on the disk too."""
    rows = np.load(source, mmap_mode="r")
    out = np.lib.format.open_memmap(target, "w+", np.float16, rows.shape)
    for start in range(0, len(rows), STEP):
        out[start : start + STEP] = rows[start : start + STEP]
    out.flush()  # msync


def measure_compress(measure, data, levels, bits, threads, **options):
    out = data.folder / "out.zipml.h5"
    dataset = measure(
        f"compress() .npy {levels} {bits} bits k=2{''.join(f' {name}={value}' for name, value in options.items())}, "
        f"{threads or 'all'} thr." + (" (aim 1.5 GB/s)" if (levels, bits, threads, options) == ("optimal", 4, None, {}) else ""),
        lambda: compress(data.npy, path=out, bits=bits, samples=2, levels=levels, threads=threads, overwrite=True, **options),
        values=data.X.size,
        nbytes=data.X.nbytes,
        unit="float32 in",
        threads=threads,
        peers={
            "file copy": (lambda: copy(data.npy, data.folder / "copy.npy"), data.X.size),
            "numpy float16": (lambda: half(data.npy, data.folder / "half.npy"), data.X.size),
        },
        rounds=2,
    )
    assert dataset.shape == data.X.shape
    dataset.close()


@pytest.mark.parametrize("bits", [2, 4, 8], ids=lambda bits: f"bits={bits}")
@pytest.mark.parametrize("levels", ["uniform", "optimal"])
def test_compress(measure, data, levels, bits):
    measure_compress(measure, data, levels, bits, None)


@pytest.mark.parametrize("levels", ["uniform", "optimal"])
def test_compress_one_thread(measure, data, levels):
    measure_compress(measure, data, levels, 4, 1)


def test_compress_zstd(measure, data):
    measure_compress(measure, data, "optimal", 4, None, zstd=3)


PEAK = """
import sys
from zipml_codec import compress

compress(sys.argv[1], path=sys.argv[2], overwrite=True).close()
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory(measure, tmp_path):
    """A sparse 4 GB file: at most 400 MB and three blocks."""
    source = tmp_path / "sparse.npy"
    with source.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": SPARSE})
        file.truncate(file.tell() + 4 * SPARSE[0] * SPARSE[1])
    command = [sys.executable, "-c", PEAK, str(source), str(tmp_path / "out.zipml.h5")]
    result = measure(
        f"compress() of a sparse {SPARSE[0]:,} x {SPARSE[1]:,} .npy, as a process",
        lambda: subprocess.run(command, capture_output=True, text=True, check=True, cwd=os.sep),
        values=SPARSE[0] * SPARSE[1],
        nbytes=4 * SPARSE[0] * SPARSE[1],
        unit="float32 in",
        rounds=1,
    )
    peak = 1024 * int(result.stdout)  # not ru_maxrss, which a child inherits
    print(f"\npeak memory: {peak >> 20} MiB, at most {MOST >> 20}")
    assert peak <= MOST
