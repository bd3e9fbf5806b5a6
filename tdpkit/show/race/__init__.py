"""The strategy race: every way to make the edges of a range safe, side by side on one guest."""

from .live import StrategyRace

__all__ = ["StrategyRace"]
