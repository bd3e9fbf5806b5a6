"""The boundary explorer: drag a range over a guest, see which leaf crosses an edge and what it costs."""

from .live import BoundaryExplorer
from .picture import BoundaryPicture

__all__ = ["BoundaryExplorer", "BoundaryPicture"]
