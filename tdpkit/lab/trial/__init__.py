"""A variant of the split, tried before it is mailed: every experiment of the kit tries to break it.

Read `variant` first (the four forms a variant may have), then `rules` (what any kernel function keeps to),
`toys`, `answers`, `questions` (one call), `threads` (two), `large` (the sizes of x86), `known` (what was
posted, and planted bugs) and `table`. ``python -m tdpkit.lab.trial FILE.py:NAME`` tries a function.
"""

from .known import KNOWN, PLANTED, POSTED
from .table import QUESTIONS, Row, Trial, trial
from .variant import FORMS, Variant, load, variant_of

__all__ = [
    "FORMS", "KNOWN", "PLANTED", "POSTED", "QUESTIONS", "Row", "Trial", "Variant", "load", "trial",
    "variant_of",
]  # fmt: skip
