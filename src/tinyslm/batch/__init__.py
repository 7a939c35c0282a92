"""Rows and folders in, results out."""
