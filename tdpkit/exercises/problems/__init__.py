"""Problems without end: a kind, a seed and a level give one, with its answer, its solution and its check."""

from .problem import KINDS, LEVELS, Problem

__all__ = ["KINDS", "LEVELS", "Problem"]
