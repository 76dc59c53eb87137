"""Section 2.2: naive rounding is biased, by Var(m_f) x_f a feature: it shrinks the model."""

import numpy as np

from zipml_codec.report import COLOURS, MARKERS

from .harness import Section
from .sets import task as load

WIDTHS, SHOWN = (2, 3, 4, 5, 6, 8), 3


def run(paper):
    """Coefficients trained from codes beside least squares on the exact rows."""
    task = load("Synthetic 100", paper.quick)
    rows = task.X - task.X.mean(axis=0)
    best = np.linalg.lstsq(rows.astype(np.float64), task.y - task.y.mean(), rcond=None)[0]
    figure, (left, right) = paper.figure(2)
    ways = {"naive": ("naive", 1), "double sampling": ("double-sampling", 2), "diagonal": ("diagonal", 1)}
    errors = {name: [] for name in ways}
    shrunk = predicted = 0.0
    for bits in WIDTHS:
        for number, (name, (debias, samples)) in enumerate(ways.items()):
            if bits == 2 and samples == 2:
                errors[name].append(np.nan)  # one interval
                continue
            with paper.codes(task, bits, samples) as data:
                model = paper.fit(task, data, paper.epochs[-1], debias=debias, model_bits=32)
                kept = 1 / (1 + float(np.mean(data.noise / data.std**2)))
            if model is None:
                errors[name].append(np.nan)
                continue
            errors[name].append(float(np.linalg.norm(model.coef - best) / np.linalg.norm(best)))
            if bits == SHOWN and samples == 1:
                slope = float(model.coef @ best / (best @ best))
                right.plot(
                    best,
                    model.coef,
                    MARKERS[number],
                    color=COLOURS[number + 1],
                    markersize=4,
                    label=f"{name}: slope {slope:.3f}",
                )
                if name == "naive":
                    shrunk, predicted = slope, kept
    reach = np.abs(best).max() * np.array([-1, 1])
    right.plot(reach, reach, color=COLOURS[0], linewidth=0.8, label="unbiased")
    right.plot(
        reach,
        predicted * reach,
        "--",
        color=COLOURS[0],
        linewidth=0.8,
        label=f"predicted, 1 / (1 + D): {predicted:.3f}",
    )
    right.set(xlabel="coefficient of least squares on exact rows", ylabel="trained from codes")
    right.set_title(f"{task.name}, codes of {SHOWN} bits", fontsize=11, loc="left")
    for number, (name, line) in enumerate(errors.items()):
        left.plot(WIDTHS, line, color=COLOURS[number + 1], marker=MARKERS[number], label=name)
    left.set(yscale="log", xlabel="bits a value", ylabel="|x - x*| / |x*|")
    left.set_title("Distance from the exact solution", fontsize=11, loc="left")
    for axis in (left, right):
        axis.legend(fontsize=9, frameon=False)
    paper.save("bias", figure)
    table = [[name, *(f"{error:.4f}" for error in line)] for name, line in errors.items()]
    paper.csv("bias", ["estimator", *WIDTHS], table)
    at = WIDTHS.index(SHOWN)
    paper.claim(
        "section 2.2",
        f"naive rounding converges to another solution: biased by Var(m_f) x_f ({task.name}, {SHOWN} bits)",
        f"coefficients {shrunk:.3f} of the exact ones, predicted {predicted:.3f}; error {errors['naive'][at]:.3f}, without bias "
        f"{errors['diagonal'][at]:.3f}",
        shrunk < 0.97 and abs(shrunk - predicted) < 0.03 and errors["diagonal"][at] < errors["naive"][at],
    )
    text = (
        "Trained from codes with a float32 model, so that only the samples are rounded; uniform levels. Naive: as if codes were "
        "exact. Standardised columns are uncorrelated here, so the naive solution is the exact one over 1 + D."
    )
    return Section(
        "bias",
        "Section 2.2: the bias of naive rounding",
        text,
        ["distance from the solution", *map("{} bits".format, WIDTHS)],
        table,
    )
