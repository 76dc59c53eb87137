"""Images of the FPGA designs: the kernels piece by piece, as an export calls them, and whole exports, synced; bytes of the image.

MLWeaving and PYNQ shuffle bits; HARP draws a Philox word a value besides. The peer is the same planes by NumPy's packbits.
"""

import numpy as np
import pytest

from zipml_codec import compress, export_image
from zipml_codec.arrays import thread_count
from zipml_codec.formats.fpga import Sidecar, row_kernel
from zipml_codec.hardware import hardware_form, tops_of
from zipml_codec.kernels import images

PEER_ROWS, PIECE = 256, 2048  # rows: of the peer, and that an export works on together at 1,024 features
KINDS = [("harp", 1), ("harp", 2), ("harp", 4), ("harp", 8), ("pynq", 1), ("pynq", 8)]


@pytest.fixture(scope="module")
def file(data, tmp_path_factory):
    """file(layout, bits): a compressed file of the levels that it takes, all of it checked."""
    made, folder = {}, tmp_path_factory.mktemp("fpga")

    def make(layout, bits):
        levels, samples = f"harp:{bits}", 1 if layout == "pynq" else 2
        if (levels, samples) not in made:
            made[levels, samples] = compress(
                data.X, np.sign(data.y), path=folder / f"{bits}-{samples}.zipml.h5", levels=levels, samples=samples
            )
            made[levels, samples].verify()
        return made[levels, samples]

    yield make
    for dataset in made.values():
        dataset.close()
        dataset.path.unlink()


def by_pieces(rows, work):
    """work(slice) of some rows at a time; the last result."""
    for start in range(0, rows, PIECE):
        result = work(slice(start, start + PIECE))
    return result


def numpy_planes(values):
    """Lines of whole groups of 8 rows x 64 features, uint32 (rows, features)."""
    blocks = values.reshape(len(values) // 8, 8, -1, 64).transpose(0, 2, 1, 3)
    bits = np.unpackbits(blocks.astype(">u4").view(np.uint8).reshape(*blocks.shape, 4), axis=-1)
    return np.packbits(np.moveaxis(bits, -1, 2), axis=-1, bitorder="little").reshape(-1, 64)


def test_weave(measure, data, threads, all_threads):
    X = data.X[: len(data.X) // 8 * 8]
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    last = X[(len(X) - 1) // PIECE * PIECE :][:PEER_ROWS]
    values = ((last - low) / (high - low) * (2.0**32 - 1)).astype(np.uint32)
    got = measure(
        f"mlweaving, {threads or 'all'} thr.",
        lambda: by_pieces(len(X), lambda part: images.weave(X[part], low, high - low, False, threads or all_threads)),
        values=X.size,
        nbytes=4 * X.size,
        unit="image out",
        threads=threads,
        peers={"numpy packbits": (lambda: numpy_planes(values), values.size)},
    )
    if X.shape[1] % 64 == 0:
        expected = numpy_planes(values)
        np.testing.assert_array_equal(got.reshape(-1, 64)[: len(expected)], expected)


@pytest.mark.parametrize(("layout", "bits"), KINDS)
def test_rows(measure, file, threads, all_threads, layout, bits):
    dataset = file(layout, bits)
    packed, features, codec = dataset.packed(), dataset.shape[1], dataset.codec
    about = Sidecar(
        layout=layout, bits=bits, signed=False, rows=len(dataset), data_rows=len(dataset), features=features,
        data_features=features, bias=False, indices=1, top=1, low=np.zeros(features), high=np.ones(features), labelled=False,
    )  # fmt: skip
    tops = np.zeros(-(-features // 64) * 64, np.uint8)
    tops[:features] = tops_of(codec, hardware_form(codec)[1])
    rows, given = row_kernel(about), (codec.bits, codec.samples, 0, tops, None, 0, 0)
    measure(
        f"{layout}, Q={bits}, {threads or 'all'} thr.",
        lambda: by_pieces(len(packed), lambda part: rows.fill(packed[part], *given, threads or all_threads)),
        values=len(packed) * features,
        nbytes=len(dataset) * about.row_bytes,
        unit="image out",
        threads=threads,
    )


@pytest.mark.parametrize(("layout", "bits"), [("harp", 4), ("pynq", 8), ("mlweaving", 4)])
def test_export(measure, file, tmp_path, layout, bits):
    dataset = file(layout, bits)
    sizes = export_image(dataset, tmp_path / "a.bin", layout, last_rows="drop").data.nbytes
    measure(
        f"export, {layout}{f', Q={bits}' * (layout != 'mlweaving')}, {thread_count(None)} thr.",
        lambda: export_image(dataset, tmp_path / "a.bin", layout, last_rows="drop", overwrite=True),
        values=len(dataset) * dataset.shape[1],
        nbytes=sizes,
        unit="image out",
    )
