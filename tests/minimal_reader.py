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
    header = {name: int(file.attrs[name]) for name in INTEGERS} | {name: str(file.attrs[name]) for name in TEXTS}
    return header | ({"layout": "weave", "coarsest": int(file.attrs["coarsest"])} if "layout" in file.attrs else {})


def read_names(file, dataset):
    """A list of names (section 4), or None."""
    return json.loads(file[dataset][()].tobytes().decode()) if dataset in file else None


def unpack(packed, features, bits):
    """Codes of packed rows (section 3): bits b*f .. b*f + b - 1 of a row's bitstream, lowest first."""
    stream = np.unpackbits(packed, axis=1, bitorder="little")[:, : features * bits].reshape(len(packed), features, bits)
    return (stream.astype(np.int64) << np.arange(bits)).sum(axis=2)


def philox(c, k0, k1):
    """Philox4x32-10 (section 2) of four counter words, arrays of uint64."""
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = (b >> 32) ^ c[1] ^ np.uint64(k0), b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ np.uint64(k1), a & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=-1)


def dither(header):
    """h of section 7, eight bits for each row and feature."""
    r = (header["row_offset"] + np.arange(header["rows"])).astype(np.uint64)[:, None]
    half, seed = np.arange(2, dtype=np.uint64), header["seed"]
    words = philox((half + 0 * r, (r & 0xFFFFFFFF) + 0 * half, (r >> 32) + 0 * half, half * 0 + np.uint64(7 << 16)),
                   seed & 0xFFFFFFFF, seed >> 32)  # fmt: skip
    y = words.astype("<u4").reshape(len(r), 8).view(np.uint8)
    h = np.repeat(y[:, :1], header["features"], axis=1)
    for i in range(31):
        h ^= y[:, 1 + i, None] * (np.arange(header["features"]) >> i & 1).astype(np.uint8)
    return h.astype(np.int64)


def read_planes(planes, header, levels, p):
    """Codes of precision p, from the first p planes, and their levels (section 7)."""
    b, P, w = header["bits"], header["coarsest"], 2 ** (header["bits"] - p)
    bits = np.unpackbits(planes, axis=2, bitorder="little")[:, :, : header["features"]].astype(np.int64)
    codes = (bits << np.arange(p)[::-1, None, None]).sum(axis=0) - (dither(header) >> (8 - (p - P)))
    if header["level_kind"] == "table":
        return codes, levels[:, ::w]
    low, high = levels.astype(np.float64).T
    most = high if p == b else low + (high - low) / (2**b - 1) * ((2**p - 1) * w)
    return codes, np.stack([low, most], axis=1).astype(np.float32)


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


def read(path, precision=None):
    """What a file holds: header, names, values and codes, labels, the exact copy, kept columns, exact rows, statistics."""
    with h5py.File(path, "r") as file:
        header = read_header(file)
        bits, levels = precision or header["bits"], file["levels"][()]
        if "layout" in header:
            codes, levels = read_planes(file["codes"][:bits], header, levels, bits)
        else:
            codes = unpack(file["codes"][()], header["features"], header["bits"])
        kept = read_names(file, "kept_names") or []
        found = {
            "header": header,
            "columns": read_names(file, "columns"),
            "label_names": read_names(file, "label_names"),
            "codes": codes,
            "values": decode(codes, levels, header["level_kind"], bits, header["samples"]),
            "labels": file["labels"][()] if "labels" in file else None,
            "exact": file["exact"][()] if "exact" in file else None,
            "kept": {name: file[f"kept_{number}"][()] for number, name in enumerate(kept)},
            "clipped": file["clipped"][()] if "clipped" in file else None,
        }
        names = ("levels", "low", "high", "mean", "std", "noise", "error", "sample_rows", "sample_values", "plane_noise")
        return found | {name: file[name][()] for name in names if name in file}
