"""Experiments on the machine."""
