"""A Jupyter teaching kit in which a review of KVM's TDP MMU can be run."""

import sys

__version__ = "0.1.0"

REFERENCE = "Linux 7.2.12 plus patch v3 11/24 (6 January 2026); TDX side: that v3 series"
"""The kernel that the engine models."""

if "IPython" in sys.modules and (_shell := sys.modules["IPython"].get_ipython()):
    from .glance import register

    register(_shell)
