"""The schedule player: kernel functions that run at once, step by step, in a telling order or in your own."""

from .live import SchedulePlayer

__all__ = ["SchedulePlayer"]
