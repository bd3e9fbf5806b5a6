"""The machine: numbers, entries, tables, the walk, split and zap, one VM.

Standard library only, but for `scan`.
"""
