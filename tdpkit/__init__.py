"""A Jupyter teaching kit in which a review of KVM's TDP MMU can be run."""

__version__ = "0.1.0"

REFERENCE = "Linux 7.2.12 plus patch v3 11/24 (6 January 2026); TDX side: that v3 series"
"""The kernel that the engine models."""
