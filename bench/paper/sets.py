"""Data: the paper's synthetic sets, and real ones from the folder that ZIPML_DATA names, split as the paper splits them."""

import gzip
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

NOISE = 0.1  # of synthetic labels, whose signal has a variance of 1
SEEN = 65_536  # training rows at most that a loss is measured on
REAL = {  # file, label, training rows (of the paper where it says so), loss
    "cadata": ("cal_housing.csv.gz", "medianHouseValue", 10_000, "squared"),
    "cpusmall": ("cpu_small.csv.gz", "usr", 6_000, "squared"),
    "cod-rna": ("cod_rna_train.csv.gz", "y", 41_674, "lssvm"),
    "gas_drift": ("gas_drift_8batches.npz", "y", 4_688, "squared"),
    "mnist_4v9": ("mnist_4v9_train.npz", "y", 8_254, "lssvm"),
}
YEAR = "YearPrediction-shaped"
SYNTHETIC = {"Synthetic 10": 10, "Synthetic 100": 100, "Synthetic 1000": 1000}


@dataclass(frozen=True)
class Task:
    """Exact rows to train on and to test on."""

    name: str
    loss: str
    X: np.ndarray
    y: np.ndarray
    test_X: np.ndarray
    test_y: np.ndarray
    batch: int = 16

    @property
    def strength(self):
        """Of the l2 penalty: a least-squares SVM has one."""
        return 1e-3 if self.loss == "lssvm" else 0.0

    def train_loss(self, model):
        """The mean loss over exact training rows."""
        return loss_on(model, self.X[:SEEN], self.y[:SEEN])

    def test_loss(self, model):
        """The mean loss over exact test rows."""
        return loss_on(model, self.test_X, self.test_y)


def loss_on(model, X, y):
    """Mean loss of a model over exact rows."""
    z = model.decision(X)
    if model.loss == "logistic":
        return float(np.mean(np.logaddexp(0, -y * z)))
    if model.loss == "hinge":
        return float(np.mean(np.maximum(1 - y * z, 0)))
    return float(np.mean((z - y) ** 2) / 2)


@cache
def task(name, quick=False):
    """A set by name; None where it is real and not at hand."""
    if name in SYNTHETIC:
        return _synthetic(name, SYNTHETIC[name], 2_000 if quick else 10_000)
    if name == YEAR:
        return _year(20_000 if quick else 463_715, 5_000 if quick else 51_630)
    return _real(name, quick)


def tasks(names, quick=False):
    """Those of some sets that are at hand."""
    return [found for found in (task(name, quick) for name in names) if found is not None]


def _synthetic(name, features, rows):
    """X standard normal, y = X w + noise, |w| = 1."""
    generator = np.random.default_rng(features)
    X = generator.standard_normal((2 * rows, features), dtype=np.float32)
    w = generator.standard_normal(features)
    y = (X @ (w / np.linalg.norm(w)) + NOISE * generator.standard_normal(2 * rows)).astype(np.float32)
    return Task(name, "squared", X[:rows], y[:rows], X[rows:], y[rows:])


def _year(rows, test_rows):
    """YearPrediction's shape: 90 columns that share factors, with tails of Student's t of 4 degrees, and noisy labels."""
    generator, features = np.random.default_rng(90), 90
    X = generator.standard_t(4, (rows + test_rows, features)).astype(np.float32)
    X += generator.standard_normal((rows + test_rows, 5), dtype=np.float32) @ generator.standard_normal(
        (5, features), np.float32
    )
    w = generator.standard_normal(features) / X.std(axis=0)
    y = X @ w
    y = (y / y.std() + 0.5 * generator.standard_normal(len(y))).astype(np.float32)
    return Task(YEAR, "squared", X[:rows], y[:rows], X[rows:], y[rows:], batch=256)


def _real(name, quick):
    file, label, rows, loss = REAL[name]
    path = Path(os.environ.get("ZIPML_DATA", "")) / file
    if not os.environ.get("ZIPML_DATA") or not path.exists():
        return None
    if path.suffix == ".npz":
        with np.load(path) as content:
            X, y = content["X"].astype(np.float32), content["y"].astype(np.float32)
    else:
        with gzip.open(path, "rt") as lines:
            at = lines.readline().strip().split(",").index(label)
            table = np.loadtxt(lines, delimiter=",")
        X, y = np.delete(table, at, axis=1).astype(np.float32), table[:, at].astype(np.float32)
    order = np.random.default_rng(0).permutation(len(X))
    X, y, count = X[order], y[order], min(rows, 2_000) if quick else rows
    return Task(name, loss, X[:count], y[:count], X[rows:], y[rows:])
