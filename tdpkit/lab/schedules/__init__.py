"""Every schedule of two or three kernel functions, and what breaks in which.

Read `threads` first (a coroutine at work), then `machine` (one shared access at a time, and the judge),
`search` (every interleaving, the shortest witness), `bodies` (what threads do, flush policies, planted bugs),
`scenarios` and `once` (their searches), `replay` and `why` (a schedule as text, and what broke).
``python -m tdpkit.lab.schedules`` prints the table of all scenarios.
"""

from .bodies import POLICIES
from .machine import PROPERTIES
from .once import explored
from .replay import Replay
from .scenarios import CACHES, SCENARIOS, THREE, Setting
from .search import Explorer, Found, Schedule, search

__all__ = [
    "CACHES", "POLICIES", "PROPERTIES", "SCENARIOS", "THREE", "Explorer", "Found", "Replay", "Schedule",
    "Setting", "explored", "search",
]  # fmt: skip
