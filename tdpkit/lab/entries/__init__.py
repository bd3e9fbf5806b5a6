"""Entries and addresses taken apart; ``python -m tdpkit.lab.entries`` reads those of a report."""

from .addresses import (
    AddressPath,
    Found,
    IndexStep,
    address_path,
    entry_on_the_way,
    join_indices,
    way_to,
)
from .entry import Child, Entry, check_index, child_of, parse_entry, read_entry, why_childless
from .fields import Field, bit_numbers, name_frames
from .hierarchy import Hierarchy, read_hierarchy
from .report import Report, read_report
from .words import rights_of, say_entry

__all__ = [
    "AddressPath",
    "Child",
    "Entry",
    "Field",
    "Found",
    "Hierarchy",
    "IndexStep",
    "Report",
    "address_path",
    "bit_numbers",
    "check_index",
    "child_of",
    "entry_on_the_way",
    "join_indices",
    "name_frames",
    "parse_entry",
    "read_entry",
    "read_hierarchy",
    "read_report",
    "rights_of",
    "say_entry",
    "way_to",
    "why_childless",
]
