"""Figures 4, 6 and 8: linear regression and least-squares SVM, end to end in low precision."""

from zipml_codec.report import loss_curves

from .harness import CLOSE, PRECISION, Section, bits_text, held, smooth
from .sets import task as load
from .sets import tasks

WIDTHS = (2, 3, 4, 5, 6, 7, 8)
FEW = {"Synthetic 100": "linear regression", "mnist_4v9": "LS-SVM, gisette's stand-in"}
FIGURE8 = ("Synthetic 10", "Synthetic 100", "Synthetic 1000", "cadata", "cpusmall")
TICKS = {"xlabel": "epochs", "ylabel": "training loss on exact rows"}


def smallest_smooth(paper, task, curve):
    """float32's curve; the smallest width whose curve is smooth and ends within 1 % of it; curves of it and of a bit less."""
    exact = paper.float_curve(task)
    for width in WIDTHS:
        if curve(task, width)[0] <= CLOSE * exact[-1]:
            found = curve(task, width, whole=True)
            if smooth(found, exact):
                less = {width - 1: curve(task, width - 1, whole=True)} if width > WIDTHS[0] else {}
                return exact, width, less | {width: found}
    return exact, None, {WIDTHS[-1]: curve(task, WIDTHS[-1], whole=True)}


def named(exact, tried, how):
    """float32, the smallest width, and the one below it."""
    curves = {"float32": exact}
    return curves | {f"{width} bits, {how}": tried[width] for width in sorted(tried, reverse=True)}


def draw(paper, axis, curves, title):
    """Losses over epochs."""
    loss_curves(axis, {name: (paper.epochs, held(losses)) for name, losses in curves.items()}, title=title, **TICKS)


def run_figure4(paper):
    """Linear regression and LS-SVM; the claim of 5 to 6 bits."""
    found = tasks(FEW, paper.quick)
    figure, axes = paper.figure(len(found))
    rows, panels = [], {}
    for task, axis in zip(found, axes, strict=True):
        curves = {}
        for how, curve in (("double sampling", paper.double), ("diagonal", paper.diagonal)):
            exact, bits, tried = smallest_smooth(paper, task, curve)
            curves |= named(exact, tried, how)
            last = max(tried)
            rows.append(
                [
                    f"{task.name} ({FEW[task.name]})",
                    how,
                    bits_text(bits),
                    f"{exact[-1]:.5g}",
                    f"{tried[last][-1] / exact[-1]:.4f}",
                ]
            )
            least = (
                "5 to 6 bits" if how == "double sampling" else "here: codes of one sample, less their known variance,"
            )
            paper.claim(
                "4",
                f"{least} reach float32's loss within 1 % in a smooth curve, end to end ({task.name})",
                f"{bits_text(bits)} bits (training loss {tried[last][-1] / exact[-1]:.3f} of float32's)",
                bits is not None and bits <= 6,
            )
        draw(paper, axis, curves, f"{task.name}: {FEW[task.name]}")
        panels[task.name] = curves
    paper.save("figure4", figure)
    paper.curves_csv("figure4", panels)
    text = (
        "Codes, model (8 bits), gradient (8 bits), and with diagonal also residuals (8 bits) are rounded without bias. Bits are "
        "those of the file: double sampling's hold both samples, which the paper counts apart (its b bits are b + 1 here). The "
        "fewest bits whose curve never rises by more than 1 %, or than float32's does, and ends within 1 % of it; dashed is "
        "float32, and one bit less is shown too."
    )
    header = ["data", "estimator", "smallest width", "float32's loss", "loss over float32's"]
    return Section("figure4", "Figure 4: end-to-end low precision beside float32", text, header, rows)


def run_figure6(paper):
    """Batches of 16 and 256, quantized or not."""
    task, bits = load("Synthetic 100", paper.quick), 6
    figure, (axis,) = paper.figure(1, width=6.4)
    curves, rows, excess = {}, [], {}
    for batch in (16, 256):
        exact = paper.float_curve(task, batch=batch)
        with paper.codes(task, bits, 2) as data:
            codes = paper.curve(task, data, batch=batch, debias="double-sampling", **PRECISION)
        curves |= {f"float32, batch {batch}": exact, f"{bits} bits, batch {batch}": codes}
        excess[batch] = codes[-1] / exact[-1] - 1
        rows.append([batch, f"{exact[-1]:.5g}", f"{codes[-1]:.5g}", f"{excess[batch]:.2%}"])
    draw(paper, axis, curves, f"{task.name}: double sampling of {bits} bits")
    paper.save("figure6", figure)
    paper.curves_csv("figure6", {task.name: curves})
    paper.claim(
        "6",
        "with mini-batches quantized training converges as float32 does: batches of 16 and 256",
        "; ".join(f"batch {batch}: {share:+.2%} of float32's loss" for batch, share in excess.items()),
        max(excess.values()) <= CLOSE - 1,
    )
    text = "Mini-batches average the rounding's noise out as they do that of the rows; alpha is tuned for float32 at each batch."
    return Section("figure6", "Figure 6: mini-batches", text, ["batch", "float32", f"{bits} bits", "excess"], rows)


def run_figure8(paper):
    """Linear regression on several sets."""
    found = tasks(FIGURE8, paper.quick)
    figure, axes = paper.figure(len(found), width=4.2, height=3.6)
    rows, panels = [], {}
    for task, axis in zip(found, axes, strict=True):
        exact, bits, tried = smallest_smooth(paper, task, paper.double)
        curves = named(exact, tried, "double sampling")
        draw(paper, axis, curves, task.name)
        panels[task.name] = curves
        ratio = tried[max(tried)][-1] / exact[-1]
        rows.append(
            [task.name, f"{len(task.X):,} x {task.X.shape[1]}", bits_text(bits), f"{exact[-1]:.5g}", f"{ratio:.4f}"]
        )
        paper.claim(
            "8",
            f"linear regression from codes converges to float32's solution ({task.name})",
            f"from {bits_text(bits)} bits on (loss {ratio:.3f} of float32's)",
            bits is not None,
        )
    paper.save("figure8", figure)
    paper.curves_csv("figure8", panels)
    text = "Double sampling, model and gradient of 8 bits, as in figure 4."
    header = ["data", "training rows", "smallest width", "float32's loss", "loss over float32's"]
    return Section("figure8", "Figure 8: linear regression on several sets", text, header, rows)
