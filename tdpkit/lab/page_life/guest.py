"""The guest of a page's life: it takes memory, uses it, and says what it finds."""

from __future__ import annotations

from collections.abc import Callable

from tdpkit.engine.events import EFAULT, EHWPOISON, EINVAL, EIO, ENOMEM
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, GfnRange
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.tree import translate, way_down
from tdpkit.tdx.abi import TDX_PAGE_SIZE_MISMATCH, TDX_SUCCESS, Access
from tdpkit.tdx.module import SeptState

from ..td import FIRST_BYTE
from .record import Recorder, ToldTd
from .view import Watch
from .words import GUEST, KVM, Names, Said

_ERRNOS = {
    -ENOMEM: "-ENOMEM",
    -EINVAL: "-EINVAL",
    -EIO: "-EIO",
    -EFAULT: "-EFAULT",
    -EHWPOISON: "-EHWPOISON",
}


def name_errno(ret: int) -> str:
    """``0``, ``-12 (-ENOMEM)``."""
    return f"{ret} ({_ERRNOS[ret]})" if ret in _ERRNOS else f"{ret}"


class LifeGuest:
    """Works on frames of `td`, one piece after the other: a page, or a block where it takes 2M at once.

    every: it works on each page; else on the first one in each block of 2M, and on others when it needs them.
    """

    def __init__(
        self, td: ToldTd, watch: Watch, recorder: Recorder, names: Names, *, by_block: bool, every: bool
    ) -> None:
        self.td, self.watch, self.recorder, self.names = td, watch, recorder, names
        self.by_block = by_block
        """KVM may map 2M, so the guest accepts 2M where it means all of it."""
        self.every = every
        self.block = td.geometry.pages(PG_LEVEL_2M)

    def take(self, frames: range, *, write: bool = False) -> None:
        """Take these frames as private memory: touch, ACCEPT where need be, and perhaps write."""
        self._each("accept", frames, lambda gfn: self._take(gfn, frames.stop, write))

    def use_shared(self, frames: range) -> None:
        """Read these frames with the S-bit."""
        self._each("read shared", frames, self._read_shared)

    # ---- piece by piece --------------------------------------------------------------------------------

    def _each(self, what: str, frames: range, work: Callable[[int], int]) -> None:
        """`work` on one piece after the other; it returns how many frames it did."""
        gfn = frames.start
        while gfn < frames.stop:
            key, pages = self._kind(what, gfn), self._size(gfn, frames.stop) if what == "accept" else 1
            with self.recorder.unit(key, gfn, gfn + (pages if key[0] == "accept" else 1)):
                gfn += work(gfn)
            if not self.every:
                gfn = -(-gfn // self.block) * self.block
        self.recorder.close()

    def _kind(self, what: str, gfn: int) -> tuple[object, ...]:
        """Work on frames of one kind goes alike."""
        kvm = self.td.kvm
        if what == "read shared":
            return what, translate(kvm.direct_root, gfn) is not None, len(way_down(kvm.direct_root, gfn))
        assert kvm.mirror_root is not None
        state = self.td.state(gfn)
        if state[0] == SeptState.PRESENT:
            return "read", gfn in self.watch.written
        return what, state, len(way_down(kvm.mirror_root, gfn))

    def _size(self, gfn: int, end: int) -> int:
        """Frames that it accepts at once."""
        whole = self.by_block and gfn % self.block == 0 and gfn + self.block <= end
        return self.block if whole else 1

    # ---- one piece -------------------------------------------------------------------------------------

    def _take(self, gfn: int, end: int, write: bool) -> int:
        if not self._touch(gfn):
            return 1
        pages = self._size(gfn, end)
        # It tries 2M first wherever that fits, as Linux does, though KVM may have mapped less.
        level = PG_LEVEL_2M if gfn % self.block == 0 and gfn + self.block <= end else PG_LEVEL_4K
        status = self.td.accept(gfn, level)
        if status == TDX_PAGE_SIZE_MISMATCH:
            pages, status = 1, self.td.accept(gfn, PG_LEVEL_4K)
        if write and status == TDX_SUCCESS:
            self._write(gfn, pages)
        return pages

    def _touch(self, gfn: int) -> bool:
        """True if it must ACCEPT."""
        self.recorder.at = gfn
        got, name = self.td.touch(gfn), self.names.frame(gfn)
        if not isinstance(got, Access):
            sentence = f"KVM cannot serve frame {name} and returns {name_errno(got)} to userspace."
            self._say(gfn, Said(KVM, f"returns {_ERRNOS.get(got, got)}", sentence))
            return False
        if got.outcome == "#VE":
            sentence = (
                f"#VE: frame {name} is PENDING. The guest is told that it must ACCEPT before it uses it."
            )
            self._say(gfn, Said(GUEST, "#VE", sentence))
            return True
        what = "its own bytes, as it left them" if gfn in self.watch.written else "zeros"
        self._say(gfn, Said(GUEST, "read", f"The guest reads frame {name}: {what}.", part="finds"))
        return False

    def _write(self, gfn: int, pages: int) -> None:
        first, frames = self.td.gmem.first_pfn, range(gfn, gfn + pages)
        if self.td.memory:
            self.td.memory.update({first + frame: (FIRST_BYTE + frame) & 0xFF for frame in frames})
        self.watch.written.store(GfnRange(gfn, gfn + pages), True)
        self.watch.stale.add("bytes")
        name = self.names
        what = f"frames {name.span(gfn, gfn + pages)}" if pages > 1 else f"frame {name.frame(gfn)}"
        sentence = f"The guest writes to {what}: these are its bytes from now on."
        self._say(gfn, Said(GUEST, "write", sentence, part="finds"), pages)

    def _read_shared(self, gfn: int) -> int:
        name = self.names.frame(gfn)
        if translate(self.td.kvm.direct_root, gfn) is None:
            sentence = f"EPT violation: the guest uses frame {name} with the S-bit; the direct tree has none."
            self.td.module.vp_exit(self.td.vcpu)
            said = Said(GUEST, "EPT violation", sentence, "tdx_handle_ept_violation")
            self.recorder.say(said, (gfn, gfn + 1))
            self.td.run(kvm_tdp_mmu_page_fault(self.td.kvm, gfn, is_private=False))
            self.td.module.vp_enter(self.td.vcpu)
        sentence = f"The guest reads frame {name} with the S-bit: userspace’s byte. Both sides can use it."
        self._say(gfn, Said(GUEST, "read shared", sentence, part="finds"))
        return 1

    def _say(self, gfn: int, said: Said, pages: int = 1) -> None:
        self.recorder.notice()
        self.recorder.say(said, (gfn, gfn + pages))
