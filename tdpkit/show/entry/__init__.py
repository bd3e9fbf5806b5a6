"""The entry decoder and the address picture: 64 bits taken apart."""

from .address import take_apart
from .live import EntryDecoder

__all__ = ["EntryDecoder", "take_apart"]
