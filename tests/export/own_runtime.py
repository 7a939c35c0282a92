"""The engine's own model as a `Runtime`, to try checks with; and a test-only format that writes model folders."""

import inspect
from contextlib import contextmanager

import torch

from tinyslm.evaluation.runtimes.model_folder import ModelRuntime
from tinyslm.export.format import Format, Scheme, Written
from tinyslm.inference.request import Completion
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.tokenizer.training import train_tokenizer


class OwnRuntime(ModelRuntime):
    """A model of our own, one position and one token at a time; `stops`: whether it ends texts at end tokens."""

    one_pass = False

    def __init__(self, model, tokenizer, stops=True):
        super().__init__(model, tokenizer)
        self.prefix, self.stops = [], stops

    def generate(self, prompt, settings):
        ids, made = list(prompt), []
        while len(made) < settings.max_tokens:
            token = int(self.logprobs(ids + made, [len(ids + made) - 1]).argmax())
            if self.stops and token in self.tokenizer.stop_ids:
                break
            made.append(token)
        return Completion(self.tokenizer.decode(made), "length", len(made), tuple(made))

    def encode_chat(self, messages):
        return self.prefix + super().encode_chat(messages)


def fake_format(name="fake", tamper=None, usual=("exact",), supports=lambda model: ""):
    """Writes a model folder and a file beside it; `tamper(path)` is called after writing, before the check."""

    def write(original, scheme, path, options):
        save_model(original.model, path, original.tokenizer)
        path.with_name(path.name + ".txt").write_text(f"FROM {path.name}")
        if tamper:
            tamper(path)
        return Written(path, notes=["lm_head.weight: f32 instead of q4"] if scheme == "rounded" else [])

    @contextmanager
    def open_folder(path, source, threads):
        yield OwnRuntime(load_model(path), load_tokenizer(path))

    schemes = {"exact": Scheme(".exact", 1e-6, exact=True), "rounded": Scheme(".rounded", 0.1)}
    return Format(name, "dev", schemes, usual, supports, write, open_folder)


def write_small_model(folder, seed=0, **shape):
    """A model folder with random weights, and a tokenizer of its own.

    Its embeddings are large, so that its choices are clear: it likes to say again what it just read, an end, too.
    """
    torch.manual_seed(seed)
    tokenizer = train_tokenizer([inspect.getsource(inspect), "Été 漢字 " * 50], vocab_size=512)
    shape = {
        "dim": 64,
        "head_dim": 32,
        "kv_heads": 1,
        "depth": 1,
        "context": 128,
        "init_std": 0.25,
        "tied": True,
        **shape,
    }
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **shape))
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(3)
    save_model(model, folder, tokenizer)
    return folder
