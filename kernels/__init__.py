"""Compiled kernels: plain C under thin Cython. Imports numpy only; every other part of the package builds on it."""
