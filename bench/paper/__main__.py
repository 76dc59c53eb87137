"""The command: see bench/README.md."""

import argparse
import logging
import shlex
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zipml_codec.arrays import thread_count
from zipml_codec.errors import PrecisionWarning

from . import bias, density, linear, negative, optimal, page, speed, widths
from .harness import Paper

FIGURES = {
    "fig3": density.run,
    "fig4": linear.run_figure4,
    "fig5": speed.run,
    "fig6": linear.run_figure6,
    "fig7a": optimal.run,
    "fig8": linear.run_figure8,
    "bias": bias.run,
    "negative": negative.run,
    "widths": widths.run,
}

TIMED, LONGEST = "fig5", ("widths", "fig7a", "negative", "fig8", "fig4", "bias", "fig6", "fig3")


def run(paper, names):
    """Sections of figures in their order. What is timed runs alone, first; the others side by side, the longest first."""
    found = {name: paper.timed(name, FIGURES[name]) for name in names if name == TIMED}
    with ThreadPoolExecutor(thread_count(None)) as pool:
        others = sorted((name for name in names if name != TIMED), key=LONGEST.index)
        found |= {name: pool.submit(paper.timed, name, FIGURES[name]) for name in others}
    return [found[name] if name == TIMED else found[name].result() for name in names]


def main():
    """Measure, draw and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.paper", description="Reproduce the paper's figures and claims."
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("zipml-paper"), help="folder: paper.md, and paper/ with .png and .csv"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small data and few epochs, under a minute: shows that all of it runs"
    )
    parser.add_argument("--only", help=f"some of them, separated by commas: {','.join(FIGURES)}")
    chosen = parser.parse_args()
    names = list(FIGURES) if chosen.only is None else chosen.only.split(",")
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        parser.error(f"there is no {unknown[0]!r}; there are {', '.join(FIGURES)}")
    logging.getLogger("zipml_codec").setLevel(logging.ERROR)  # runs that diverge are found by their step
    begun, paper = time.perf_counter(), Paper(chosen.output / "paper", chosen.quick)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PrecisionWarning)
            sections = run(paper, names)
    finally:
        paper.close()
    seconds = time.perf_counter() - begun
    path = chosen.output / "paper.md"
    page.write(path, paper, sections, seconds, shlex.join(["python", "-m", "bench.paper", *sys.argv[1:]]))
    paper.csv("claims", ["figure", "claim", "measured", "holds"], [vars(claim).values() for claim in paper.ordered()])
    paper.say(f"{path}: {len(sections)} figures, {len(paper.claims)} claims, {seconds:.0f} s")


if __name__ == "__main__":
    main()
