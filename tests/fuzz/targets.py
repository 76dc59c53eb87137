"""What is fuzzed: a function of bytes that must raise a ZipMLError or nothing, the seeds, and how bytes are changed.

A file's digests let no plain change through to the code behind them. So most changes of a container put the digests right again:
all of them, after a change by h5py, which reaches the reader's own checks, or the seal's alone, which lets HDF5 see changed
structures. In those HDF5 may crash or loop, which the seal is there to prevent: such a file was made on purpose.
"""

import io
import json
import random
import tempfile
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import xxhash
from sealing import seal, unseal

import zipml_codec as zipml
from zipml_codec.errors import ZipMLError
from zipml_codec.formats import header as header_module
from zipml_codec.formats.arrays import array_source
from zipml_codec.formats.readers import open_source
from zipml_codec.formats.salvage import Salvage, Untrusted

FOLDER = Path(tempfile.mkdtemp(prefix="zipml-fuzz-"))
ROWS = 60
NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    8,
    9,
    15,
    16,
    59,
    60,
    61,
    255,
    2**15,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
TEXTS = [
    "",
    "zipml",
    "uniform",
    "table",
    "stochastic",
    "nearest",
    "{}",
    "[]",
    "null",
    '{"label": 3}',
    "{",
    "\x00",
    "\udcff"[:0],
    "x" * 999,
]
READ = {}  # a file as it was made: what it decodes to


# ---- The container ----


def container_seeds():
    """Small files of many kinds."""
    header_module.CHUNK_BYTES = 100
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(ROWS, 5)).astype(np.float32), rng.normal(size=ROWS).astype(np.float32)
    seeds = []
    kept = {
        "id": np.arange(ROWS),
        "text": np.array([f"ü{number}" for number in range(ROWS)]),
        "flag": np.arange(ROWS) % 2 == 0,
    }
    path = FOLDER / "seed"
    for labels, names, options in [
        (y, list("abcde"), {"levels": "optimal"}),
        (y, None, {"bits": 3, "samples": 1, "levels": "uniform", "zstd": 3}),
        (None, ["é"] * 5, {"bits": 8, "samples": 1, "levels": "optimal", "zstd": 1}),
        (None, None, {"bits": 1, "samples": 1, "levels": "uniform"}),
        (np.stack([y, -y], axis=1), None, {"keep": kept}),
        (y, list("abcde"), {"layout": "weave", "bits": 5}),
    ]:
        source = (array_source(X, labels, "X", names), None) if names else (X, labels)
        zipml.compress(*source, path=path, overwrite=True, **options).close()
        seeds.append(path.read_bytes())
        READ[seeds[-1]] = state(path)
    return seeds


def state(path):
    """All that a file says."""
    with zipml.open(path) as data:
        arrays = [
            data.decode(),
            data.codes(),
            data.draw(seed=3),
            data.labels,
            data.levels,
            data.noise,
            data.mean,
            data.sample_values,
        ]
        rest = repr(
            (
                data.columns,
                data.options,
                data.label_names,
                {name: data.kept[name].tolist() for name in data.kept},
                data.seed,
                len(list(data.batches(7))),
                data[-1].tolist(),
                data[[3, 1, 3]].tolist(),
                [data.at(bits).decode().tobytes() for bits in data.noises],
            )
        )
        data.verify()
    return [None if array is None else array.tobytes() for array in arrays], rest


def container(data, origin=None):
    """Open, read and repair. With `origin`, whose damaged bytes these are, it must be an error or the same data."""
    path = FOLDER / "case"
    path.write_bytes(data)
    try:
        got = state(path)
        assert origin is None or got == READ[origin], "other data"
    except ZipMLError as error:
        assert str(path) in str(error) and "\n" not in str(error), error
    with suppress(ZipMLError, Untrusted), Salvage(path) as reader:
        reader.map_rows()
        for number in range(min(reader.header.chunks, 100)):
            with suppress(ZipMLError):
                reader.read_chunk(number)


def xxh3(array):
    """A digest of an array."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(array).tobytes())


def settled(content, ranges, change):
    """The file after `change` of its HDF5 content, all digests and the seal right again."""
    place = io.BytesIO(content)
    with h5py.File(place, "r+") as file:
        change(file)
        digests, rows = {}, {}
        header = {name: value for name, value in file.attrs.items() if name not in ("format", "version", "xxh3")}
        header = {name: value if isinstance(value, str) else int(value) for name, value in header.items()}
        if "codes" in file and file["codes"].chunks and not file["codes"].compression and "digests" in file:
            with suppress(Exception):
                packed, size = file["codes"][()], file["codes"].chunks[0]
                packed = np.pad(packed, ((0, -len(packed) % size), (0, 0)))
                file["digests"][...] = [xxh3(part) for part in np.split(packed, len(packed) // size)]
        with suppress(Exception):
            size, names = int(header["chunk_rows"]), [f"kept_{number}" for number in range(9)]
            arrays = [file[name][()] for name in ["labels", *names] if name in file]
            parts = [[array[at : at + size] for at in range(0, len(array), size)] for array in arrays]
            file["row_digests"][...] = [[xxh3(part) for part in each] for each in parts]
        for name, dataset in file.items():
            if name == "labels" or name.startswith("kept_"):
                rows[name] = dataset.dtype.str + "".join(f"*{size}" for size in dataset.shape[1:])
            elif name != "codes":
                digests[name] = f"{xxh3(dataset[()]):016x}"
                dataset.attrs["xxh3"] = np.uint64(int(digests[name], 16))
        text = json.dumps(
            {"digests": digests, "header": header, "row_arrays": rows}, sort_keys=True, separators=(",", ":")
        )
        file.attrs["xxh3"] = np.uint64(xxhash.xxh3_64_intdigest(text.encode()))
    return seal(place.getvalue(), ranges)


def changed_by_hdf5(rng, content, ranges):
    """A well-formed file that says something else."""

    def change(file):
        for _ in range(rng.choice([1, 1, 2])):
            what, name = rng.randrange(6), rng.choice(sorted(file))
            attribute = rng.choice(sorted(file.attrs))
            if what == 0:
                value = file.attrs[attribute]
                near = [int(value) + 1, max(int(value) - 1, 0)] if not isinstance(value, str) else []
                file.attrs[attribute] = (
                    rng.choice(TEXTS) if isinstance(value, str) else np.uint64(rng.choice(NUMBERS + near) % 2**64)
                )
            elif what == 1:
                del file.attrs[attribute]
            elif what == 2:
                del file[name]
            elif what == 3 and file[name].size:
                array = file[name][()]
                flat = array.reshape(-1)
                with np.errstate(all="ignore"):
                    values = [0, 255, 1e38, np.nan, -1, np.inf] if array.dtype.kind == "f" else [0, 1, 34, 91, 255]
                    values = [b"\xff\xfe", b"", b"\0a"] if array.dtype.kind == "S" else values
                flat[rng.randrange(len(flat))] = np.array(rng.choice(values)).astype(array.dtype)
                file[name][...] = array
            elif what == 4:
                shape = tuple(
                    rng.choice([0, 1, 2, 5, 16, 60, size]) for size in (rng.choice([(1,), (1, 1), file[name].shape]))
                )
                kind = rng.choice(["<f4", ">f4", "<f8", "u1", "<i8", "<u8", "S3", h5py.string_dtype()])
                del file[name]
                file.create_dataset(name, shape, kind, fillvalue=None)
            else:
                file.attrs[attribute] = rng.choice(
                    [np.float64(np.nan), np.zeros(3), np.int64(-1), b"zipml", np.float32(4.5), "60"]
                )

    try:
        return settled(content, ranges, change)
    except Exception:  # not a change that HDF5 can make
        return seal(content, ranges)


def mutate_container(data, rng, structures=False):
    """A changed file, and the file it must still be the same as, or None where it may say something else.

    `structures`: nothing but HDF5's structures are changed, and the seal put right.
    """
    origin = data if data in READ else rng.choice(list(READ))
    content, ranges, copy = unseal(origin)
    if structures:
        return seal(mutate_bytes(content, rng, same_size=True), ranges), None
    kind = rng.randrange(4)
    if kind == 0:
        return mutate_bytes(origin, rng), origin
    if kind == 1:
        places = [list(place) for place in ranges]
        place = rng.choice(places)
        place[rng.randrange(2)] = rng.choice([*NUMBERS[:-2], len(content), len(content) - 1])
        return seal_any(content, places, copy), None
    return changed_by_hdf5(rng, content, ranges), None


def seal_any(content, ranges, copy):
    """A seal with whatever ranges."""
    sealed = seal(content, [], copy)
    count = np.array(ranges, "<i8").tobytes()
    body = count + len(ranges).to_bytes(8, "little") + sealed[len(content) + len(copy) + 8 : -16]
    return content + copy + body + xxhash.xxh3_64_intdigest(body).to_bytes(8, "little") + b"zipmlEND"


def mutate_bytes(data, rng, same_size=False):
    """Some bytes flipped, written over, and, where the size may change, cut off, taken out or put in."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at, size = rng.randrange(len(changed) or 1), rng.choice([1, 2, 4, 8, 64])
        kind = rng.randrange(3 if same_size else 6)
        if kind == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at : at + size] = rng.randbytes(len(changed[at : at + size]))
        elif kind == 2:
            changed[at : at + size] = rng.choice([b"\0", b"\xff", b"\x01"]) * len(changed[at : at + size])
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            del changed[at : at + size]
        else:
            changed[at:at] = changed[rng.randrange(len(changed) or 1) :][:size]
    return bytes(changed)


# ---- Text ----

PIECES = [
    "1",
    "-1e3",
    "nan",
    "NaN",
    "inf",
    "",
    " ",
    "\t",
    ",",
    ";",
    "\n",
    "\r\n",
    "\r",
    '"',
    "'",
    "a",
    "1,5",
    "1e400",
    "0x1",
    "\ufeff",
    "\0",
    "é",
    "#",
]
PIECES += [
    "1:2",
    "2:1",
    "qid:3",
    ":",
    "-1 1:2",
    "true",
    "1_0",
    "\u0661",
    "\x1a",
    "\u2028",
    "1" * 400,
    "+",
    ".",
    "e5",
    "\n\n",
]


def text_seeds():
    """Tables in text."""
    rows = "".join(f"{i},{i * 0.5},{-i}\n" for i in range(9))
    sparse = "".join(f"{i % 2} 1:{i} 3:{i * 0.25}\n" for i in range(9))
    return [
        s.encode()
        for s in (
            rows,
            "a,b,c\n" + rows,
            rows.replace(",", ";"),
            rows.replace("\n", "\r\n"),
            '"x","y"\n1,"2"\n',
            sparse,
            "\ufeff" + rows,
        )
    ]


def text(data, suffix):
    """Read a table twice; both passes have the same numbers."""
    path = FOLDER / f"table{suffix}"
    path.write_bytes(data)
    with suppress(ZipMLError), open_source(path) as source:
        passes = [np.concatenate([block.values for block in source.blocks(4)] or [np.zeros((0, 0))]) for _ in range(2)]
        np.testing.assert_array_equal(*passes)
        assert passes[0].ndim == 2


def mutate_text(data, rng):
    """Changed bytes, or pieces that such files are made of put in."""
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    changed = bytearray(data)
    for _ in range(rng.choice([1, 2, 5])):
        at = rng.randrange(len(changed) + 1)
        changed[at : at + rng.choice([0, 0, 1, 3])] = rng.choice(PIECES).encode()
    return bytes(changed)


def once(target, rng, pool):
    """One changed input through a target: "container", "structures" or a table's suffix."""
    if target in ("container", "structures"):
        container(*mutate_container(rng.choice(pool), rng, target == "structures"))
    else:
        text(mutate_text(rng.choice(pool), rng), target)


def seeds(target):
    """Inputs to begin with."""
    return container_seeds() if target in ("container", "structures") else text_seeds()


__all__ = ["container", "mutate_container", "mutate_text", "once", "random", "seeds", "text"]
