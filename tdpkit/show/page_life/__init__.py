"""The conversion stepper: the life of a range of private pages, step by step."""

from .live import PageLifeStepper

__all__ = ["PageLifeStepper"]
