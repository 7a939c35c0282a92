"""The residual stream: what each layer adds, the logit lens, and ablations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tinyslm.core.page import Block, Figures, Folded, Paragraph, Section, Table
from tinyslm.core.plots import PALETTE, Series, line_chart
from tinyslm.course.blocks import Formula, Widget
from tinyslm.course.chapter import Chapter
from tinyslm.course.subject import Subject
from tinyslm.inspection.ablation import ablate_each, parts_of, token_bits, token_sizes
from tinyslm.inspection.residual import Stream, logit_lens, residual_stream
from tinyslm.model.config import ModelConfig
from tinyslm.tokenizer.shown import face, show_token

LENS_TOKENS, NEXT_TOKENS = 4, 8
"""Likeliest tokens that are shown of each place of the lens, and after the sentence."""
OPERATIONS = 2e11
"""Multiplications that held-out text may take, about: seconds."""
MOST_HELD_OUT, SHORT_WINDOW = 4_096, 128
ACTIVATIONS: Mapping[str, str] = {
    "swiglu": "silu(z) = z / (1 + exp(−z))",
    "geglu": "gelu(z), nearly z where z > 0 and nearly 0 elsewhere",
    "gelu": "gelu(z), nearly z where z > 0 and nearly 0 elsewhere",
    "gelu_tanh": "gelu(z), nearly z where z > 0 and nearly 0 elsewhere",
    "relu": "relu(z) = max(0, z)",
}


def _blocks(subject: Subject) -> Iterator[Block]:
    found = residual_stream(subject.model, subject.ids)
    yield Section("What each layer adds", tuple(_additions(subject, found)))
    yield Section("Inside the feed-forward", tuple(_feed_forward(subject, found)))
    yield Section("The logit lens", (*_lens(subject, found), *_lens_over_time(subject)))
    yield Section(
        "Ablation: what if a part is missing?",
        (
            Paragraph(
                "When a part is switched off, it adds zero to the stream, and all later layers read the changed "
                "stream. The table shows by how much the bits per byte of the sentence rise without the part (below "
                "zero: they fall). All numbers were computed when this page was made."
            ),
            Widget("ablation", ablations(subject), "Parts that can be switched off"),
            Paragraph(
                "Interpret this with care. A part whose removal costs nothing is not useless: other parts may do the "
                "same work. The sentence is short, so small changes mean nothing. And later layers were not trained on "
                "zeros: a large loss shows that they depend on the part, not what it does."
            ),
        ),
    )


def _additions(subject: Subject, found: Stream) -> Iterator[Block]:
    config, count = subject.model.config, len(subject.ids)
    yield Paragraph(
        f"Every token has a vector of {config.dim} values that runs through the whole model: the residual stream. A "
        "layer does not replace it but adds to it. Attention adds information from other tokens; the feed-forward "
        "computes something from the vector of each token alone, and adds that. After the last layer, the vector is "
        "read as a prediction of the next token."
    )
    place, layer = count - 1, config.depth // 2
    before, after = found.hidden_ltd[layer, place], found.hidden_ltd[layer + 1, place]
    attention, mlp = found.attention_ltd[layer, place], found.feed_forward_ltd[layer, place]
    reads = _reads(config)
    yield Formula(
        (
            (reads[0], f"x: the stream, [{count}, {config.dim}]" + (reads[2] and f"; {reads[2]}")),
            (reads[1], "the stream after the layer"),
            (
                f"{_number(before[0])} + {_number(attention[0])} + {_number(mlp[0])} = {float(after[0]):.4f}",
                f"the first of the {config.dim} values of the last token, {face(subject.tokens[place])}, in layer "
                f"{layer + 1}",
            ),
        )
    )
    if config.residual_scale != 1:
        yield Paragraph(f"Both additions are first multiplied by {config.residual_scale:g}.")
    yield Paragraph(
        "The length of a vector is the square root of the sum of its squared values. The lengths below are means over "
        "all tokens but the first. In large models, the first token's vector is often much longer, because it is an "
        "attention sink."
    )
    yield from _lengths(found)


def _number(value: Tensor) -> str:
    return f"{float(value):.4f}" if float(value) >= 0 else f"(−{-float(value):.4f})"


def _length(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _reads(config: ModelConfig) -> tuple[str, str, str]:
    """Two lines of a block's formula, and a remark."""
    if config.residual != "serial":
        one = config.residual == "parallel_one_norm"
        remark = "both read the same" + (", through one norm" if one else ", each through a norm of its own")
        return "a = attention(norm(x)), f = feed_forward(norm(x))", "x + a + f", remark
    if config.norm_place == "after":
        return "a = norm(attention(x)), f = norm(feed_forward(x + a))", "x + a + f", "the norms come after"
    if config.norm_place == "both":
        forms = "a = norm(attention(norm(x))), f = norm(feed_forward(norm(x + a)))"
        return forms, "x + a + f", "norms before and after"
    return "a = attention(norm(x)), f = feed_forward(norm(x + a))", "x + a + f", "the norm scales its input"


def _lengths(found: Stream) -> Iterator[Block]:
    parts = {"stream, before": found.hidden_ltd[:-1], "attention": found.attention_ltd,
             "feed-forward": found.feed_forward_ltd}  # fmt: skip
    rest = {name: one[:, 1:].norm(dim=-1).mean(1).tolist() for name, one in parts.items()}
    first = {name: one[:, 0].norm(dim=-1).tolist() for name, one in parts.items()}
    layers = list(range(1, len(found.attention_ltd) + 1))
    lines = [Series(name, layers, values) for name, values in rest.items()]
    chart = line_chart(
        lines, title="Length of the stream, and of what is added", x_title="layer", x_axis="whole", legend="below"
    )
    yield Figures([(chart.svg(), chart.description)])
    rows = [(str(layer), *(_length(one[layer - 1]) for one in (*rest.values(), *first.values()))) for layer in layers]
    header = ("layer", *rest, *(f"{name}, first token" for name in first))
    yield Folded("The lengths as a table", (Table(rows, header),))


def _feed_forward(subject: Subject, found: Stream) -> Iterator[Block]:
    config = subject.model.config
    sizes = f"[{config.dim}] × [{config.dim}, {config.ffn_dim}]"
    name = (
        config.feed_forward if config.feed_forward == "relu" else "silu" if config.feed_forward == "swiglu" else "gelu"
    )
    yield Paragraph(
        f"The feed-forward processes one token at a time. It compares the token's vector with {config.ffn_dim:,} "
        "directions, each of which belongs to a neuron. Neurons that match become active, and each active neuron adds "
        "its own vector to the stream. Many facts that a model has memorized seem to be stored here (Geva et al., "
        "2021, arXiv:2012.14913)."
    )
    layer = config.depth // 2
    neuron = int(found.active_ltf[layer, -1].abs().argmax())
    up, gate = _neuron(subject, found, layer, neuron)
    value = _number(found.active_ltf[layer, -1, neuron])
    lines = [("up = x · W_up", f"{sizes}: one number for each neuron")]
    if gate is not None:
        lines.append((f"active = {name}(x · W_gate) × up", f"{sizes} too; {ACTIVATIONS[config.feed_forward]}"))
        example = f"{name}({_number(gate)}) × {_number(up)} = {value}"
    else:
        lines.append((f"active = {name}(up)", ACTIVATIONS[config.feed_forward]))
        example = f"{name}({_number(up)}) = {value}"
    lines.append((example, f"neuron {neuron:,} of layer {layer + 1}, the strongest at the last token"))
    lines.append(("f = active · W_down", f"[{config.ffn_dim}] × [{config.ffn_dim}, {config.dim}]"))
    yield Formula(lines)
    yield from _neurons(subject, found)


def _neuron(subject: Subject, found: Stream, layer: int, neuron: int) -> tuple[Tensor, Tensor | None]:
    """The products of the last token with the up direction of a neuron, and with its gate direction if it has one."""
    mlp: Any = subject.model.model.layers[layer].mlp
    read_d = found.read_ltd[layer, -1]
    products = [
        None if module is None else module(read_d)[neuron] for module in (mlp.up_proj, getattr(mlp, "gate_proj", None))
    ]
    assert products[0] is not None
    return products[0], products[1]


def _neurons(subject: Subject, found: Stream) -> Iterator[Block]:
    rows = []
    for layer, active_tf in enumerate(found.active_ltf):
        active_f = active_tf[-1]
        neuron = int(active_f.abs().argmax())
        value = float(active_f[neuron])
        mlp: Any = subject.model.model.layers[layer].mlp
        written_d = value * mlp.down_proj.weight[:, neuron].float()
        best = logit_lens(subject.model, written_d[None])[0].topk(3).indices.tolist()
        rows.append(
            (
                str(layer + 1),
                f"{float((active_f.abs() > 0.1 * abs(value)).float().mean()) * 100:.1f} %",
                f"{neuron:,}",
                f"{value:.4f}",
                " ".join(face(show_token(subject.tokenizer, token)) for token in best),
            )
        )
    last = face(subject.tokens[-1])
    header = ("layer", "neurons above 1/10 of the strongest", "strongest neuron", "its value", "tokens it promotes")
    yield Table(rows, header, f"The strongest neuron at the last token, {last}")
    yield Paragraph(
        "For the last column, the vector that this neuron adds is read as if it were the whole stream after the last "
        "layer: the column has the three likeliest tokens. In early layers that means little, because later layers "
        "still change the stream. The second column shows how few neurons matter at once: the share of neurons whose "
        "value is above a tenth of the strongest one's."
    )


def _lens(subject: Subject, found: Stream) -> Iterator[Block]:
    yield Paragraph(
        "The final norm and the output projection can be applied to the stream after any layer, as if it were the last "
        "(the logit lens; nostalgebraist, 2020). This shows in which layer the prediction of the next token appears. "
        "The model was not trained for this: the first rows often show the token itself, or nonsense. Choose a cell "
        "for details."
    )
    yield Widget("lens", lens(subject, found), "The logit lens after each layer")


@torch.inference_mode()
def lens(subject: Subject, found: Stream) -> dict[str, Any]:
    """For the embeddings and each layer, at each token: the likeliest next tokens with their probabilities, and the
    probability and rank of the one that does follow."""
    top, real, ids = [], [], torch.tensor(subject.ids[1:])
    for hidden_td in found.hidden_ltd:
        share_tv = logit_lens(subject.model, hidden_td).exp()
        best = share_tv.topk(LENS_TOKENS, -1)
        top.append(
            [list(zip(*one, strict=True)) for one in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
        )
        chosen_t = share_tv[:-1].gather(1, ids[:, None])
        ranks = (1 + (share_tv[:-1] > chosen_t).sum(-1)).tolist()
        real.append(list(zip(chosen_t[:, 0].tolist(), ranks, strict=True)))
    return {
        "tokens": [face(token) for token in subject.tokens],
        "top": top,
        "next": real,
        "faces": _faces(subject, (token for layer in top for row in layer for token, _ in row)),
    }


def _faces(subject: Subject, ids: Iterator[int]) -> dict[str, str]:
    return {str(token): face(show_token(subject.tokenizer, token)) for token in sorted(set(ids))}


def _lens_over_time(subject: Subject) -> Iterator[Block]:
    """The logit lens at some snapshots of the run."""
    if not subject.snapshots:
        yield Paragraph(
            "For a run with snapshots, this section shows how the predictions of each layer develop: train it with "
            "--train.snapshots 8."
        )
        return
    targets = torch.tensor([subject.ids[1:]])
    lines = []
    for step, model in subject.snapshot_models():
        hidden_ltd = residual_stream(model, subject.ids).hidden_ltd
        logprobs = [logit_lens(model, one)[:-1].gather(1, targets.T).mean() for one in hidden_ltd]
        bits = [-float(one) / math.log(2) for one in logprobs]
        lines.append(Series(f"after {step:,} updates", list(range(len(bits))), bits))
    kept = lines if len(lines) <= len(PALETTE) else [lines[n * (len(lines) - 1) // 4] for n in range(5)]
    chart = line_chart(
        kept,
        title="Bits per token, read after each layer",
        x_title="layer (0: embeddings)",
        x_axis="whole",
        legend="below",
    )
    yield Paragraph(
        "The same during training: how well the logit lens predicts the sentence after each layer. Early in training, "
        "all layers predict equally well; later, most layers predict better than the one before."
    )
    yield Figures([(chart.svg(), chart.description)])


@torch.inference_mode()
def ablations(subject: Subject) -> dict[str, Any]:
    """The sentence, and held-out text, without each part of the model.

    `parts`: layer and kind (a head's number from 1, or a name), bits per byte of the sentence and of held-out text
    (with two standard errors of its change, or null), bits of each token, and the likeliest tokens after the sentence,
    with and without the part: their probabilities in the whole model, and without it. `whole`: the bits of the whole
    model.
    """
    model = subject.model
    sizes_v = token_sizes(subject.tokenizer, model.config.vocab_size)
    held_out = _held_out(subject)
    sentence = torch.tensor([list(subject.ids)])
    whole_tv = model.logits(model.model(sentence)[0]).float()
    whole = _measured(whole_tv, sentence, sizes_v)
    plain_bt = None
    if held_out is not None:
        plain_bt = token_bits(model, model.model(held_out[:, :-1]), held_out[:, 1:])
        whole["held_out"] = [_per_byte(plain_bt, held_out, sizes_v), 0.0]
    parts = []
    for part, hidden_btd in ablate_each(model, sentence):
        logits_tv = model.logits(hidden_btd[0]).float()
        one = {**_measured(logits_tv, sentence, sizes_v), "next": _next(whole_tv[-1], logits_tv[-1])}
        parts.append({"layer": part.layer, "kind": part.head or part.kind, **one})
    if held_out is not None and plain_bt is not None:
        for one, (_, hidden_btd) in zip(parts, ablate_each(model, held_out[:, :-1]), strict=True):
            bits_bt = token_bits(model, hidden_btd, held_out[:, 1:])
            error = 2 * float((bits_bt - plain_bt).std()) * bits_bt.numel() ** 0.5
            bytes_of = max(1, int(sizes_v[held_out[:, 1:]].sum()))
            one["held_out"] = [_per_byte(bits_bt, held_out, sizes_v), error / bytes_of]
    ids = (token for one in parts for token, _, _ in one["next"])
    return {
        "tokens": [face(token) for token in subject.tokens],
        "heads": model.config.heads,
        "layers": model.config.depth,
        "held_out_tokens": 0 if held_out is None else held_out[:, 1:].numel(),
        "whole": whole,
        "parts": parts,
        "faces": _faces(subject, ids),
    }


def _measured(logits_tv: Tensor, ids_bt: Tensor, sizes_v: Tensor) -> dict[str, Any]:
    bits_t = functional.cross_entropy(logits_tv[:-1], ids_bt[0, 1:], reduction="none") / math.log(2)
    return {"bits": _per_byte(bits_t, ids_bt, sizes_v), "held_out": None, "token_bits": bits_t.tolist()}


def _next(whole_v: Tensor, without_v: Tensor) -> list[tuple[int, float, float]]:
    """The likeliest tokens of either logits with their probabilities, the likeliest in the second ones first."""
    shares = torch.stack([whole_v, without_v]).softmax(-1)
    ids = shares.topk(NEXT_TOKENS).indices.unique()
    ids = ids[shares[1, ids].argsort(descending=True)]
    return list(zip(ids.tolist(), *shares[:, ids].tolist(), strict=True))


def _per_byte(bits_bt: Tensor, ids_bt: Tensor, sizes_v: Tensor) -> float:
    return float(bits_bt.sum()) / max(1, int(sizes_v[ids_bt[:, 1:]].sum()))


def _held_out(subject: Subject) -> Tensor | None:
    """As many short held-out windows `[n, t + 1]` as are read without each part in seconds."""
    windows, config = subject.held_out, subject.model.config
    if windows is None:
        return None
    table = config.vocab_size * config.dim
    blocks = config.parameters - table * (1 if config.tied else 2)
    count = config.depth * len(parts_of(config, 1))
    tokens = min(MOST_HELD_OUT, int(OPERATIONS / (count * (blocks / 2 + table))))
    length = min(SHORT_WINDOW, windows.shape[1] - 1)
    return windows[: max(1, tokens // length), : length + 1]


@torch.inference_mode()
def _make(subject: Subject) -> list[Block]:
    return list(_blocks(subject))


RESIDUAL = Chapter(
    "Feed-forward and the residual stream",
    "What each layer adds to a token's vector, what the logit lens reads from it, and what is lost without a part.",
    _make,
    ("grid.js", "residual.js"),
    ("grid.css", "residual.css"),
)
