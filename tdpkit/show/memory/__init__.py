"""A guest's memory at a glance: one low strip of its frames, for whatever a notebook's cell returns."""

from .picture import memory_svg
from .state import MemoryState, memory_state

__all__ = ["MemoryState", "memory_state", "memory_svg"]
