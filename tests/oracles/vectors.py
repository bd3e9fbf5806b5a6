"""What was recorded of the kernel's own code (tests/vectors/README.md), read once for all tests."""

import json
from functools import cache
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors"
KINDS = ("walk", "split_all", "split_cross", "faults", "zap", "roots", "spte_bits")

Case = dict[str, Any]


@cache
def cases_of(kind: str) -> list[Case]:
    """The cases of a kind in their order (to be read, not changed)."""
    return [json.loads(line) for line in (VECTORS / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()]
