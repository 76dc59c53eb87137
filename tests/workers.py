"""What tests' child processes call: children find this module, `tests/` being on the path, but not those of the tests."""

import numpy as np
import xxhash

import zipml_codec as zipml


def said(data):
    """A digest of all that a reader gets, in several ways, and in an order of its own."""
    rows = np.random.default_rng(1).permutation(len(data))
    parts = [data.decode(rows)[np.argsort(rows)], data.labels, data[::3], data[7], data.draw([5, 1, 5], seed=2)]
    parts += [np.concatenate([batch.X for batch in data.batches(64, seed=3, epoch=1)])]
    return xxhash.xxh3_64_hexdigest(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))


def work(data, path, results):
    """A worker of a loader: a data set that came pickled or with the fork, and the path opened anew."""
    with zipml.open(path) as again:
        results.put((said(data), said(again)))


def draw_some(data, seed):
    """Samples of some rows, as bytes."""
    return data.draw(range(seed, len(data), 100), seed=seed).tobytes()
