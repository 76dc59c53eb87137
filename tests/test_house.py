"""The house's order: data flows one way, and imports follow it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
ORDER = [  # a module imports from rows above its own only; modules of one row do not know each other
    ["errors", "version", "kernels.simd", "kernels.philox", "kernels.checksums", "kernels.openmp", "kernels.mapping"],
    ["kernels.codes", "kernels.columns", "kernels.exact", "kernels.order", "kernels.integer", "kernels.sgd",
     "kernels.gram", "kernels.weave", "kernels.images", "kernels.boards"],
    ["arrays", "progress", "publish", "interrupts"],
    ["formats.vouched"],
    ["formats.sources", "formats.seal", "formats.sink", "formats.output", "formats.fpga"],
    ["formats.columns", "formats.streams"],
    ["formats.matrix"],
    ["formats.arrays", "formats.iterables", "formats.binary", "formats.text", "formats.arrow", "formats.libsvm", "formats.zarrs",
     "formats.header"],
    ["formats.folder", "formats.planes"],
    ["formats.container"],
    ["formats.readers", "formats.partial", "formats.shards"],
    ["formats.writer", "formats.salvage"],
    ["formats.shardwriter"],
    ["losses", "penalties", "polynomial", "classes"],
    ["codec", "order", "exact", "plan", "ahead", "kept", "labels", "journal"],
    ["merging", "sketch", "hardware"],
    ["levels", "dataset", "statistics", "rows"],
    ["tables", "stream", "saved", "parts"],
    ["nested"],
    ["refetch"],
    ["matrix"],
    ["request", "survey", "engine"],
    ["passes"],
    ["compress", "checkpoint", "repair"],
    ["sgd", "concat"],
    ["debias", "model", "memory"],
    ["normal"],
    ["training", "transformer"],
    ["incremental"],
    ["estimators"],
    ["report", "export"],
    ["toimage", "fromimage"],
    ["boards"],
    ["surveying", "benchmark", "advise"],
    ["demo"],
    ["cli"],
]
ROW = {name: number for number, names in enumerate(ORDER) for name in names}
FILES = {
    **{path.stem: path for path in (TOP / "zipml_codec").glob("*.py") if not path.stem.startswith("__")},
    **{f"formats.{path.stem}": path for path in (TOP / "formats").glob("*.py") if path.stem != "__init__"},
    **{f"kernels.{path.stem}": path for path in (TOP / "kernels").glob("*.pyx")},
}


def imported(name, text):
    """Modules of this package that a module imports, by the names of FILES, and whether by an absolute name."""
    folder = name.rpartition(".")[0]
    pattern = re.compile(r"^\s*from (\.+)([\w.]*) import ([^\n(]+|\([^)]*\))", re.M)
    for dots, module, names in pattern.findall(text):
        base = folder if len(dots) == 1 else ""
        full = ".".join(part for part in (base, module) if part)
        if full in FILES:
            yield full
        else:  # from . import simd; from .kernels import columns as kernel
            for part in re.findall(r"(\w+)(?: as \w+)?", names):
                candidate = ".".join(item for item in (full, part) if item)
                if candidate in FILES:
                    yield candidate


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_go_up_the_list(name):
    assert name in ROW, f"{name} has no place in the order"
    text = FILES[name].read_text()
    assert "from zipml_codec" not in text and "import zipml_codec" not in text
    for other in imported(name, text):
        assert ROW[other] < ROW[name], f"{name} imports {other}"


def test_an_import_among_the_sources_says_what_to_do():
    """Python puts its working folder first: there, a copy that is installed elsewhere is hidden by one without kernels."""
    done = subprocess.run([sys.executable, "-c", "import zipml_codec"], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0 or "start Python in another folder" in done.stderr.splitlines()[-1]


def test_the_parser_sees_imports():
    assert set(imported("compress", FILES["compress"].read_text())) >= {"dataset", "errors", "passes", "formats.container"}
    assert set(imported("kernels.codes", FILES["kernels.codes"].read_text())) == {"kernels.simd"}


def test_kernels_import_numpy_only():
    for name, path in FILES.items():
        if name.startswith("kernels."):
            for module in re.findall(r"^(?:import|from) ([\w.]+)(?:$| import)", path.read_text(), re.M):
                assert module in ("numpy", ".", "os", "contextlib", "cpython.buffer"), f"{name} imports {module}"


def test_sources_have_docstrings_and_kernels_their_design():
    for path in [*FILES.values()]:
        if path.suffix == ".py":
            assert ast.get_docstring(ast.parse(path.read_text())), path
    for path in (TOP / "kernels").glob("*.c"):
        comment = path.read_text().split("*/")[0]
        assert comment.startswith("/*") and comment.count("\n") >= 4, f"{path} has no five design lines"
