"""The paper's figures and claims, measured here: `python -m bench.paper` from the checkout's top.

Python puts its working folder first: there, ./zipml_codec has no kernels and would hide the package that is installed.
"""

import sys
from pathlib import Path

_TOP = Path(__file__).resolve().parent.parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _TOP]
