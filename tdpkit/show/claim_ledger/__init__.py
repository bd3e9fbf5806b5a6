"""The claim ledger: each claim of the review, its verdict, and the experiment that decides it, run again."""

from .live import ClaimLedger

__all__ = ["ClaimLedger"]
