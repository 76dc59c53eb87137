"""A reader of zipml files from formats/FORMAT.md alone, with NumPy and h5py; zstd chunks need its public plugin, hdf5plugin.

It trusts the file: digests and the seal are for readers that must not. Section numbers are those of FORMAT.md.
"""

import json

import h5py
import numpy as np

INTEGERS = ("rows", "features", "bits", "samples", "stride", "chunk_rows", "seed", "row_offset", "zstd")
TEXTS = ("level_kind", "rounding", "tool", "options")


def read_header(file):
    """Root attributes (section 4)."""
    if file.attrs["format"] != "zipml" or file.attrs["version"] > 1:
        raise ValueError("not a zipml file, or of a newer version")
    return {name: int(file.attrs[name]) for name in INTEGERS} | {name: str(file.attrs[name]) for name in TEXTS}


def read_names(file, dataset):
    """A list of names (section 4), or None."""
    return json.loads(file[dataset][()].tobytes().decode()) if dataset in file else None


def unpack(packed, features, bits):
    """Codes of packed rows (section 3): bits b*f .. b*f + b - 1 of a row's bitstream, lowest first."""
    stream = np.unpackbits(packed, axis=1, bitorder="little")[:, : features * bits].reshape(len(packed), features, bits)
    return (stream.astype(np.int64) << np.arange(bits)).sum(axis=2)


def decode(codes, levels, kind, bits, samples):
    """Means of the samples (section 1): float32 (rows, features)."""
    features, s, k = codes.shape[1], (2**bits - 1) // samples, samples
    levels = np.broadcast_to(levels, (features, levels.shape[1]))
    t = np.minimum(codes, s * k)
    if kind == "uniform":
        low, high = levels[:, 0], levels[:, 1]
        step = ((high.astype(np.float64) - low) / (s * k)).astype(np.float32)
        return np.where(t == s * k, high, low + t.astype(np.float32) * step)
    i, up = t // k, t % k
    f = np.arange(features)
    below, above = levels[f, i].astype(np.float64), levels[f, np.minimum(i + 1, s)].astype(np.float64)
    return (below + (up / k) * (above - below)).astype(np.float32)


def read(path):
    """What a file holds: header, names, values and codes, labels, the exact copy, kept columns, exact rows, statistics."""
    with h5py.File(path, "r") as file:
        header = read_header(file)
        codes = unpack(file["codes"][()], header["features"], header["bits"])
        kept = read_names(file, "kept_names") or []
        found = {
            "header": header,
            "columns": read_names(file, "columns"),
            "label_names": read_names(file, "label_names"),
            "codes": codes,
            "values": decode(codes, file["levels"][()], header["level_kind"], header["bits"], header["samples"]),
            "labels": file["labels"][()] if "labels" in file else None,
            "exact": file["exact"][()] if "exact" in file else None,
            "kept": {name: file[f"kept_{number}"][()] for number, name in enumerate(kept)},
            "clipped": file["clipped"][()] if "clipped" in file else None,
        }
        names = ("levels", "low", "high", "mean", "std", "noise", "error", "sample_rows", "sample_values")
        return found | {name: file[name][()] for name in names}
