"""Compress float data to a few bits without bias, and train linear models straight from the codes."""

try:
    from . import kernels as _kernels  # noqa: F401
except ImportError:
    raise ImportError(
        "this zipml_codec is a folder of the sources, without the compiled kernels: start Python in another folder, "
        "or install the sources as CONTRIBUTING.md says"
    ) from None

from typing import Any

from .advise import Advice, advise
from .boards import train_on_board
from .codec import Codec
from .compress import compress
from .concat import concat
from .dataset import Dataset
from .dataset import open_dataset as open
from .formats.fpga import open_image
from .fromimage import import_image
from .levels import OptimalLevels, optimal_levels, rate_distortion
from .model import Model
from .repair import repair
from .saved import load_levels, save_levels
from .sgd import quantize_vector
from .survey import FeatureLevels, feature_levels
from .toimage import export_image
from .training import train
from .version import VERSION as __version__

__all__ = [
    "Advice",
    "Codec",
    "Dataset",
    "FeatureLevels",
    "Model",
    "OptimalLevels",
    "__version__",
    "advise",
    "compress",
    "concat",
    "export_image",
    "feature_levels",
    "import_image",
    "load_levels",
    "open",
    "open_image",
    "optimal_levels",
    "quantize_vector",
    "rate_distortion",
    "repair",
    "save_levels",
    "train",
    "train_on_board",
]


def __getattr__(name: str) -> Any:
    """The estimators, which need scikit-learn, when they are asked for."""
    if name in ("ZipMLClassifier", "ZipMLRegressor"):
        from . import estimators

        return getattr(estimators, name)
    if name == "StochasticQuantizer":
        from .transformer import StochasticQuantizer

        return StochasticQuantizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "StochasticQuantizer", "ZipMLClassifier", "ZipMLRegressor"])
