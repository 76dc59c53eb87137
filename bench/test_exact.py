"""Exact levels beside a sort of the same float64 values, sort included; beside kmeans1d where it is at hand."""

import numpy as np
import pytest

from zipml_codec.exact import exact_levels

KMEANS_VALUES = 1 << 16  # seconds at 2^20
CASES = [  # values, levels, at most so many sorts is the aim
    (1 << 16, 16, 10),
    (1 << 20, 16, 4),
    (1 << 24, 16, 2),
    (1 << 20, 64, 25),
    (1 << 20, 256, 80),
]


def kmeans1d_peer(x, levels):
    """kmeans1d's exact one-dimensional clustering: another cost, the same kind of dynamic programme."""
    try:
        import kmeans1d
    except ImportError:
        return {}
    return {"kmeans1d": (lambda: kmeans1d.cluster(x, levels), x.size)} if x.size <= KMEANS_VALUES else {}


@pytest.mark.parametrize("kind", ["normal", "lognormal"])
@pytest.mark.parametrize(("size", "levels", "sorts"), CASES, ids=lambda value: str(value))
def test_exact_levels(measure, kind, size, levels, sorts):
    """The line's ratio to np.sort is values a second: 1 / ratio is the time in sorts, `sorts` what is aimed at."""
    x = getattr(np.random.Generator(np.random.SFC64(3)), {"normal": "standard_normal", "lognormal": "lognormal"}[kind])(size=size)
    _, cost, lower_bound, _ = measure(
        f"exact_levels {kind} N=2^{size.bit_length() - 1}, {levels} levels (aim {1 / sorts:.2f})",
        lambda: exact_levels(x, None, levels - 1),
        values=size,
        nbytes=x.nbytes,
        unit="float64 in",
        threads=1,
        peers={"np.sort": (lambda: np.sort(x), size), **kmeans1d_peer(x, levels)},
        rounds=5,
    )
    assert cost * (1 - 1e-12) <= lower_bound <= cost
