"""Traces of a real host: their text read, the tree rebuilt, and what a zap took outside a range.

Reading order: lines, events, changes, tree, ranges, reader, words. `write` goes the other way, and `shipped`
is how the traces of `notebooks/traces/` were made.
"""
