"""The walkers of walkers.c, compiled on the spot, on the very memory that `scan` reads."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from tdpkit.engine.gfn import SPTE_LEVEL_BITS
from tdpkit.engine.tree import TdpMmuRoot
from tests.browser.lab import Unfit

SOURCE = Path(__file__).with_name("walkers.c")


class _Found(ctypes.Structure):
    """struct found."""

    _fields_ = (
        ("visited", ctypes.c_uint64),
        ("crossing", ctypes.c_uint64),
        ("leaf", ctypes.c_uint64 * 2 * 2),
    )


def compiled() -> ctypes.CDLL:
    """The two walkers. Raises Unfit where there is no C compiler, or one that cannot do it."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    if not compiler:
        raise Unfit("No C walkers: cc is not on the PATH, and CC names no compiler.")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "walkers.so")
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        try:
            subprocess.run(command, check=True)  # what the compiler says goes to the terminal
            return ctypes.CDLL(str(library))  # stays in memory when its file is gone
        except (OSError, subprocess.CalledProcessError) as failure:
            raise Unfit(f"No C walkers: {compiler} cannot make them.") from failure


class CWalker:
    """One of the two, ready to walk `root`; its tree may change, its pool must not grow."""

    def __init__(self, library: ctypes.CDLL, name: str, root: TdpMmuRoot) -> None:
        if root.geometry.index_bits != SPTE_LEVEL_BITS or root.gfn_bits:
            raise ValueError("the C walkers know x86 tables without a shared bit")
        self._walk = getattr(library, name)
        self._walk.restype = None
        self._root = root
        self._tables = np.zeros(len(root.pool.role), dtype=np.uint64)
        for first, chunk in root.pool.chunks:
            entries = np.frombuffer(chunk, dtype=np.uint64).reshape(-1, root.geometry.entries)
            addresses = entries.ctypes.data + entries.strides[0] * np.arange(len(entries), dtype=np.uint64)
            self._tables[first : first + len(entries)] = addresses

    def __call__(self, start: int, end: int, min_level: int) -> tuple[int, list[tuple[int, int]]]:
        """How many entries it visited, and (gfn, level) of the leaves that cross an edge."""
        found = _Found()
        self._walk(
            ctypes.c_void_p(self._tables.ctypes.data),
            ctypes.c_uint64(self._root.row),
            ctypes.c_int(self._root.geometry.root_level),
            ctypes.c_uint64(start),
            ctypes.c_uint64(end),
            ctypes.c_int(min_level),
            ctypes.byref(found),
        )
        if found.crossing > len(found.leaf):
            raise ValueError(f"{found.crossing} leaves cross the two edges of one range")
        return found.visited, [(leaf[0], leaf[1]) for leaf in found.leaf[: found.crossing]]
