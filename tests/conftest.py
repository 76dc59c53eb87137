"""Fixtures shared by the tests: real data where it is at hand, vector levels, small regression sets."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

REAL = {
    "cal_housing": "cal_housing.csv.gz",
    "cpu_small": "cpu_small.csv.gz",
    "cod_rna": "cod_rna_train.csv.gz",
    "gas_drift": "gas_drift_8batches.npz",
    "mnist_4v9": "mnist_4v9_train.npz",
}
LABELS = {"cal_housing": "medianHouseValue", "cpu_small": "usr", "cod_rna": "y", "gas_drift": "y", "mnist_4v9": "y"}


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory):
    """Run in a folder of its own: from the checkout's, child processes would import ./zipml_codec, which has no kernels."""
    if os.environ.get("ZIPML_DATA"):
        os.environ["ZIPML_DATA"] = os.path.abspath(os.environ["ZIPML_DATA"])
    os.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def real_path():
    """Function from a real data set's name to its file; skips where ZIPML_DATA does not name the folder."""
    folder = os.environ.get("ZIPML_DATA")

    def path(name):
        if not folder:
            pytest.skip("ZIPML_DATA is not set: the real data sets are not at hand")
        file = Path(folder) / REAL[name]
        if not file.exists():
            pytest.skip(f"ZIPML_DATA has no {REAL[name]}")
        return file

    return path


@pytest.fixture(scope="session")
def real(real_path):
    """Function from a real data set's name to (X float32, y float64), read without this package."""
    cache = {}

    def load(name):
        if name not in cache:
            path = real_path(name)
            if path.suffix == ".npz":
                with np.load(path) as content:
                    cache[name] = content["X"].astype(np.float32), content["y"].astype(np.float64)
            else:
                with gzip.open(path, "rt") as file:
                    header = file.readline().strip().split(",")
                    table = np.loadtxt(file, delimiter=",")
                label = header.index(LABELS[name])
                cache[name] = np.delete(table, label, axis=1).astype(np.float32), table[:, label]
        return cache[name]

    return load
