"""docs/paper.md: claims beside what was measured, then the figures."""

import platform
from datetime import date
from pathlib import Path

from zipml_codec import __version__
from zipml_codec.arrays import thread_count
from zipml_codec.kernels import simd


def write(path, paper, sections, seconds, command):
    """The page; pictures are in the folder of the same name beside it."""
    words = {None: "", True: "yes", False: "no"}
    table = [[claim.figure, claim.says, claim.measured, words[claim.holds]] for claim in paper.ordered()]
    lines = [
        "# The paper's figures, measured here",
        "",
        "ZipML: Training Linear Models with End-to-End Low Precision, and a Little Bit of Deep Learning (Zhang, Li, Kara, "
        "Alistarh, Liu, Zhang; ICML 2017).",
        "",
        f"Written by `{command}` in {seconds:.0f} s on {date.today()}: version {__version__}, {_cpu()}, "
        f"{thread_count(None)} threads, {simd.active()}.",
        "",
        "Everywhere the step is alpha / epoch, alpha tuned for float32 only, as in the paper, on a grid of powers of two up to "
        "the step that train() takes, about the largest that curvature allows. Losses are means over exact rows of "
        "(z - y)^2 / 2, or of the classifier's loss. A `no` is a claim that did not hold in this run; nothing stands where a "
        "claim is no measure of ours, or noise leaves it open. Real sets are in the folder that `ZIPML_DATA` names; Synthetic "
        "and YearPrediction-shaped sets are made up: the real YearPrediction and gisette were not at hand. Claims are in our "
        "words.",
        "",
        "## Claims",
        "",
        *_markdown(["figure", "claim", "measured", "holds"], table),
    ]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.text, ""]
        if section.picture:
            lines += [f"![{section.title}]({paper.folder.name}/{section.name}.png)", ""]
        lines += _markdown(section.header, section.rows)
    Path(path).write_text("\n".join(lines).rstrip() + "\n")


def _markdown(header, rows):
    table = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in table]


def _cpu():
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
