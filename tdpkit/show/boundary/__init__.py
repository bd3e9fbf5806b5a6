"""The boundary explorer: drag a range over a guest, see which leaf crosses an edge and what it costs."""

from .live import BoundaryExplorer

__all__ = ["BoundaryExplorer"]
