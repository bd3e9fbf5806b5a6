"""The lost -12: memory runs short during a split, and each caller interprets the value that comes back."""

from .live import LostErrno

__all__ = ["LostErrno"]
