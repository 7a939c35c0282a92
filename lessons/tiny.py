"""A small language model in one file, to be read from top to bottom: tokens, transformer, training, sampling.

    python tiny.py train TEXT.txt OUT --minutes 4      (--merges 500: learn 500 tokens beside the 256 bytes)
    python tiny.py sample OUT --prompt "ROMEO:"

OUT is a model folder that transformers and tinyslm load. In the names of tensors, b is the batch, t the time
(position), d the width of the model, h the heads and e the width of one head.
"""

import argparse
import json
import math
import re
import time
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

# 1. Text to tokens. A text is its UTF-8 bytes, so 256 tokens can write anything. Byte-pair encoding (Sennrich et al.,
# 2016) adds tokens: again and again it joins the most frequent pair of neighbours, inside words only.
WORDS = (  # contractions; a word with what stands before it; up to 3 digits; punctuation; line ends; spaces
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|(?:[^\w\r\n]|_)?[^\W\d_]+|\d{1,3}| ?(?:[^\s\w]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
Linear = partial(nn.Linear, bias=False)
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
# tokenizer.json cannot hold bytes: GPT-2's printable character for each
NAME_OF = {byte: chr(byte) for byte in PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(OTHERS)}
BYTE_OF = {name: byte for byte, name in NAME_OF.items()}


class Tokenizer:
    def __init__(self, tokens, merges):
        self.tokens = tokens  # the bytes of each token; its place is its id
        self.merges = merges  # pairs of bytes, the first learned first
        self.id_of = {token: number for number, token in enumerate(tokens)}
        self.rank = {pair: number for number, pair in enumerate(merges)}
        self.end = len(tokens)  # the id of the token that separates texts

    @classmethod
    def learn(cls, text, merges):
        """Byte-pair encoding: each round counts all pairs of neighbours and joins the most frequent one."""
        words = Counter(re.findall(WORDS, text))
        pieces = {word: [bytes([byte]) for byte in word.encode()] for word in words}
        learned = []
        for _ in range(merges):
            pairs = Counter()
            for word, count in words.items():
                for pair in pairwise(pieces[word]):
                    pairs[pair] += count
            best = max(pairs, key=lambda pair: (pairs[pair], pair))
            learned.append(best)
            pieces = {word: joined(parts, best) for word, parts in pieces.items()}
        return cls([bytes([byte]) for byte in range(256)] + [left + right for left, right in learned], learned)

    def encode(self, text):
        """Ids. In each word, pairs are joined in the order in which they were learned, until none is left."""
        found = []
        for word in re.findall(WORDS, text):
            parts = [bytes([byte]) for byte in word.encode()]
            while pairs := [pair for pair in pairwise(parts) if pair in self.rank]:
                parts = joined(parts, min(pairs, key=self.rank.get))
            found += [self.id_of[part] for part in parts]
        return found

    def decode(self, ids):
        return b"".join(self.tokens[number] for number in ids if number < self.end).decode(errors="replace")


def joined(parts, pair):
    """The parts of a word with every such pair of neighbours as one part."""
    found = []
    for part in parts:
        if found and (found[-1], part) == pair:
            found[-1] += part
        else:
            found.append(part)
    return found


# 2. The transformer: the architecture of Qwen3, which differs from Llama's by normed queries and keys. The modules have
# Hugging Face's names, so that the weights can be saved as they are.
def config_of(vocab_size, width, depth, context):
    """config.json of a model folder."""
    heads, inner = width // 64, width * 8 // 3 // 64 * 64
    shape = {"hidden_size": width, "num_hidden_layers": depth, "intermediate_size": inner, "vocab_size": vocab_size}
    attention = {"num_attention_heads": heads, "num_key_value_heads": heads, "head_dim": 64, "attention_bias": False}
    others = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True}
    text = {"max_position_embeddings": context, "eos_token_id": vocab_size - 1, "dtype": "float32"}
    return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"} | shape | attention | others | text


def rotate(x_bhte, theta):
    """Rotary positions (Su et al., 2021): turn each pair (i, i + e/2) of a head by position * theta ** (-2i / e), so
    that the product of a query and a key depends on how far apart they stand."""
    t, e = x_bhte.shape[-2:]
    angles_te = torch.arange(t)[:, None] * theta ** (-torch.arange(0, e, 2) / e)  # half as many as e
    cos, sin = angles_te.cos(), angles_te.sin()
    left, right = x_bhte.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


# Each position asks a question (query); earlier positions have keys that match it more or less, and values; the
# answer is the mean of the values, weighted by softmax(query * key / sqrt(e)).
class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, heads, kv_heads = (config[key] for key in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
        self.e, self.theta = config["head_dim"], config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
        self.q_proj, self.o_proj = Linear(width, heads * self.e), Linear(heads * self.e, width)
        self.k_proj, self.v_proj = (Linear(width, kv_heads * self.e) for _ in "kv")
        self.q_norm, self.k_norm = (nn.RMSNorm(self.e, config["rms_norm_eps"]) for _ in "qk")

    def forward(self, x_btd):
        b, t, _ = x_btd.shape
        projected = (project(x_btd).view(b, t, -1, self.e) for project in (self.q_proj, self.k_proj, self.v_proj))
        q_bhte, k_bhte, v_bhte = (one.transpose(1, 2) for one in projected)
        q_bhte, k_bhte = rotate(self.q_norm(q_bhte), self.theta), rotate(self.k_norm(k_bhte), self.theta)
        # is_causal is the mask: no position sees a later one. enable_gqa: several queries may share a key and a value.
        mixed_bhte = F.scaled_dot_product_attention(q_bhte, k_bhte, v_bhte, is_causal=True, enable_gqa=True)
        return self.o_proj(mixed_bhte.transpose(1, 2).reshape(b, t, -1))


# SwiGLU (Shazeer, 2020): one wide layer, gated by another.
class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj, self.up_proj = Linear(width, inner), Linear(width, inner)
        self.down_proj = Linear(inner, width)

    def forward(self, x_btd):
        return self.down_proj(F.silu(self.gate_proj(x_btd)) * self.up_proj(x_btd))


# Attention mixes positions, the feed-forward works on each; both add to the stream x that runs through all blocks.
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.mlp = FeedForward(config)

    def forward(self, x_btd):
        x_btd = x_btd + self.self_attn(self.input_layernorm(x_btd))
        return x_btd + self.mlp(self.post_attention_layernorm(x_btd))


# Token ids [b, t] to logits [b, t, vocabulary]: how probable each token is as the next one, before softmax.
class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        for name, weight in self.named_parameters():
            if weight.dim() == 2:  # small random numbers; 0 for what a block adds to the stream in the end
                nn.init.normal_(weight, std=0.0 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02)

    def forward(self, ids_bt):
        x_btd = self.embed_tokens(ids_bt)
        for layer in self.layers:
            x_btd = layer(x_btd)
        return self.norm(x_btd) @ self.embed_tokens.weight.T  # tied: the table that reads tokens writes them, too

    def loss(self, ids_bt):
        """Cross-entropy: minus the logarithm of the probability of each right next token, on average, in nats."""
        return F.cross_entropy(self(ids_bt[:, :-1]).flatten(0, 1), ids_bt[:, 1:].flatten())


# 3. Training: guess every next token of a batch of windows, and move the weights so that the guesses get better.
# Momentum whose update has all its singular values near 1 (Jordan et al., 2024); for matrices.
class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr=0.02, momentum=0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                x = weight.grad.lerp(momentum, group["momentum"])
                x = x / x.norm().clamp_min(1e-7)
                for _ in range(5):  # Newton-Schulz: a polynomial that pushes singular values towards 1
                    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
                    bent = -4.7750 * gram + 2.0315 * gram @ gram
                    x = 3.4445 * x + (x @ bent if x.shape[0] >= x.shape[1] else bent @ x)
                weight.sub_(x, alpha=group["lr"] * max(1, weight.shape[0] / weight.shape[1]) ** 0.5)


def train(model, ids, minutes, kind="muon", batch=16):
    """Train for so many minutes. The learning rate warms up during 2 % of them, and falls to 0 in the last 60 %."""
    matrices = [weight for weight in model.layers.parameters() if weight.dim() == 2] if kind == "muon" else []
    others = [weight for weight in model.parameters() if all(weight is not matrix for matrix in matrices)]
    optimizers = [torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)]
    optimizers += [Muon(matrices)] if matrices else []
    peaks = [one.param_groups[0]["lr"] for one in optimizers]
    length, begun, step, share = model.config["max_position_embeddings"] + 1, time.monotonic(), 0, 0.0
    while share < 1:
        starts = torch.randint(len(ids) - length + 1, (batch,))
        loss = model.loss(torch.stack([ids[start : start + length] for start in starts]))
        loss.backward()
        for one, peak in zip(optimizers, peaks, strict=True):
            one.param_groups[0]["lr"] = peak * min(1, (share + 1e-3) / 0.02, (1 - share) / 0.6)
            one.step()
            one.zero_grad()
        if step % 50 == 0:
            print(f"step {step:5}  loss {loss.item():.3f}  {share:.0%}", flush=True)
        step, share = step + 1, (time.monotonic() - begun) / 60 / minutes


@torch.no_grad()
def validate(model, ids):
    """The loss on a text that was not learned from."""
    length = model.config["max_position_embeddings"] + 1
    return torch.stack([model.loss(cut[None]) for cut in ids.unfold(0, length, length - 1)]).mean().item()


# 4. Sampling: draw the next token, append it, and begin again.
@torch.no_grad()
def sample(model, ids, count, temperature=0.8):
    """The ids and `count` more. A low temperature makes probable tokens more probable."""
    for _ in range(count):
        window = torch.tensor([ids[-model.config["max_position_embeddings"] :]])
        logits = model(window)[0, -1] / max(temperature, 1e-4)
        ids = [*ids, int(torch.multinomial(logits.softmax(-1), 1))]
    return ids


# 5. The model folder: config.json, model.safetensors and tokenizer.json, as Hugging Face has them.
def save(folder, model, tokenizer):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({f"model.{name}": weight for name, weight in model.state_dict().items()}, folder / "model.safetensors")
    names = ["".join(NAME_OF[byte] for byte in token) for token in tokenizer.tokens]
    split = {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    pairs = [["".join(NAME_OF[byte] for byte in part) for part in pair] for pair in tokenizer.merges]
    end = {"id": tokenizer.end, "content": "<|endoftext|>", "special": True, "normalized": False}
    end |= {"single_word": False, "lstrip": False, "rstrip": False}
    stored = {"version": "1.0", "added_tokens": [end], "decoder": level}
    stored["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, level]}
    stored["model"] = {"type": "BPE", "vocab": {name: i for i, name in enumerate(names)}, "merges": pairs}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    for name, value in (("config", model.config), ("tokenizer", stored), ("tokenizer_config", settings)):
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1), encoding="utf-8")


def load(folder):
    """A model and its tokenizer, from a folder of `save` or of tinyslm (family qwen3, byte-level tokens)."""
    config = json.loads((folder / "config.json").read_text())
    assert (config["model_type"], config["tie_word_embeddings"]) == ("qwen3", True), f"{folder}: not a tied qwen3"
    weights = load_file(folder / "model.safetensors")
    model = Model(config)
    model.load_state_dict({name.removeprefix("model."): weight.float() for name, weight in weights.items()})
    stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    to_bytes = {name: bytes(BYTE_OF[character] for character in name) for name in stored["vocab"]}
    tokens = [to_bytes[name] for name in sorted(stored["vocab"], key=stored["vocab"].get)]
    return model, Tokenizer(tokens, [(to_bytes[left], to_bytes[right]) for left, right in stored["merges"]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["train", "sample"])
    parser.add_argument("paths", type=Path, nargs="+", help="train: TEXT OUT; sample: FOLDER")
    shape = {"width": 192, "depth": 4, "context": 192}
    options = shape | {"minutes": 4.0, "merges": 0, "optimizer": "muon", "prompt": "\n"}
    for name, usual in options.items():
        parser.add_argument(f"--{name}", type=type(usual), default=usual, help=f"by default {usual!r}")
    given = parser.parse_args()
    torch.manual_seed(1)
    if given.verb == "sample":
        model, tokenizer = load(given.paths[0])
        print(tokenizer.decode(sample(model, tokenizer.encode(given.prompt), 300)))
        return
    text, out = given.paths[0].read_text(encoding="utf-8"), given.paths[1]
    cut = len(text) * 9 // 10  # the last tenth is not learned from
    tokenizer = Tokenizer.learn(text[:cut], given.merges)
    learned, held_out = (torch.tensor(tokenizer.encode(part)) for part in (text[:cut], text[cut:]))
    model = Model(config_of(tokenizer.end + 1, given.width, given.depth, given.context))
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters; {len(learned):,} tokens to learn from")
    train(model, learned, given.minutes, given.optimizer)
    save(out, model, tokenizer)
    loss = validate(model, held_out)
    bits = loss / math.log(2) * len(held_out) / len(text[cut:].encode())
    print(f"{out}: on the last tenth of the text, loss {loss:.3f}, {bits:.3f} bits per byte")


if __name__ == "__main__":
    main()
