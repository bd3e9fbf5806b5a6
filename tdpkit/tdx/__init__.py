"""The TDX module, KVM's TDX side, and the guest of a TD. Standard library only.

Read it in this order:

1. `abi`: statuses, calls, exits.
2. `module`: the TDX module's side of one TD.
3. `kvm_tdx`: KVM's hooks, and its answers to exits.
4. `guest`: the guest's touches and accepts.
"""

from tdpkit.door import lazy

DOOR = {
    "abi": ("TDX_PAGE_SIZE_MISMATCH", "TDX_SUCCESS", "Seamcall", "is_error", "status_name"),
    "module": ("SeptState", "TdxModule", "sept_state"),
    "kvm_tdx": (
        "HostPages",
        "KvmTdx",
        "TdxWorld",
        "tdx_handle_ept_violation",
        "tdx_honor_guest_accept_level",
    ),
    "guest": ("td_accept", "td_access"),
}
"""The names that notebooks use, by module, in reading order."""

__all__, __getattr__, __dir__ = lazy(__name__, DOOR)
