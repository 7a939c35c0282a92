"""A model folder together with an adapter of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.core.text_files import read_small_text
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model, load_tokenizer
from tinyslm.model.lora import BASE, CONFIG, load_adapters, merge_adapters
from tinyslm.model.packed import is_packed
from tinyslm.tokenizer.settings import TEMPLATE, read_chat_template
from tinyslm.tokenizer.tokenizer import Tokenizer

IN_RUN = "adapter"
"""The folder of the adapter in a run folder."""


@dataclass(frozen=True)
class AdaptedModel:
    """base: a model folder or run folder. adapter: the folder of an adapter of it, or a run folder with one."""

    base: Path
    adapter: Path

    def load(self, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Decoder:
        """The base with the adapter, for generating; see `load_model` and `load_adapters`.

        The adapter is merged into the weights; others that are stored as `dtype` stay in the base's file, which all
        models loaded from it share. Beside quantized weights, the adapter stays as it is.
        """
        folder = find_model(self.base)
        model = load_model(folder, dtype=dtype, device=device)
        load_adapters(model, find_adapter(self.adapter), folder)
        if not is_packed(model):
            merge_adapters(model)
        return model.eval().requires_grad_(False)

    def load_tokenizer(self) -> Tokenizer:
        """The base's tokenizer, with the tokens and the chat template that the adapter's folder adds."""
        folder = find_adapter(self.adapter)
        if (folder / BASE).is_file() and (folder / "tokenizer.json").is_file():
            return load_tokenizer(folder)
        tokenizer, file = load_tokenizer(find_model(self.base)), folder / TEMPLATE
        return tokenizer.with_template(read_small_text(file, str(file))) if file.is_file() else tokenizer

    def holds_conversations(self) -> bool:
        """Whether it answers messages: adapters are trained on them, and there must be a chat template."""
        folders = find_adapter(self.adapter), find_model(self.base)
        return any(read_chat_template(folder) is not None for folder in folders)


def find_adapter(path: Path) -> Path:
    """The folder of the adapter that `path` means: itself, or the one in a run folder."""
    for folder in (path, path / IN_RUN):
        if (folder / CONFIG).is_file():
            return folder
    raise TinyslmError(
        f"There is no adapter in {path}.",
        f"Give a folder with {CONFIG}, or the run folder of a fine-tuning that trained an adapter.",
    )
