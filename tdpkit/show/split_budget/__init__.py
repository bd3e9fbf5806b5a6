"""The split budget: what a split of a range takes in pages, and what preallocating would hold idle."""

from .live import SplitBudget

__all__ = ["SplitBudget"]
