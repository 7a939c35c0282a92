"""Generating text: sampling, the KV cache, the engine."""
