"""Slopes as polynomials, which products of independent samples estimate without bias (ZipML, section 4: Chebyshev approximation).

The slope of a classifier's loss is y l'(u), u = y z the margin. With p(u) = sum_j c_j (u / span)^j near l' on -span..span, and
samples Q_0 .. Q_d of a row that are independent given the data, u_i that of Q_i,

    E[ y sum_j c_j prod_{i <= j} (u_i / span) Q_d ] = y p(u) a.

What is left of bias is p - l'. Its variance grows with the degree: powers of noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError

MAX_DEGREE = 15
NODES = 2000


@dataclass
class Options:
    """What a polynomial is made from.

    Attributes
    ----------
    degree : int
        d; a row's slope takes d + 1 samples.
    span : float
        R: margins from -R to R are approximated.
    gap : float
        delta: the hinge's step is approximated outside of margins within delta of 1.
    """

    degree: int = 3
    span: float = 4.0
    gap: float = 0.25


@dataclass(frozen=True)
class Polynomial:
    """p and how far it is from the slope on -span..span, outside of the gap.

    Attributes
    ----------
    powers : ndarray of shape (degree + 1,), float64
        c_j, of (u / span)^j.
    error : float
        The largest |p - l'|.
    """

    powers: NDArray[np.float64]
    span: float
    error: float

    def __call__(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """p(u)."""
        return np.asarray(np.polynomial.polynomial.polyval(u / self.span, self.powers), np.float64)

    def estimate(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """p(u) from independent margins whose means are u: (degree, ...) -> (...)."""
        total, product = np.full(margins.shape[1:], self.powers[0]), np.ones(margins.shape[1:])
        for power, margin in zip(self.powers[1:], margins, strict=True):
            product = product * (margin / self.span)
            total += power * product
        return total


def margin_slope(loss: str, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """l'(u) of the logistic loss or the hinge."""
    if loss == "hinge":
        return np.where(u < 1, -1.0, 0.0)
    small = np.exp(-np.abs(u))
    return np.asarray(-np.where(u >= 0, small, 1.0) / (1 + small))


def approximate(loss: str, options: Options) -> Polynomial:
    """The polynomial of a degree that is nearest l' in the Chebyshev measure on -span..span.

    Raises
    ------
    OptionError
        The loss has no such slope, or the gap leaves nothing to approximate.
    """
    if loss not in ("logistic", "hinge"):
        raise OptionError(f"loss={loss!r}: its slope is a polynomial already; 'chebyshev' is for logistic and hinge")
    u = options.span * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)  # equal weights there: Chebyshev's measure
    if loss == "hinge":
        u = u[np.abs(u - 1) >= options.gap]
        if not ((u < 1).any() and (u > 1).any()):
            raise OptionError(
                f"gap={options.gap:g} leaves no margins on one side of 1 within span={options.span:g}: "
                "take a smaller gap or a larger span"
            )
    wanted = margin_slope(loss, u)
    fitted = np.polynomial.chebyshev.chebfit(u / options.span, wanted, options.degree)
    powers = np.zeros(options.degree + 1)
    found = np.polynomial.chebyshev.cheb2poly(fitted)
    powers[: len(found)] = found
    error = float(np.abs(np.polynomial.polynomial.polyval(u / options.span, powers) - wanted).max())
    return Polynomial(powers, options.span, error)
