"""The engine's own model as a `Runtime`, to try checks with; and a test-only format that writes model folders."""

import inspect
from contextlib import contextmanager

import torch

from tinyslm.export.format import Format, Scheme, Written
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.training import train_tokenizer


class OwnRuntime:
    """Answers with a model of our own."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer, self.prefix = model, tokenizer, []

    def encode(self, text):
        return self.tokenizer.encode(text)

    def next_logprobs(self, ids):
        with torch.no_grad():
            return self.model(torch.tensor([ids]))[0, -1].log_softmax(-1).numpy()

    def greedy(self, ids, count, stop=True):
        ids, made = list(ids), []
        while len(made) < count:
            token = int(self.next_logprobs(ids + made).argmax())
            if stop and token in self.tokenizer.stop_ids:
                break
            made.append(token)
        return made

    def encode_chat(self, messages):
        return self.prefix + encode_chat(self.tokenizer, messages, add_generation_prompt=True)


def fake_format(name="fake", tamper=None, usual=("exact",), supports=lambda model: ""):
    """Writes a model folder and a file beside it; `tamper(path)` is called after writing, before the check."""

    def write(original, scheme, path, options):
        save_model(original.model, path, original.tokenizer)
        path.with_name(path.name + ".txt").write_text(f"FROM {path.name}")
        if tamper:
            tamper(path)
        return Written(path, notes=["lm_head.weight: f32 instead of q4"] if scheme == "rounded" else [])

    @contextmanager
    def open_folder(written, original, options):
        yield OwnRuntime(load_model(written.path), load_tokenizer(written.path))

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
        "depth": 2,
        "context": 128,
        "init_std": 0.08,
        "tied": True,
        **shape,
    }
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **shape))
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(3)
    save_model(model, folder, tokenizer)
    return folder
