"""One case of a search, drawn: a toy tree before, after, and as it should be."""

from .picture import CasePicture

__all__ = ["CasePicture"]
