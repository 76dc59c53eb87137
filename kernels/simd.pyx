"""Which vector level the kernels run at: the best that the machine has, or what ``ZIPML_SIMD`` says."""

import os
from contextlib import contextmanager

cdef extern from "simd.h" nogil:
    int simd_best()
    const char *simd_name(int level)
    int LEVEL_COUNT

NAMES = tuple([simd_name(level).decode() for level in range(LEVEL_COUNT)])  # what this build knows, slowest first


def levels():
    """Names of the levels that this machine can run, slowest first."""
    return NAMES[: simd_best() + 1]


def _index(name, origin):
    if name not in levels():
        raise ValueError(f"{origin}: {name!r} is not a vector level of this machine; it has {', '.join(levels())}")
    return NAMES.index(name)


_active = _index(os.environ["ZIPML_SIMD"], "ZIPML_SIMD") if os.environ.get("ZIPML_SIMD") else simd_best()


def active():
    """Name of the level in use."""
    return NAMES[_active]


def index():
    """Number of the level in use, as the C kernels take it."""
    return _active


@contextmanager
def use(name):
    """Run the kernels at level `name` inside a ``with`` block: for tests and benchmarks; not thread-safe."""
    global _active
    before, _active = _active, _index(name, "use()")
    try:
        yield
    finally:
        _active = before
