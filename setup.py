"""Extensions and the folder -> package mapping; everything else is in pyproject.toml."""

import copy
import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE_DIR = {"zipml_codec": "zipml_codec", "zipml_codec.kernels": "kernels", "zipml_codec.formats": "formats"}
SOURCES = {
    "simd": [],
    "checksums": [],
    "mapping": ["mapped.c"],
    "philox": [],
    "openmp": [],
    "order": ["shuffle.c", "team.c", "threads.c"],
    "codes": ["encode.c", "decode.c", "team.c", "threads.c"],
    "columns": ["scan.c", "sketch.c", "levels.c", "team.c", "threads.c"],
    "exact": ["search.c", "spans.c", "cells.c", "sweep.c", "chords.c", "moments.c", "distinct.c"],
    "sgd": ["minibatch.c", "team.c", "threads.c"],
    "weave": ["planes.c", "dither.c", "tally.c", "team.c", "threads.c"],
    "images": ["image_rows.c", "image_planes.c", "team.c", "threads.c"],
    "gram": ["pairs.c", "team.c", "threads.c"],
    "boards": ["board_harp.c", "board_pynq.c", "board_mlweaving.c", "board_float.c"],
    "integer": ["integer_steps.c", "products.c", "dense.c", "threads.c"],
}
HEADERS = sorted(str(path) for path in Path("kernels").glob("*.h"))


def flags() -> tuple[list[str], list[str]]:
    """Compiler and linker flags. No -ffast-math and no contraction: every vector level gives the same bits."""
    if sys.platform == "win32":
        return ["/O2", "/fp:precise", "/openmp"], []
    compile_flags = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra"]
    link_flags = []
    if sys.platform != "darwin":  # Apple's clang has no OpenMP: one thread there
        compile_flags += ["-fopenmp"]
        link_flags += ["-fopenmp"]
    if os.environ.get("ZIPML_SANITIZE") == "1":
        sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
        # -O1 -g1: at -O3 the instrumented bodies take gcc minutes, at -g its variable tracking does
        compile_flags += [*sanitize, "-fno-omit-frame-pointer", "-O1", "-g1"]
        link_flags += sanitize
    return compile_flags, link_flags


COMPILE, LINK = flags()
EXTENSIONS = [
    Extension(
        f"zipml_codec.kernels.{name}",
        [f"kernels/{name}.pyx", *(f"kernels/{source}" for source in sources)],
        include_dirs=["kernels"],
        depends=HEADERS,
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
    )
    for name, sources in SOURCES.items()
]


class BuildExtensions(build_ext):
    """Extensions side by side, each in a folder of its own: some share sources, and their objects must not meet."""

    def build_extension(self, ext: Extension) -> None:
        """Compile and link one."""
        own = copy.copy(self)
        own.build_temp = str(Path(self.build_temp, ext.name))
        super(BuildExtensions, own).build_extension(ext)


setup(
    cmdclass={"build_ext": BuildExtensions},
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    packages=list(PACKAGE_DIR),
    package_dir=PACKAGE_DIR,
    include_package_data=False,
    package_data={
        "zipml_codec": ["py.typed"],
        "zipml_codec.kernels": ["*.pyi"],
        "zipml_codec.formats": ["FORMAT.md"],
    },
    ext_modules=cythonize(
        EXTENSIONS,
        build_dir="build/cython",
        compiler_directives={"language_level": "3", "boundscheck": False, "wraparound": False},
    ),
)
