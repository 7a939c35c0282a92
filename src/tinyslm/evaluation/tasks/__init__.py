"""Tasks: their kinds, readers of published benchmarks, and small built-in sets.

Each kind, benchmark or set is a value in a registry; `--plugin FILE.py` adds more.
"""
