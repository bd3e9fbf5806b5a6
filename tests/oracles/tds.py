"""TDX modules to try things on, and what the tests of several modules ask of them."""

from tdpkit.engine.gfn import Geometry
from tdpkit.tdx.module import TdxModule
from tests.oracles import brute
from tests.oracles.vms import TOY

X86_TD = Geometry(9, 4, 2)
FREE, BLOCKED, PENDING, PENDING_BLOCKED, PRESENT = range(5)  # S165

STATUS = {  # S178: the upper 32 bits
    "TDX_SUCCESS": 0,
    "TDX_OPERAND_INVALID": 0xC0000100,
    "TDX_OPERAND_BUSY": 0x80000200,
    "TDX_PREVIOUS_TLB_EPOCH_BUSY": 0x80000201,
    "TDX_PAGE_METADATA_INCORRECT": 0xC0000300,
    "TDX_EPT_WALK_FAILED": 0xC0000B00,
    "TDX_EPT_ENTRY_FREE": 0xC0000B01,
    "TDX_EPT_ENTRY_NOT_FREE": 0xC0000B02,
    "TDX_GPA_RANGE_NOT_BLOCKED": 0xC0000B06,
    "TDX_GPA_RANGE_ALREADY_BLOCKED": 0x00000B07,
    "TDX_TLB_TRACKING_NOT_DONE": 0xC0000B08,
    "TDX_EPT_INVALID_PROMOTE_CONDITIONS": 0xC0000B09,
    "TDX_PAGE_ALREADY_ACCEPTED": 0x00000B0A,
    "TDX_PAGE_SIZE_MISMATCH": 0xC0000B0B,
    "TDX_GPA_RANGE_BLOCKED": 0xC0000B0C,
    "TDX_EPT_ENTRY_STATE_INCORRECT": 0xC0000B0D,
    "TDX_INTERRUPTED_RESUMABLE": 0x80000003,
    "TDX_INTERRUPTED_RESTARTABLE": 0x80000004,
}

TABLE_PAGE = 1000
"""Where the fixtures take pages for tables, out of the way of data."""

OK = "SUCCESS"
INVALID, BUSY, METADATA = "OPERAND_INVALID", "OPERAND_BUSY", "PAGE_METADATA_INCORRECT"
NO_WALK, IS_FREE, NOT_FREE = "EPT_WALK_FAILED", "EPT_ENTRY_FREE", "EPT_ENTRY_NOT_FREE"
NOT_BLOCKED, ALREADY = "GPA_RANGE_NOT_BLOCKED", "GPA_RANGE_ALREADY_BLOCKED"
UNTRACKED, STATE = "TLB_TRACKING_NOT_DONE", "EPT_ENTRY_STATE_INCORRECT"
ACCEPTED, EXIT = "PAGE_ALREADY_ACCEPTED", "an exit to KVM"


def status(name: str) -> int:
    return STATUS["TDX_" + name] << 32


def state_of(module: TdxModule) -> tuple:
    """All there is, but the log."""
    return (
        brute.memory(module.sept.pool),
        dict(module.sept_page),
        dict(module.owned),
        dict(module.bepoch),
        {vcpu: frozenset(held) for vcpu, held in module.tlb.items()},
        (dict(module.entered), tuple(module.refcount), module.td_epoch, module.sept_lock_holder),
        (frozenset(module.pamt_pairs), frozenset(module.wbinvd), dict(module.memory), module.torn_down),
    )


def entries(module: TdxModule) -> dict[tuple[int, int], tuple[int, int]]:
    """(gfn, level) -> (pfn, state) of every leaf, by arithmetic on the raw entries."""
    found = {}
    for gfn, level, raw in brute.entries(module.geometry, brute.read(module.sept)):
        if brute.is_leaf(raw):
            state = raw >> 56 & 7
            assert (raw & 7 == 7) == (state == PRESENT)
            assert raw & 7 in (0, 7)
            assert bool(raw & brute.LARGE) == (level > 1)
            found[gfn, level] = ((raw & brute.FRAME) >> 12, state)
    return found


def td(geometry: Geometry = TOY, **options) -> TdxModule:
    """A TD whose frame 0 has all tables down to those of level 2 entries; nothing is mapped."""
    module = TdxModule(geometry, capacity=1, shuffle=7, **options)
    for level in range(geometry.root_level, 2, -1):
        assert module.mem_sept_add(0, level, TABLE_PAGE + level) == 0
    return module


def huge(geometry: Geometry = TOY, state: int = PRESENT, **options) -> TdxModule:
    """A TD with one huge leaf, [0, pages of level 2), in `state`, no vCPU inside."""
    module = td(geometry, **options)
    put(module, 0, 2, 4 * geometry.pages(2), state)
    return module


def put(module: TdxModule, gfn: int, level: int, pfn: int, state: int) -> None:
    """A leaf in `state`, by calls."""
    if state == FREE:
        return
    assert module.mem_page_aug(gfn, level, pfn) == 0
    if state in (PRESENT, BLOCKED):
        assert module.accept(gfn, level).status == 0
    if state in (BLOCKED, PENDING_BLOCKED):
        assert module.mem_range_block(gfn, level) == 0


class Visits:
    """vCPUs by the visit: who was inside when, with no epoch and no parity."""

    def __init__(self) -> None:
        self.inside: dict[int, int] = {}
        self.count = 0
        self.at_last_track: set[int] = set()

    def enter(self, vcpu: int) -> None:
        self.count += 1
        self.inside[vcpu] = self.count

    def leave(self, vcpu: int) -> None:
        del self.inside[vcpu]

    @property
    def may_track(self) -> bool:
        """Nobody is inside since before the last TRACK."""
        return not self.at_last_track & set(self.inside.values())

    def track(self) -> set[int]:
        self.at_last_track = set(self.inside.values())
        return self.at_last_track
