"""Makes tests/golden, the files of format version 1 that every later version must read: python tests/make_golden.py [FOLDER]

Run once for a version that wrote the format, never again: files are not written over. What they hold, by tests/reference.py and
the arrays they were made from, goes into expected.json.
"""

import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import reference as ref
import xxhash

import zipml_codec as zipml
from zipml_codec.formats import container, header

NAMES = ["plain", "with,comma", "grüß \U0001f40d", "", 'quo"te']
TABLE, UNIFORM = {"levels": "optimal"}, {"levels": "uniform"}
KEPT = {
    "id": np.arange(2**53, 2**53 + 60),
    "when": np.linspace(0, 1, 60),
    "flag": np.arange(60) % 3 == 0,
    "small": np.arange(60, dtype=np.int8) - 30,
    "wide": np.arange(60, dtype=np.uint64) + np.uint64(2**64 - 60),
    "half": np.arange(60, dtype=np.float16) / 8,
    "text": np.array([f"row {number} ü" for number in range(60)]),
}

#: name: (rows, features, options of compress)
FILES = {
    "bits1-uniform-unlabelled": (60, 5, UNIFORM | {"bits": 1, "samples": 1, "y": None}),
    "bits2-k3-uniform-shared": (60, 5, UNIFORM | {"bits": 2, "samples": 3, "shared_levels": True}),
    "bits3-k2-table-named": (60, 5, TABLE | {"bits": 3, "names": NAMES}),
    "bits4-k2-table-byte-grid": (60, 5, TABLE | {"grid": "byte"}),
    "bits4-k2-table-anywhere-shared": (60, 5, TABLE | {"grid": "none", "shared_levels": True}),
    "bits5-k3-uniform-seed": (60, 5, UNIFORM | {"bits": 5, "samples": 3, "seed": 2**64 - 1}),
    "bits6-table-byte-grid-zstd3": (60, 5, TABLE | {"bits": 6, "samples": 1, "grid": "byte", "zstd": 3}),
    "bits7-k5-table": (60, 5, TABLE | {"bits": 7, "samples": 5}),
    "bits-auto": (60, 5, TABLE | {"bits": "auto", "target_error": 0.02}),
    "nearest-uniform": (60, 5, UNIFORM | {"samples": 1, "rounding": "nearest"}),
    "clipped": (60, 5, {"clip": True}),
    "several-labels": (60, 5, {"y": 3}),
    "kept-columns": (60, 5, {"keep": KEPT, "names": NAMES}),
    "kept-columns-zstd1-unlabelled": (60, 5, {"keep": KEPT, "y": None, "zstd": 1}),
    "exact-copy-clipped-zstd1": (60, 5, {"keep_exact": True, "clip": True, "zstd": 1, "y": 3, "chunk_bytes": 60}),
    "many-chunks": (300, 5, {"chunk_bytes": 64}),
    "many-chunks-zstd19-uniform": (300, 5, UNIFORM | {"zstd": 19, "chunk_bytes": 64}),
    "row-offset": (60, 5, {"row_offset": 2**32 + 5}),
    "padded-rows": (6, 120, UNIFORM | {}),
    "unpadded-rows": (6, 90, UNIFORM | {"bits": 3}),
    "one-row": (1, 5, UNIFORM | {}),
    "one-feature": (60, 1, TABLE | {}),
    "one-value": (1, 1, UNIFORM | {"bits": 8, "samples": 1}),
    "weave-table": (60, 5, TABLE | {"layout": "weave", "names": NAMES, "keep": {"id": KEPT["id"]}}),
    "weave-uniform-bits5-coarsest1": (60, 5, UNIFORM | {"layout": "weave", "bits": 5, "coarsest": 1, "y": None}),
    "weave-bits6-coarsest3-many-chunks": (
        120, 70, TABLE | {"layout": "weave", "bits": 6, "coarsest": 3, "shared_levels": True, "seed": 2**64 - 1,
                          "chunk_bytes": 2000, "row_offset": 2**32 - 50},
    ),
}


def table(rows, features):
    """Rows of smooth columns, every fourth from the second on constant, every fourth from the third on of integers."""
    rng = np.random.default_rng(rows * 1000 + features)
    X = rng.normal(size=(rows, features)).astype(np.float32) * np.float32(3)
    X[:, 1::4] = np.float32(0.1)
    X[:, 2::4] = rng.integers(-3, 9, size=X[:, 2::4].shape)
    return X, rng.normal(size=(rows, 3)).astype(np.float32)


def digest(array):
    """Of an array's type, shape and bytes; of text, as fixed-length bytes."""
    array = np.asarray(array)
    array = array.astype("U") if array.dtype.kind == "O" else array
    array = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
    array = np.array([value.rstrip(b"\0") for value in array.tolist()]) if array.dtype.kind == "S" else array
    kind = "S" if array.dtype.kind == "S" else array.dtype.str
    return f"{kind} {array.shape} {xxhash.xxh3_64_hexdigest(np.ascontiguousarray(array).tobytes())}"


@contextmanager
def rows_from(offset):
    """Files of rows that are numbered from `offset`, as those of shards are."""
    module = sys.modules["zipml_codec.compress"]
    header, encode = module.make_header, zipml.Codec.encode_into
    module.make_header = lambda *args: replace(header(*args), row_offset=offset)
    zipml.Codec.encode_into = lambda self, values, out, seed, row, *rest: encode(self, values, out, seed, row + offset, *rest)
    yield
    module.make_header, zipml.Codec.encode_into = header, encode


def make(path, rows, features, options):
    """One file, and the digests of what a reader must find in it."""
    import pandas  # here: tests use the rest of this module

    options = {"y": 1, "names": None, "chunk_bytes": 2 << 20, "row_offset": 0} | options
    labels, names, chunk_bytes, first = (options.pop(name) for name in ("y", "names", "chunk_bytes", "row_offset"))
    X, many = table(rows, features)
    y = None if labels is None else many[:, 0] if labels == 1 else many[:, :labels]
    if options.get("clip"):
        options["levels"] = zipml.Codec.uniform(X.min(axis=0) * np.float32(0.5), X.max(axis=0) * np.float32(0.5), 4, 2)
    header.CHUNK_BYTES = chunk_bytes
    source = X if names is None else pandas.DataFrame(X, columns=names)
    with rows_from(first), zipml.compress(source, y, path=path, **options) as data:
        bits, samples, seed, levels = data.bits, data.samples, data.seed, data.levels
        uniform, rounding, woven, coarsest = data.codec.is_uniform, data.rounding, data.layout == "weave", data.coarsest
        low, high = np.broadcast_to(data.codec.bounds[:, [0, -1]], (features, 2)).T
    X = np.clip(X, low, high) if options.get("clip") else X
    levels = np.broadcast_to(levels, (features, levels.shape[1]))
    known = (bits, samples, seed, first)
    if uniform:
        codes = ref.encode_uniform(X, low, high, *known, rounding)
        values, drawn = ref.decode_uniform(codes, low, high, *known[:2]), ref.draw_uniform(codes, low, high, *known[:2], 5, first)
    else:
        codes = ref.encode_table(X, levels, *known, rounding)
        values, drawn = ref.decode_table(codes, levels, *known[:2]), ref.draw_table(codes, levels, *known[:2], 5, first)
    planes = at_precisions(codes, None if uniform else levels, (low, high), bits, coarsest, seed, first) if woven else {}
    return {
        "file": xxhash.xxh3_64_hexdigest(path.read_bytes()),
        "codes": digest(codes.astype(np.uint8)),
        "values": digest(values.astype(np.float32)),
        "drawn": digest(drawn.astype(np.float32)),
        "labels": None if y is None else digest(y),
        "columns": names,
        "exact": digest(X) if options.get("keep_exact") else None,
        "kept": {name: digest(column) for name, column in options.get("keep", {}).items()},
    } | planes


def at_precisions(codes, levels, ends, bits, coarsest, seed, first):
    """What a reader of planes must find at each precision below all bits, as FORMAT.md's section 7 says."""
    (rows, features), found = codes.shape, {}
    stored = codes + ref.dither(rows, features, bits - coarsest, seed, first)
    for p in range(coarsest, bits):
        step = 2 ** (bits - p)
        at = (stored >> (bits - p)) - ref.dither(rows, features, p - coarsest, seed, first)
        if levels is None:
            low, high = (end.astype(np.float64) for end in ends)
            most = low + (high - low) / (2**bits - 1) * ((2**p - 1) * step)
            values = ref.decode_uniform(at, ends[0], most.astype(np.float32), p, 1)
        else:
            values = ref.decode_table(at, levels[:, ::step], p, 1)
        found[p] = {"codes": digest(at.astype(np.uint8)), "values": digest(values.astype(np.float32))}
    return {"precisions": found}


def main(folder):
    """Make what is not there yet, and note what it holds."""
    folder.mkdir(exist_ok=True)
    place = folder / "expected.json"
    expected = json.loads(place.read_text()) if place.exists() else {}
    for name, (rows, features, options) in FILES.items():
        path = folder / f"v{container.VERSION}-{zipml.__version__}-{name}.zipml.h5"
        if not path.exists():
            expected[path.name] = make(path, rows, features, options)
    place.write_text(json.dumps(expected, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path((sys.argv + [Path(__file__).parent / "golden"])[1]).absolute())
