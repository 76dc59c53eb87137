"""Pictures of what the codec does, drawn by matplotlib (the extra `plot`), which is imported only here and only when asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .errors import MissingDependencyError

# Okabe and Ito's colours, told apart with any colour vision; each line has a marker of its own besides.
COLOURS = ("#000000", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, BARS = "#666666", "#C9CED3"


def new_figure(columns: int = 1, width: float = 6.0, height: float = 4.4) -> tuple[Any, list[Any]]:
    """A figure that belongs to no window, and its axes side by side.

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("pictures need matplotlib: pip install 'zipml-codec[all]'") from error
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9)
    return figure, axes


def loss_curves(axis: Any, curves: Mapping[str, tuple[ArrayLike, ArrayLike]], *, title: str, xlabel: str, ylabel: str) -> None:
    """Draw losses over epochs on logarithmic scales, a line for each entry, named by a legend in the order of their ends.

    Parameters
    ----------
    axis : matplotlib Axes
    curves : mapping of str to (epochs, losses)
        The first is what the others are compared with: dashed, and on top of them.
    title, xlabel, ylabel : str
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for number, (name, (epochs, losses)) in enumerate(curves.items()):
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        style |= {"linestyle": "--", "zorder": 5, "markersize": 3} if number == 0 else {"markersize": 5.5}
        axis.plot(epochs, losses, label=name, linewidth=1.6, **style)
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = sorted({int(epoch) for epochs, _ in curves.values() for epoch in np.asarray(epochs)})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.minorticks_off()
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlabel(xlabel, fontsize=10)
    axis.set_ylabel(ylabel, fontsize=10)
    handles, names = axis.get_legend_handles_labels()
    ends = [float(np.asarray(losses)[-1]) for _, losses in curves.values()]
    order = np.argsort(ends, kind="stable")[::-1]
    axis.legend([handles[i] for i in order], [names[i] for i in order], fontsize=9, frameon=False)


def levels_over_histogram(
    axis: Any, values: ArrayLike, levels: Mapping[str, ArrayLike], *, title: str, xlabel: str, bins: Sequence[float] | int = 60
) -> None:
    """Draw a histogram of a feature, and below it one row of ticks for each set of levels.

    Parameters
    ----------
    axis : matplotlib Axes
    values : array_like
        The feature's values.
    levels : mapping of str to array_like
        Sets of levels by name.
    title, xlabel : str
    bins : int or sequence of float
        As numpy takes them.
    """
    from matplotlib.ticker import MaxNLocator

    exact = np.asarray(values, np.float64)
    counts, edges = np.histogram(exact, bins=bins)
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=bool(np.all(exact == np.round(exact)))))
    axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BARS, edgecolor="white", linewidth=0.4)
    top = float(counts.max(initial=1))
    row = 0.13 * top
    for number, (name, places) in enumerate(levels.items()):
        colour, middle = COLOURS[(1, 4, 2, 3)[number % 4]], -row * (number + 0.75)
        ends = np.asarray(places, np.float64)
        axis.vlines(ends, 0, top, color=colour, linewidth=0.7, alpha=0.35, linestyle=("-", "--")[number % 2])
        axis.vlines(ends, middle - 0.36 * row, middle + 0.36 * row, color=colour, linewidth=2.4)
        axis.annotate(
            name, (1.0, middle), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            color=colour, fontsize=9, va="center", annotation_clip=False,
        )  # fmt: skip
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_ylim(-row * (len(levels) + 0.35), 1.04 * top)
    axis.set_yticks([tick for tick in axis.get_yticks() if 0 <= tick <= top])
    axis.spines["bottom"].set_visible(False)
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlabel(xlabel, fontsize=10)
    axis.set_ylabel("rows", fontsize=10)


def density_with_levels(
    axis: Any, where: ArrayLike, weight: ArrayLike, levels: Mapping[str, ArrayLike], *, title: str, xlabel: str, bins: int = 120
) -> None:
    """Draw the density of weighted points over the middle 99.8 % of their weight, with sets of levels (the paper's figure 3).

    Parameters
    ----------
    axis : matplotlib Axes
    where, weight : array_like of shape (m,)
        Ascending positions and their weights.
    levels : mapping of str to array_like
    title, xlabel : str
    bins : int
    """
    x, w = np.asarray(where, np.float64), np.asarray(weight, np.float64)
    share = np.cumsum(w) / w.sum()
    first, last = x[np.minimum(np.searchsorted(share, [0.001, 0.999]), len(x) - 1)]
    if not last > first:
        first, last = first - 0.5, last + 0.5
    counts, edges = np.histogram(x, bins=bins, range=(first, last), weights=w)
    axis.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BARS)
    top = float(counts.max(initial=1))
    for number, (name, places) in enumerate(levels.items()):
        colour, row = COLOURS[(4, 1, 2, 3)[number % 4]], 1.02 + 0.14 * number
        ends = np.asarray(places, np.float64)
        inside = ends[(ends >= first) & (ends <= last)]
        if name == "optimal":
            axis.vlines(inside, 0, top, color=colour, linewidth=0.9, alpha=0.6)
        axis.vlines(inside, row * top, (row + 0.06) * top, color=colour, linewidth=2)
        note = name if len(inside) == len(ends) else f"{name}: {len(inside)} of {len(ends)} shown"
        axis.annotate(
            note, (1.0, (row + 0.06) * top), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points",
            color=colour, fontsize=9, va="bottom", ha="right", annotation_clip=False,
        )  # fmt: skip
    axis.set_xlim(first, last)
    axis.set_ylim(0, (1.04 + 0.14 * len(levels)) * top)
    axis.set_yticks([])
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlabel(xlabel, fontsize=10)
    axis.set_ylabel("density", fontsize=10)


def rate_curves(
    axis: Any,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    points: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
) -> None:
    """Draw errors over bits on a logarithmic scale: lines for `curves`, marked ones for `points`; zeros are left out."""
    for number, (name, (bits, errors)) in enumerate([*curves.items(), *points.items()]):
        x, y = np.asarray(bits, np.float64), np.asarray(errors, np.float64)
        good = y > 0
        marked = number >= len(curves)
        style: dict[str, Any] = {"marker": MARKERS[number % len(MARKERS)], "markersize": 5} if marked else {}
        axis.plot(x[good], y[good], color=COLOURS[number % len(COLOURS)], linewidth=1.6, label=name, **style)
    axis.set_yscale("log")
    axis.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlabel(xlabel, fontsize=10)
    axis.set_ylabel(ylabel, fontsize=10)
    axis.legend(fontsize=9, frameon=False)


def speed_bars(
    axis: Any,
    bars: Mapping[str, Mapping[int, tuple[float, float]]],
    lines: Mapping[str, float],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
) -> None:
    """Draw groups of bars, one for each number in `bars`, largest first, and `lines` across them.

    Parameters
    ----------
    axis : matplotlib Axes
    bars : mapping of str to mapping of int to (height, times)
        By series and group; `times` is written on top of the bar.
    lines : mapping of str to float
    title, xlabel, ylabel : str
    """
    groups = sorted({group for heights in bars.values() for group in heights}, reverse=True)
    width = 0.8 / len(bars)
    for number, (name, heights) in enumerate(bars.items()):
        for group, (height, times) in heights.items():
            series = [one for one in bars if group in bars[one]]  # bars of a group stand around its middle
            x = groups.index(group) + (series.index(name) - (len(series) - 1) / 2) * width
            label = name if group == next(iter(heights)) else None
            axis.bar(x, height, 0.92 * width, color=COLOURS[(1, 3)[number % 2]], label=label)
            axis.annotate(
                f"{times:.1f}x", (x, height), xytext=(0, 2), textcoords="offset points",
                ha="center", fontsize=8, color=GREY,
            )  # fmt: skip
    for number, (name, height) in enumerate(lines.items()):
        axis.axhline(height, color=COLOURS[(0, 4)[number % 2]], linestyle=("--", ":")[number % 2], linewidth=1.6, label=name)
    axis.set_xticks(range(len(groups)), [str(group) for group in groups])
    axis.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlabel(xlabel, fontsize=10)
    axis.set_ylabel(ylabel, fontsize=10)
    axis.legend(fontsize=9, frameon=False, loc="upper left")
    axis.set_ylim(0, 1.12 * axis.get_ylim()[1])


def excess_curves(
    axis: Any,
    lines: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    tolerance: float,
    marked: tuple[float, float],
    errors: float,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
) -> None:
    """Draw shares by which losses exceed another, over bits, with bars of so many standard errors, and what is tolerated.

    The scale is linear up to the tolerance and logarithmic from there; infinite shares are left out.

    Parameters
    ----------
    axis : matplotlib Axes
    lines : mapping of str to (bits, excess, standard error)
    tolerance : float
    marked : (bits, excess)
        Gets a circle.
    errors : float
    title, xlabel, ylabel : str
    """
    from matplotlib.ticker import FuncFormatter, NullLocator

    for number, (name, (bits, excess, error)) in enumerate(lines.items()):
        x, y, half = (np.asarray(values, np.float64) for values in (bits, excess, error))
        good, colour = np.isfinite(y), COLOURS[(1, 6, 4, 3)[number % 4]]
        shift = 0.06 * (number - (len(lines) - 1) / 2)  # bars of one width stand beside each other
        axis.errorbar(
            x[good] + shift, y[good], errors * half[good], color=colour, marker=MARKERS[number % len(MARKERS)], markersize=5,
            linewidth=1.4, elinewidth=1, capsize=2, label=name,
        )  # fmt: skip
    axis.axhline(tolerance, color=COLOURS[0], linestyle="--", linewidth=1.2, label=f"tolerance, {tolerance:.3g}")
    if np.isfinite(marked[1]):
        axis.plot(*marked, marker="o", markersize=17, markerfacecolor="none", markeredgecolor=COLOURS[0], linestyle="")
    axis.axhline(0, color=GREY, linewidth=0.8)
    least = min((y - errors * half for _, ys, halves in lines.values() for y, half in zip(ys, halves, strict=True)), default=0.0)
    axis.set_yscale("symlog", linthresh=2 * tolerance)
    axis.set_ylim(bottom=1.2 * min(least if np.isfinite(least) else 0.0, -tolerance))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_xticks(sorted({int(one) for bits, _, _ in lines.values() for one in bits}))
    axis.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xlabel(xlabel, fontsize=10)
    axis.set_ylabel(ylabel, fontsize=10)
    axis.legend(fontsize=9, frameon=False)


def save(figure: Any, path: str | PathLike[str]) -> None:
    """Write a figure as a PNG."""
    figure.savefig(path, dpi=130)
