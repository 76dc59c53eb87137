"""Compress float data to a few bits without bias, and train linear models straight from the codes."""

from .codec import Codec
from .compress import compress
from .dataset import Dataset
from .dataset import open_dataset as open
from .levels import OptimalLevels, optimal_levels
from .model import Model
from .sgd import quantize_vector
from .training import train
from .version import VERSION as __version__

__all__ = [
    "Codec",
    "Dataset",
    "Model",
    "OptimalLevels",
    "__version__",
    "compress",
    "open",
    "optimal_levels",
    "quantize_vector",
    "train",
]
