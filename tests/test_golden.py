"""Files that earlier versions wrote, tests/golden, read as they were meant: by this version and by minimal_reader.py."""

import json
from pathlib import Path

import hdf5plugin
import minimal_reader
import numpy as np
import pytest
import xxhash
from make_golden import FILES, digest

import zipml_codec as zipml

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
assert hdf5plugin.FILTERS["zstd"] == 32015  # importing it lets h5py read zstd chunks


def test_none_is_missing():
    assert {path.name for path in GOLDEN.glob("*.zipml.h5")} == set(EXPECTED)
    assert {name.split("-", 2)[2].removesuffix(".zipml.h5") for name in EXPECTED} >= set(FILES)
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 500_000


@pytest.mark.parametrize("name", EXPECTED)
def test_this_version_reads_it(name):
    expected = EXPECTED[name]
    assert xxhash.xxh3_64_hexdigest((GOLDEN / name).read_bytes()) == expected["file"], "golden files are never written again"
    with zipml.open(GOLDEN / name) as data:
        data.verify()
        assert digest(data.codes()) == expected["codes"]
        assert digest(data.decode()) == expected["values"]
        assert digest(data.draw(seed=5)) == expected["drawn"]
        assert (None if data.labels is None else digest(data.labels)) == expected["labels"]
        assert (None if data.columns is None else list(data.columns)) == expected["columns"]
        assert {column: digest(values) for column, values in data.kept.items()} == expected["kept"]
        assert (digest(data.exact_rows()) if data.has_exact_copy else None) == expected.get("exact")
        rows = [len(data) - 1, 0]
        np.testing.assert_array_equal(data[rows], data.decode()[rows])
        assert zipml.repair(GOLDEN / name).saved == len(data)
        if data.labels is not None and data.labels.ndim == 1 and len(data) > 1:
            assert np.isfinite(zipml.train(data, epochs=1).coef).all()


WOVEN = [(name, int(bits)) for name in EXPECTED for bits in EXPECTED[name].get("precisions", {})]


@pytest.mark.parametrize(("name", "bits"), WOVEN)
def test_planes_are_read_at_every_precision(name, bits):
    expected, found = EXPECTED[name]["precisions"][str(bits)], minimal_reader.read(GOLDEN / name, bits)
    assert digest(found["codes"].astype(np.uint8)) == expected["codes"] and digest(found["values"]) == expected["values"]
    with zipml.open(GOLDEN / name, precision=bits) as data:
        assert digest(data.codes()) == expected["codes"] and digest(data.decode()) == expected["values"]
        assert digest(data[::-1][::-1]) == expected["values"]
        np.testing.assert_array_equal(data.noise, found["plane_noise"][bits - data.coarsest])


@pytest.mark.parametrize("name", EXPECTED)
def test_the_specification_is_enough_to_read_it(name):
    expected, found = EXPECTED[name], minimal_reader.read(GOLDEN / name)
    assert digest(found["codes"].astype(np.uint8)) == expected["codes"]
    assert digest(found["values"]) == expected["values"]
    assert (None if found["labels"] is None else digest(found["labels"])) == expected["labels"]
    assert found["columns"] == expected["columns"]
    assert {column: digest(values) for column, values in found["kept"].items()} == expected["kept"]
    assert (None if found["exact"] is None else digest(found["exact"])) == expected.get("exact")


def test_the_minimal_reader_is_small():
    text = Path(minimal_reader.__file__).read_text()
    assert text.count("\n") <= 110
    assert {line.split()[1] for line in text.splitlines() if line.startswith(("import", "from"))} == {"json", "h5py", "numpy"}
