"""A model of our own, packed or not: scored by its modules, and generating in our engine."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from tinyslm.evaluation.protocols import Array, Message, Prompt, prompt_ids
from tinyslm.inference.engine import Engine
from tinyslm.inference.request import Completion, Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model, load_tokenizer
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer


class ModelRuntime:
    """A model and its tokenizer as a `Runtime`."""

    one_pass = True

    def __init__(self, model: Decoder, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def open(cls, path: Path, dtype: torch.dtype = torch.float32) -> "ModelRuntime":
        """The model of a model folder or run folder, computing in `dtype`."""
        folder = find_model(path)
        return cls(load_model(folder, dtype=dtype), load_tokenizer(folder))

    @cached_property
    def engine(self) -> Engine:
        """What generates."""
        return Engine(self.model, self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """See `Scorer`."""
        return self.tokenizer.encode(text)

    def encode_chat(self, messages: Sequence[Message]) -> list[int] | None:
        """See `Scorer`."""
        if self.tokenizer.chat_template is None:
            return None
        return encode_chat(self.tokenizer, messages, add_generation_prompt=True)

    def logprobs(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """See `Scorer`."""
        with torch.inference_mode():
            logits_tv = self.model(torch.tensor([list(ids)], device=self.model.device))[0, list(positions)]
            found: Array = logits_tv.float().log_softmax(-1).cpu().numpy()
        return found

    def generate(self, prompt: Prompt, settings: SamplingSettings) -> Completion:
        """See `Generator`."""
        return self.engine.submit(Request(tuple(prompt_ids(self, prompt)), settings)).whole()[0]
