"""Smaller models: quantizing a model folder, and what that costs."""
