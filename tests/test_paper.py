"""The paper's figures: the command on small data leaves every file, and what must hold at any size holds."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
HEADERS = {
    "figure3": ["data", "column", "levels", "level"],
    "figure5": ["line", "epochs", "seconds", "training loss"],
    "figure6": ["data", "line", "epoch", "training loss"],
}
REAL = ("figure4", "figure7a", "figure8", "negative")


def paper(folder, *words):
    """Run the command as its page says, from the checkout's top."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.paper", "--quick", "-o", str(folder), *words],
        cwd=TOP,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def table(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def claims(folder):
    return table(folder / "paper" / "claims.csv")[1:]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Figures that need no real data, and the page."""
    folder = tmp_path_factory.mktemp("paper")
    paper(folder, "--only", "fig3,fig5,fig6,bias")
    return folder


def test_every_figure_leaves_a_small_picture_its_numbers_and_a_section(quick):
    page = (quick / "paper.md").read_text()
    for name in ("figure3", "figure5", "figure6", "bias"):
        picture = quick / "paper" / f"{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size <= 60_000
        assert f"(paper/{name}.png)" in page
        if name in HEADERS:
            assert table(quick / "paper" / f"{name}.csv")[0] == HEADERS[name]
    for claim in claims(quick):
        assert claim[1] in page and claim[2] in page


def test_naive_rounding_shrinks_and_the_corrections_do_not(quick):
    """Section 2.2: the error of naive rounding is a bias, which at 3 bits outweighs the noise of the correction."""
    lines = {
        row[0]: dict(zip((2, 3, 4, 5, 6, 8), map(float, row[1:]), strict=True))
        for row in table(quick / "paper" / "bias.csv")[1:]
    }
    assert lines["diagonal"][3] < lines["naive"][3]
    assert all(line[8] < line[3] for line in lines.values())
    assert [row[3] for row in claims(quick) if row[0] == "section 2.2"] == ["True"]


def test_optimal_levels_lower_the_variance(quick):
    found = [row for row in claims(quick) if row[0] == "3"]
    assert found and all(row[3] == "True" for row in found)


def test_losses_fall_from_codes_and_without_locks(quick):
    losses = {}
    for line, _, _, loss in table(quick / "paper" / "figure5.csv")[1:]:
        losses.setdefault(line, []).append(float(loss))
    assert len(losses) == 5 and any("Hogwild" in line for line in losses)
    assert all(line[-1] < line[0] for line in losses.values())
    assert losses["8 bits"][-1] < 1.1 * losses["float32"][-1]


def test_other_figures_are_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench.paper", "--only", "fig9"], cwd=TOP, capture_output=True, text=True
    )
    assert done.returncode == 2 and "no 'fig9'" in done.stderr and "widths" in done.stderr


@pytest.mark.slow
def test_all_of_it(tmp_path):
    """With real data where they are at hand."""
    told = paper(tmp_path)
    assert "9 figures" in told
    for name in REAL:
        assert (tmp_path / "paper" / f"{name}.png").stat().st_size <= 60_000
    found = claims(tmp_path)
    assert {row[0] for row in found} >= {"3", "4", "5", "6", "7a", "8", "section 2.2", "this project"}
    assert sum(row[0] == "7a" and "YearPrediction" in row[1] for row in found) == 2
    last = {row[1]: float(row[3]) for row in table(tmp_path / "paper" / "figure7a.csv")[1:] if "Year" in row[0]}
    assert last["float32"] < last["3 bits, optimal"] < last["3 bits, uniform"]
