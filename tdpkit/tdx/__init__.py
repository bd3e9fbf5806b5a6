"""The TDX module, KVM's TDX side and the guest of a TD."""
