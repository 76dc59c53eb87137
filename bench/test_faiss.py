"""4 bits, k=2 beside FAISS's ScalarQuantizer of 4 bits, which rounds to nearest: same rows, all threads, ready outputs.

Rows of a size that memory holds, and of one that caches do. FAISS needs no random numbers, and keeps neither noise nor an error.
"""

import numpy as np
import pytest

faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")

BITS, SAMPLES = 4, 2
CACHED_ROWS = 2048


@pytest.fixture
def quantizer(data, threads_of_faiss):
    """quantizer(kind): a ScalarQuantizer of X's features that knows their ranges."""

    def make(kind):
        found = faiss.ScalarQuantizer(data.X.shape[1], getattr(faiss.ScalarQuantizer, kind))
        found.train(np.stack([data.X.min(axis=0), data.X.max(axis=0)]))
        return found

    return make


@pytest.fixture
def threads_of_faiss(all_threads):
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(all_threads)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(params=["memory", "cache"])
def rows(request, data):
    return data.X if request.param == "memory" else data.X[:CACHED_ROWS].copy()


@pytest.mark.parametrize("levels", ["uniform", "optimal"])
def test_encode(measure, codec, quantizer, rows, levels, all_threads):
    coder, peer = codec(levels, BITS, SAMPLES), quantizer("QT_4bit")
    ours = np.zeros((len(rows), coder.stride), np.uint8)
    theirs = np.zeros((len(rows), peer.code_size), np.uint8)
    outside = measure(
        f"encode {levels} {BITS} bits k={SAMPLES}, {len(rows):,} rows",
        lambda: coder.encode_into(rows, ours, 0, 0, all_threads),
        values=rows.size,
        nbytes=rows.nbytes,
        unit="float32 in",
        peers={
            "FAISS QT_4bit": (
                lambda: peer.compute_codes_c(faiss.swig_ptr(rows), faiss.swig_ptr(theirs), len(rows)),
                rows.size,
            )
        },
    )
    assert not outside
    np.testing.assert_array_equal(theirs[:64], peer.compute_codes(rows[:64]))


@pytest.mark.parametrize("levels", ["uniform", "optimal"])
def test_decode(measure, codec, quantizer, rows, levels, all_threads):
    coder, peer = codec(levels, BITS, SAMPLES), quantizer("QT_4bit_uniform")
    packed, codes = coder.encode(rows), peer.compute_codes(rows)
    ours, theirs = np.zeros_like(rows), np.zeros_like(rows)
    measure(
        f"decode {levels} {BITS} bits k={SAMPLES}, {len(rows):,} rows",
        lambda: coder.decode_into(packed, ours, all_threads),
        values=rows.size,
        nbytes=rows.nbytes,
        unit="float32 out",
        peers={
            "FAISS QT_4bit_uniform": (
                lambda: peer.decode_c(faiss.swig_ptr(codes), faiss.swig_ptr(theirs), len(rows)),
                rows.size,
            )
        },
    )
    np.testing.assert_array_equal(ours[:64], coder.decode(packed[:64]))
    np.testing.assert_array_equal(theirs[:64], peer.decode(codes[:64]))
