"""Tasks: kinds of them, readers of published benchmarks, and small sets that are shipped.

A new kind, benchmark or set is a value in a registry; `--plugin FILE.py` adds more.
"""
