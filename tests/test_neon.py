"""The integer kernels for aarch64, cross-compiled and emulated: exact products, and the bits of this machine's levels."""

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
HARNESS, KERNELS = TOP / "tests" / "neon_harness.c", TOP / "kernels"
FLAGS = ["-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fopenmp", f"-I{KERNELS}"]
CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
MACHINES = {"neon": "armv8-a", "sdot": "armv8.2-a+dotprod", "usdot": "armv8.6-a"}  # what products_neon.h has code for

pytestmark = pytest.mark.skipif(
    not (shutil.which(CROSS) and shutil.which(EMULATOR)),
    reason=f"needs {CROSS} and {EMULATOR} (Debian: gcc-aarch64-linux-gnu, qemu-user); "
    "on aarch64 itself test_integer.py compares the levels",
)


def command(*arguments):
    done = subprocess.run([str(item) for item in arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{arguments[0]} failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}"
    return done.stdout


def results(output):
    """{case: {level: results}} of what the harness prints."""
    found = {}
    for line in output.splitlines():
        case, level, result = line.split()
        found.setdefault(case, {}).setdefault(level, set()).add(result)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{machine: results}, of this machine too where it has a compiler."""
    folder = tmp_path_factory.mktemp("neon")

    def native():
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if not compiler:
            return None
        sources = [HARNESS, *(KERNELS / name for name in ("integer_steps.c", "products.c", "threads.c"))]
        command(compiler, *FLAGS, "-O1", *sources, "-o", folder / "native", "-lm")
        return results(command(folder / "native"))

    def compiled(source, machine="armv8-a"):
        target = folder / f"{source.stem}-{machine}.o"
        command(CROSS, *FLAGS, "-O2", f"-march={machine}", "-c", source, "-o", target)
        return target

    def emulated(name, objects):
        products = compiled(KERNELS / "products.c", MACHINES[name])
        command(CROSS, "-static", "-fopenmp", *objects, products, "-o", folder / name, "-lm")
        return results(command(EMULATOR, "-cpu", "max", folder / name))

    with ThreadPoolExecutor(2) as pool:
        here = pool.submit(native)
        objects = [*pool.map(compiled, [KERNELS / "integer_steps.c", HARNESS, KERNELS / "threads.c"])]
        there = {name: pool.submit(emulated, name, objects) for name in MACHINES}
        return {"native": here.result(), **{name: run.result() for name, run in there.items()}}


@pytest.mark.parametrize("machine", MACHINES)
def test_products_are_exact(runs, machine):
    """Of any bytes, those included that no rounding gives and that overflow first."""
    cases = {case: levels for case, levels in runs[machine].items() if case.startswith("products-")}
    assert len(cases) > 500
    assert {case: levels for case, levels in cases.items() if levels != {"scalar": {"exact"}, "neon": {"exact"}}} == {}


@pytest.mark.parametrize("machine", MACHINES)
def test_steps_give_the_same_bits(runs, machine):
    """Model, bias, gradient and loss after some steps, at both levels, on one thread and three."""
    cases = {case: levels for case, levels in runs[machine].items() if case.startswith("steps-")}
    assert len(cases) > 150 and len({str(levels["neon"]) for levels in cases.values()}) > 100
    for case, levels in cases.items():
        assert set(levels) == {"scalar", "neon"}
        assert len(levels["scalar"] | levels["neon"]) == 1, case


def test_this_machine_gives_the_same_bits(runs):
    if runs["native"] is None:
        pytest.skip("no C compiler for this machine itself")
    assert platform.machine() == "aarch64" or "neon" not in next(iter(runs["native"].values()))
    one = {case: set().union(*levels.values()) for case, levels in runs["native"].items()}
    for machine in MACHINES:
        assert {case: set().union(*levels.values()) for case, levels in runs[machine].items()} == one
    assert all(len(result) == 1 for result in one.values())
