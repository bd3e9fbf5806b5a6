"""The life of a range of private pages, told step by step."""

from .story import PageLife

__all__ = ["PageLife"]
