"""Two trees side by side: which roots an operation asks for, and which tree it reaches."""

from .live import TwoTrees

__all__ = ["TwoTrees"]
