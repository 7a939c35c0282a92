"""Telling one model from another by its weights, for traces."""

from __future__ import annotations

from tinyslm.inference.engine import Engine


def fingerprint(engine: Engine) -> str:
    """Hash of an engine's weights as they lie in memory (XXH3)."""
    import torch
    import xxhash

    digest = xxhash.xxh3_128()
    for name, tensor in sorted(engine.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
