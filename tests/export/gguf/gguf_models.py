"""Small random models with tokenizers made here, written as GGUF files."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from grouping import grouped
from tinyslm.data.standard_library import standard_library
from tinyslm.export.format import Options, Original, Written
from tinyslm.export.gguf import GGUF
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.tokenizer.vocabulary import byte_level_backend

SHAPE = {"dim": 64, "depth": 4, "heads": 4, "ffn_dim": 128, "context": 96}
TEXT = "Once upon a time, 1234 beetles lived in a garden.\n\n    Naïve 漢字 of Ελλάδα: 'it's fine'! " * 3


def random_model(family: str = "qwen3", vocab_size: int = 320, seed: int = 0, **settings) -> Decoder:
    """A model with weights so large that its probabilities are far from even."""
    model = Decoder(
        ModelConfig(family=family, vocab_size=vocab_size, **{**SHAPE, **grouped(family, SHAPE["heads"]), **settings})
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            scale = 1.5 * tensor.shape[-1] ** -0.5 if tensor.dim() > 1 else 0.1
            around = 1.0 if name.endswith("norm.weight") and not model.config.norm_offset else 0.0
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale + around)
    return model


def export(model: Decoder, tokenizer: Tokenizer, scheme: str, folder: Path, texts=()) -> tuple[Written, Original]:
    """The model as a file, and what opening it needs."""
    original = Original(folder / "model", model, tokenizer)
    path = folder / f"model{GGUF.schemes[scheme].suffix}"
    return GGUF.write(original, scheme, path, Options(calibration=texts)), original


@cache
def tokenizer_of(kind: str) -> Tokenizer:
    """ "byte", "char", "bpe" with 4,096 tokens, or "large" with 32,768."""
    if kind == "byte":
        return train_tokenizer([], kind="byte")
    if kind == "large":
        return Tokenizer(byte_level_backend(list(_syllables())[: 32768 - 256 - 16]), chat_template=CHATML)
    texts = [Path(file).read_text(encoding="utf-8") for file in standard_library()[:40]]
    return train_tokenizer([*texts, TEXT], kind=kind, vocab_size=4096 if kind == "bpe" else 1024)


def _syllables() -> Iterator[tuple[bytes, bytes]]:
    """Merges that make every word of up to three letters, alone and after a space."""
    letters = [bytes([letter]) for letter in range(ord("a"), ord("z") + 1)]
    for start in (b"", b" "):
        for first in letters:
            if start:
                yield start, first
            for second in letters:
                yield start + first, second
                for third in letters:
                    yield start + first + second, third
