"""Round trips over whatever shapes, types and options: array -> file -> codes and values are the reference's, bit for bit."""

import tempfile
from pathlib import Path

import minimal_reader
import numpy as np
import pytest
import reference as ref
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zipml_codec as zipml

DTYPES = ["<f4", "<f8", ">f4", "<f2", "<i2", "<i4", "u1", "?"]


@st.composite
def tables(draw):
    """An array as users have them: any type, order and stride, some columns constant."""
    rows, features = draw(st.integers(1, 90)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    X = rng.normal(size=(rows, features)) * draw(st.sampled_from([1, 50])) + draw(st.sampled_from([0, 3]))
    X[:, rng.random(features) < 0.2] = 2
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    X = (X > 0) if dtype.kind == "b" else np.abs(X).clip(0, 255).astype(dtype) if dtype.kind == "u" else X.astype(dtype)
    layout = draw(st.sampled_from(["C", "F", "every second", "backwards"]))
    if layout == "every second":
        X = np.repeat(X, 2, axis=0)[::2]
    return X[::-1] if layout == "backwards" else np.asarray(X, order="F" if layout == "F" else "C")


@st.composite
def options(draw):
    """Options of `compress` that go together."""
    bits = draw(st.integers(1, 8))
    samples = draw(st.integers(1, min(4, 2**bits - 1)))
    nearest = samples == 1 and draw(st.booleans())
    return {
        "bits": bits,
        "samples": samples,
        "rounding": "nearest" if nearest else "stochastic",
        "levels": draw(st.sampled_from(["uniform", "optimal"])),
        "shared_levels": draw(st.booleans()),
        "seed": draw(st.sampled_from([0, 1, 2**63, 2**64 - 1])),
        "zstd": draw(st.sampled_from([None, None, 1])),
        "threads": draw(st.sampled_from([1, 2, 3])),
    }


@pytest.mark.filterwarnings("ignore::zipml_codec.errors.PrecisionWarning")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), options(), st.sampled_from([1, 64, 1000, 1 << 21]), st.booleans(), st.data())
def test_array_to_file_to_array(X, chosen, chunk_bytes, labelled, more):
    rows, features = X.shape
    y = np.arange(rows) % 7 if labelled else None
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr("zipml_codec.formats.header.CHUNK_BYTES", chunk_bytes)
        path = Path(folder) / "f"
        with zipml.compress(X, y, path=path, **chosen) as data:
            got, codes, levels = data.decode(threads=2), data.codes(), data.levels
            wanted = more.draw(st.lists(st.integers(-rows, rows - 1), max_size=12))
            np.testing.assert_array_equal(data.decode(wanted), got[wanted])
            start, stop = more.draw(st.integers(-rows - 2, rows + 2)), more.draw(st.integers(-rows - 2, rows + 2))
            np.testing.assert_array_equal(data[start:stop], got[start:stop])
            assert (data.labels is None) if y is None else np.array_equal(data.labels, y)
            data.verify()
        a, known = X.astype(np.float32), (chosen["bits"], chosen["samples"], chosen["seed"])
        if chosen["levels"] == "uniform":
            low, high = np.broadcast_to(levels[:, [0, -1]], (features, 2)).T
            expected = ref.encode_uniform(a, low, high, *known, rounding=chosen["rounding"])
            means = ref.decode_uniform(expected, low, high, *known[:2])
        else:
            table = np.broadcast_to(levels, (features, levels.shape[1]))
            expected = ref.encode_table(a, table, *known, rounding=chosen["rounding"])
            means = ref.decode_table(expected, table, *known[:2])
        np.testing.assert_array_equal(codes, expected)
        np.testing.assert_array_equal(got, means)
        if not chosen["zstd"]:
            other = minimal_reader.read(path)
            np.testing.assert_array_equal(other["codes"], codes)
            np.testing.assert_array_equal(other["values"], got)
