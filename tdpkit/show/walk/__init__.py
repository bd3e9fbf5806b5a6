"""The walk stepper: forward and back through one split call, event by event."""

from .live import WalkStepper

__all__ = ["WalkStepper"]
