"""A trace of a real host, step by step: what is mapped, what a step changed, what went outside a range."""

from .live import TraceViewer

__all__ = ["TraceViewer"]
