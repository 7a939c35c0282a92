"""The article's model: its four faults, their cost, and a comparison with published small models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import ndiff
from typing import Any

import torch
from torch import Tensor, nn

from tinyslm.core.config import build_config
from tinyslm.core.page import Block, Paragraph, Section, Table, escaped
from tinyslm.core.quantities import count
from tinyslm.course.blocks import Formula, Widget
from tinyslm.course.chapter import Chapter, stored_data
from tinyslm.course.printed import CorrectedBlock, PrintedBlock, UnmaskedBlock
from tinyslm.course.subject import Subject
from tinyslm.model.config import ModelConfig
from tinyslm.tokenizer.shown import face

TOKENS = 8
"""Tokens of the sentence in the pictures of what each position sees."""
_LLAMA = {"family": "llama", "head_dim": 64, "norm_eps": 1e-5}
PEERS = {
    "the article's": {"family": "tinyslm", "vocab_size": 30_000, "dim": 256, "depth": 8, "heads": 4},
    "SmolLM2-135M": {
        **_LLAMA,
        **{"vocab_size": 49_152, "dim": 576, "depth": 30, "heads": 9, "kv_heads": 3, "ffn_dim": 1536},
        **{"context": 8192, "rope_theta": 100_000.0, "tied": True},
    },
    "SmolLM2-1.7B": {
        **_LLAMA,
        **{"vocab_size": 49_152, "dim": 2048, "depth": 24, "heads": 32, "kv_heads": 32, "ffn_dim": 8192},
        **{"context": 8192, "rope_theta": 130_000.0, "tied": True},
    },
    "TinyLlama-1.1B": {
        **_LLAMA,
        **{"vocab_size": 32_000, "dim": 2048, "depth": 22, "heads": 32, "kv_heads": 4, "ffn_dim": 5632},
        **{"context": 2048, "tied": False},
    },
}
"""Shapes of published models, from their `config.json`."""
NORMS = {"rms": "RMSNorm", "layer": "LayerNorm"}
POSITIONS = {"rope": "rotary", "learned": "learned table"}
FEED_FORWARDS = {"swiglu": "SwiGLU", "geglu": "GeGLU", "gelu": "GELU", "gelu_tanh": "GELU", "relu": "ReLU"}
ROWS: dict[str, Callable[[ModelConfig], str]] = {
    "parameters": lambda config: count(config.parameters),
    "layers": lambda config: f"{config.depth}",
    "width": lambda config: f"{config.dim:,}",
    "heads": lambda config: f"{config.heads}",
    "key/value heads": lambda config: f"{config.kv_heads}",
    "head width": lambda config: f"{config.head_dim}",
    "feed-forward": lambda config: f"{FEED_FORWARDS[config.feed_forward]}, {config.ffn_dim:,}",
    "norm": lambda config: NORMS[config.norm],
    "positions": lambda config: POSITIONS[config.positions],
    "vocabulary": lambda config: f"{config.vocab_size:,}",
    "context": lambda config: f"{config.context:,}",
    "output embeddings": lambda config: "tied to the input" if config.tied else "separate",
    "KV cache, values per token": lambda config: f"{config.cached_values:,}",
}


@dataclass(frozen=True)
class Diff:
    """Lines of code: (" ", "-" or "+", the line)."""

    lines: Sequence[tuple[str, str]]

    def html(self) -> str:
        names = {" ": "span", "-": "del", "+": "ins"}
        rows = (f"<{names[sign]}>{escaped(f'{sign} {line}')}</{names[sign]}>" for sign, line in self.lines)
        return f'<pre class="diff" tabindex="0" aria-label="Changed lines">{"".join(rows)}</pre>\n'


def _blocks(subject: Subject) -> Iterator[Block]:
    yield Section("Which token sees which", tuple(_mask(subject)))
    yield Section("The code, line by line", tuple(_code()))
    yield Section("What the faults cost", tuple(_costs()))
    yield Section("What SmolLM and TinyLlama look like", tuple(_peers(subject)))


def _mask(subject: Subject) -> Iterator[Block]:
    yield Paragraph(
        "In a language model, each position may use the tokens up to itself and no later ones, because it has to "
        "predict the next one. You can measure this without reading the code: change one token, and see which "
        "outputs change. The pictures show this for the first tokens of the sentence: the article's block as "
        "printed, the corrected block without its mask, the corrected block, and your model."
    )
    yield Widget("reach", reaches(subject), "Which outputs change if one token changes")
    yield Paragraph(
        "As printed, a position sees only itself: whatever its depth, the model can only learn which token follows "
        "which. Without a mask, each position sees the whole text, including the next token. In the corrected block "
        "and in your model, each position sees itself and the tokens before it."
    )


def _code() -> Iterator[Block]:
    yield Paragraph(
        "The article's block, with the lines that are wrong (-) and the lines that correct them (+). The shapes are in "
        "the comments."
    )
    yield Diff(difference())
    yield Formula(
        (
            (
                "printed: scores = q @ k.T, [seq, heads, heads]",
                "at each position, its own heads are compared with each other; no position is compared with another",
            ),
            (
                "corrected: scores = q @ k.T, [heads, seq, seq]",
                "in each head, every position is compared with every position; the mask then hides the later ones",
            ),
            (
                "scale: 1 / sqrt(dim) = 1 / sqrt(256) = 0.0625; 1 / sqrt(head_dim) = 1 / sqrt(64) = 0.125",
                "a score is a sum of 64 products with variance 1, so its standard deviation is sqrt(64) = 8; 1/8 "
                "makes it 1",
            ),
            (
                "feed-forward: 1024 for every dim; 4 * dim = 4 * 256 = 1024",
                "correct for dim = 256 only; at dim = 1024 the layer would not be wider than its input",
            ),
        )
    )
    yield Paragraph(
        "A fifth fault is outside the block: the table of positions has 512 rows, and a longer text fails with an "
        "index error inside PyTorch. Rotary positions, as in SmolLM and TinyLlama, have no table."
    )


def _costs() -> Iterator[Block]:
    variants = article_runs()["result"]
    yield Paragraph(
        "The faults were corrected one after another and a model was trained each time, with the same text (the "
        "Python standard library) and the same batches. The loss on held-out text is measured twice. “Whole windows”: "
        "the model gets the whole text at once, as in the article's loop. “Past only”: it gets only the tokens before "
        "the one that it predicts, as when it generates. For a correct model the two are equal. The charts are "
        "measured on 8 windows, the table on 128."
    )
    charts = []
    highest = max(loss for one in variants for _, *losses in one["curve"] for loss in losses)
    for one in variants[:3]:
        steps, seen, honest = (list(column) for column in zip(*one["curve"], strict=True))
        series = [{"name": "whole windows", "x": steps, "y": seen}, {"name": "past only", "x": steps, "y": honest}]
        charts.append({"title": one["name"], "series": series, "xTitle": "updates", "range": [0, highest]})
    yield Widget("charts", {"charts": charts}, "Loss on whole windows and on the past only, for three variants")
    leak = variants[1]
    yield Paragraph(
        f"In the second chart, the loss on whole windows falls to {leak['whole_windows']:.2f}, which looks very good. "
        f"From the past only, it is {leak['past_only']:.2f}: the model copies the next token, which it sees, and "
        "cannot predict when there is none. A loss that is too good to be true is a sign of a leak."
    )
    rows = [
        (one["name"], f"{one['parameters']:,}", f"{one['whole_windows']:.3f}", f"{one['past_only']:.3f}")
        for one in variants
    ]
    yield Table(
        rows, ("variant", "parameters", "whole windows", "past only"), "Loss on held-out text after the last update"
    )
    yield Paragraph(
        "One seed each: differences of a few hundredths may be noise. To measure this again: python "
        "benchmarks/article_faults.py"
    )


def _peers(subject: Subject) -> Iterator[Block]:
    yield Paragraph(
        "The article says that SmolLM and TinyLlama are organised exactly like its model, scaled to hundreds of "
        "layers. They are not: SmolLM2-135M has 30 layers and TinyLlama 22, and they have a different norm, "
        "positions and feed-forward, and fewer key/value heads. Your model is in the last column."
    )
    shapes = {name: build_config(ModelConfig, settings, origin=name) for name, settings in PEERS.items()}
    shapes["yours"] = subject.model.config
    rows = [(name, *map(cell, shapes.values())) for name, cell in ROWS.items()]
    yield Table(rows, ("", *shapes))
    yield Formula(
        (
            ("RMSNorm: x / sqrt(mean(x * x)) * weight", "LayerNorm subtracts the mean first and adds a bias"),
            (
                "rotary: rotate each pair of values of q and k by position * frequency",
                "instead of adding a learned vector",
            ),
            (
                "SwiGLU: down(silu(gate(x)) * up(x))",
                "instead of down(gelu(up(x))): one projection gates the other",
            ),
            (
                "grouped-query attention: TinyLlama's 32 query heads share 4 key/value heads",
                "8 to 1, so the KV cache needs an eighth of the memory",
            ),
        )
    )
    yield Paragraph(
        "Depth is not what makes these models large: TinyLlama, with 22 layers of width 2,048, has eight times the "
        "parameters of SmolLM2-135M, with 30 layers of width 576. The family tinyslm is the article's model, corrected "
        "(tinyslm train --model.family tinyslm); the default family is built like the models of this table."
    )


def difference() -> list[tuple[str, str]]:
    """Lines of the printed and the corrected block: (" ", "-" or "+", the line)."""
    printed, corrected = (_source(block) for block in (PrintedBlock, CorrectedBlock))
    return [(line[0], line[2:]) for line in ndiff(printed, corrected) if line[0] in " -+"]


def _source(block: type[nn.Module]) -> list[str]:
    """The lines of a class, without its docstring and under one name."""
    lines = inspect.getsource(block).splitlines()
    return ["class Block(nn.Module):", *(line for line in lines[1:] if not line.strip().startswith('"""'))]


def reaches(subject: Subject) -> dict[str, Any]:
    """For each variant: which outputs (rows) change when one token (columns) changes, as lists of 0 and 1."""
    ids = list(subject.ids)[:TOKENS]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x_btd = torch.randn(1, len(ids), 64)
        blocks = {
            "as printed": PrintedBlock(64),
            "without a mask": UnmaskedBlock(64),
            "corrected": CorrectedBlock(64),
        }
    found = {name: _reach(block, x_btd, _flipped) for name, block in blocks.items()}
    found["your model"] = _reach(subject.model, torch.tensor([ids]), _replaced)
    return {"faces": [face(token) for token in subject.tokens[:TOKENS]], "variants": found}


def _flipped(x_btd: Tensor, place: int) -> Tensor:
    """Reverse the vector at one position: a shifted vector would be the same after LayerNorm."""
    changed = x_btd.clone()
    changed[:, place] = changed[:, place].flip(-1)
    return changed


def _replaced(ids_bt: Tensor, place: int) -> Tensor:
    changed = ids_bt.clone()
    changed[:, place] = 0 if int(ids_bt[0, place]) else 1
    return changed


@torch.no_grad()
def _reach(module: nn.Module, inputs: Tensor, change: Callable[[Tensor, int], Tensor]) -> list[list[int]]:
    before = module(inputs)
    limit = 1e-5 * float(before.abs().max())
    columns = [
        ((module(change(inputs, place)) - before).abs().amax((0, 2)) > limit).tolist()
        for place in range(inputs.shape[1])
    ]
    return [[int(one) for one in row] for row in zip(*columns, strict=True)]


def article_runs() -> dict[str, Any]:
    """What `benchmarks/article_faults.py` measured."""
    return stored_data("article.json")


ARTICLE = Chapter(
    "The article, corrected",
    "The four faults of the article's model as pictures, curves and code, and how SmolLM and TinyLlama differ.",
    lambda subject: list(_blocks(subject)),
    ("chart.js", "article.js"),
    ("chart.css", "article.css"),
)
