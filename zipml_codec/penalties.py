"""Penalties and constraints of a linear model's coefficients, and the proximal steps that they take.

Training works on x_f = c_f * std_f, c the coefficients in the data's units: a penalty on c is one on x with weights 1 / std_f.
Steps are implicit, prox(v) = argmin |x - v|^2 / 2 + step * penalty(x): stable for any strength and any scale of a column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import check_choice, check_number
from .errors import OptionError

PENALTIES = ("l2", "none", "l1", "elastic-net", "nonnegative", "box", "l2-ball", "l1-ball")
STRONG = ("l2", "l1", "elastic-net")
BALLS = ("l2-ball", "l1-ball")
UNITS = ("data", "standard")
Float = NDArray[np.float64]


@dataclass
class Penalty:
    """What is added to the mean loss, or what the coefficients are held to.

    l2: strength |c|^2 / 2; l1: strength |c|_1; elastic-net: strength (l1_ratio |c|_1 + (1 - l1_ratio) |c|^2 / 2); any of
    them, or none, within low <= c <= high; l2-ball, l1-ball: |c| <= radius, |c|_1 <= radius.

    Attributes
    ----------
    units : {"data", "standard"}
        c in the data's units, or c_f times the column's standard deviation.
    low, high : float, or list of float, one a feature, or None
    """

    kind: str = "none"
    strength: float = 0.0
    l1_ratio: float = 0.5
    low: float | list[float] | None = None
    high: float | list[float] | None = None
    radius: float = 0.0
    units: str = "data"

    @property
    def ball(self) -> bool:
        """Whether the step is not one of each coefficient alone."""
        return self.kind in BALLS

    @property
    def shares(self) -> tuple[float, float]:
        """Strength of |c|_1 and of |c|^2 / 2."""
        first = {"l1": 1.0, "elastic-net": self.l1_ratio}.get(self.kind, 0.0)
        second = {"l2": 1.0, "elastic-net": 1 - self.l1_ratio}.get(self.kind, 0.0)
        return self.strength * first, self.strength * second

    def scale(self, std: Float) -> Float:
        """What turns x into the c that is penalised: c = x * scale; 0 for constant columns, whose x stays 0."""
        varies = std > 0
        return np.where(varies, 1 / np.where(varies, std, 1) if self.units == "data" else 1.0, 0.0)

    def bounds(self, std: Float) -> tuple[Float | None, Float | None]:
        """Bounds of x; None where there are none. Constant columns are held at 0, whatever the bounds: see `within`."""
        scale = self.scale(std)
        inverse = np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 1.0)
        found = []
        for name in ("low", "high"):
            given = getattr(self, name)
            if given is not None and np.size(given) not in (1, len(std)):
                raise OptionError(f"bounds: {name} has {np.size(given)} values for {len(std)} features")
            found.append(None if given is None else np.where(scale > 0, np.asarray(given, np.float64) * inverse, 0.0))
        return found[0], found[1]

    def within(self, c: Float) -> Float:
        """Coefficients in the data's units, within bounds on those: rounding may move them out, and a constant column's is 0."""
        if self.units != "data" or (self.low is None and self.high is None):
            return c
        return np.clip(c, -np.inf if self.low is None else self.low, np.inf if self.high is None else self.high)

    def proximal(self, std: Float) -> tuple[NDArray[np.float32] | None, ...] | None:
        """The kernels' (shrink, ridge, low, high), vectors of x's units, where each coefficient steps alone; else None."""
        if self.ball:
            return None
        scale, (first, second), (low, high) = self.scale(std), self.shares, self.bounds(std)
        strengths = (first * scale if first else None, second * scale**2 if second else None)
        parts: tuple[NDArray[Any] | None, ...] = (*strengths, low, high)
        if all(part is None for part in parts):
            return None
        most = float(np.finfo(np.float32).max)  # of a column all but constant: it holds the coefficient at 0
        held = [None if part is None else np.minimum(part, most) for part in parts[:2]]
        with np.errstate(over="ignore"):
            return tuple(None if part is None else part.astype(np.float32) for part in (*held, *parts[2:]))

    def step(self, x: Float, std: Float, step: float) -> Float:
        """prox(x): x of shape (features,) or (targets, features), in the units of training."""
        scale = self.scale(std)
        if self.ball:
            project = project_l1 if self.kind == "l1-ball" else project_l2
            rows = [project(row, scale, self.radius) for row in np.atleast_2d(x)]
            return np.stack(rows).reshape(np.shape(x))
        first, second = self.shares
        if first:
            x = np.sign(x) * np.maximum(np.abs(x) - step * first * scale, 0)
        if second:
            x = x / (1 + step * second * scale**2)
        low, high = self.bounds(std)
        return x if low is None and high is None else np.clip(x, low, high)

    def value(self, x: Float, std: Float) -> float:
        """What is added to the mean loss, of (targets, features) the mean over targets; infinite outside of the constraint."""
        scale = self.scale(std)
        c = np.atleast_2d(x) * scale
        first, second = self.shares
        total = (first * np.abs(c).sum() + second * np.square(c).sum() / 2) / len(c)
        size = np.abs(c).sum(axis=1) if self.kind == "l1-ball" else np.sqrt(np.square(c).sum(axis=1))
        outside = self.ball and bool((size > self.radius * (1 + 1e-6)).any())
        for bound, sign in ((self.low, -1), (self.high, 1)):
            if bound is not None:
                beyond = sign * (c - np.asarray(bound)) > 1e-6 * (1 + np.abs(bound))
                outside |= bool(beyond[:, scale > 0].any())
        return float(np.inf if outside else total)


def make_penalty(
    kind: Any,
    strength: Any = 0.0,
    l1_ratio: Any = 0.5,
    bounds: Any = None,
    radius: Any = None,
    units: Any = "data",
) -> Penalty:
    """A penalty from a user's options.

    Raises
    ------
    OptionError
        Options that do not fit together.
    """
    check_choice("penalty", kind, PENALTIES)
    check_choice("penalty_units", units, UNITS)
    strength = check_number("strength", strength, 0)
    l1_ratio = check_number("l1_ratio", l1_ratio, 0, 1)
    if strength and kind not in STRONG:
        raise OptionError(f"penalty={kind!r} has no strength; got strength={strength:g} (--strength)")
    if (radius is not None) != (kind in BALLS):
        need = "needs radius= (--radius), the most that the norm may be" if kind in BALLS else "takes no radius"
        raise OptionError(f"penalty={kind!r} {need}")
    if kind == "box" and bounds is None:
        raise OptionError("penalty='box' needs bounds=(low, high) (--bounds low,high)")
    if kind == "nonnegative":
        if bounds is not None:
            raise OptionError("penalty='nonnegative' is bounds=(0, None): give one of the two")
        bounds = (0.0, None)
    if bounds is not None and kind in BALLS:
        raise OptionError(f"penalty={kind!r} goes with no bounds")
    low, high = _bounds(bounds)
    size = 0.0 if radius is None else check_number("radius", radius, 0, open_low=True)
    return Penalty(kind, strength if kind in STRONG else 0.0, l1_ratio, low, high, size, units)


def _bounds(bounds: Any) -> tuple[Any, Any]:
    """Bounds as numbers or lists, which JSON keeps."""
    if bounds is None:
        return None, None
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise OptionError(f"bounds must be a pair (low, high), each a number, one a feature, or None; got {bounds!r}")
    ends: list[Any] = []
    for name, end in zip(("low", "high"), bounds, strict=True):
        if end is None:
            ends.append(None)
            continue
        try:
            values = np.asarray(end, np.float64)
        except (TypeError, ValueError):
            raise OptionError(f"bounds: {name} must be a number or one a feature; got {end!r}") from None
        if values.ndim > 1 or np.isnan(values).any():
            raise OptionError(f"bounds: {name} must be a number or one a feature, no NaN; got {end!r}")
        ends.append(values.tolist())
    low, high = (np.asarray(fallback if end is None else end) for end, fallback in zip(ends, (-np.inf, np.inf), strict=True))
    if low.size > 1 and high.size > 1 and low.size != high.size:
        raise OptionError(f"bounds: low has {low.size} values, high {high.size}")
    if (low > high).any():
        raise OptionError("bounds: low is above high")
    return ends[0], ends[1]


def project_l1(v: Float, scale: Float, radius: float) -> Float:
    """The nearest x to v with sum_f scale_f |x_f| <= radius: |v_f| less lambda scale_f, lambda found among its breakpoints.

    With u_f = |v_f| / scale_f descending, and j the last that stays above 0, lambda = u_j - (radius - S_j) / W_j, where
    S_j = sum_{i <= j} scale_i^2 (u_i - u_j) and W_j = sum_{i <= j} scale_i^2: sums without cancellation, whatever the scales.
    """
    size = np.abs(v)
    if scale @ size <= radius:
        return v
    used = np.flatnonzero(scale > 0)
    at = size[used] / scale[used]
    order = np.argsort(-at, kind="stable")
    used, at = used[order], at[order]
    weight = np.cumsum(scale[used] ** 2)
    above = np.concatenate([[0.0], np.cumsum(weight[:-1] * -np.diff(at))])
    last = int(np.flatnonzero(above < radius)[-1])
    size[used] = 0
    used = used[: last + 1]
    size[used] = scale[used] * (at[: last + 1] - at[last] + (radius - above[last]) / weight[last])
    return np.asarray(np.copysign(size, v))


def project_l2(v: Float, scale: Float, radius: float) -> Float:
    """The nearest x to v with sum_f (scale_f x_f)^2 <= radius^2: v_f / (1 + lambda scale_f^2); lambda by Newton's method."""
    c = v * scale
    if np.square(c).sum() <= radius**2:
        return v
    square, multiplier = scale**2, 0.0
    for _ in range(100):  # 1 / |c(lambda)| is concave: from the left the steps never overshoot
        shrunk = c / (1 + multiplier * square)
        norm = float(np.sqrt(np.square(shrunk).sum()))
        slope = float(-(square * shrunk**2 / (1 + multiplier * square)).sum() / norm)
        step = (norm - radius) / radius * norm / -slope
        multiplier += step
        if abs(step) <= 1e-14 * multiplier:
            break
    return v / (1 + multiplier * square)
