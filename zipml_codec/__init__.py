"""Compress float data to a few bits without bias, and train linear models straight from the codes."""

from .codec import Codec

__all__ = ["Codec"]
