"""A tiny model, and a running server as tests see it."""

import json
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx
import openai
import tokenizers
import torch

from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.serving.models import Models
from tinyslm.serving.server import Server
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer

CONTEXT = 4096


@dataclass
class Running:
    """A running server and its URL."""

    url: str
    server: Server
    models: Models

    @cached_property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def http(self, **options) -> httpx.Client:
        # Without encryption: loading certificates would take most of a test's time.
        return httpx.Client(base_url=self.url, timeout=30, verify=False, **options)


def make_model(folder: Path, seed: int = 4, *, chats: bool = True, **shape) -> Path:
    tokenizer = train_tokenizer([], kind="byte")
    if not chats:
        tokenizer = without_chats(tokenizer)
    torch.manual_seed(seed)
    sizes = {"dim": 32, "heads": 4, "depth": 2, "context": CONTEXT, "vocab_size": tokenizer.vocab_size, **shape}
    model = Decoder(ModelConfig(family="qwen3", **sizes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.3)
    save_model(model, folder, tokenizer)
    return folder


def without_chats(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with other names for the tokens that messages are written with, and no chat template."""
    content = json.dumps(tokenizer.content).replace("<|im_start|>", "<|one|>").replace("<|im_end|>", "<|other|>")
    return Tokenizer(tokenizers.Tokenizer.from_str(content))


def wait_until(true, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
