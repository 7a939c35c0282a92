"""Attention: queries, keys, rotation, mask, softmax and the weighted sum; and what the heads do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tinyslm.core.page import Block, Figures, Folded, Paragraph, Section, Table
from tinyslm.core.plots import Series, line_chart
from tinyslm.course.blocks import Formula, Widget
from tinyslm.course.chapter import Chapter
from tinyslm.course.subject import Subject
from tinyslm.inspection.ablation import Part, ablate, hide_position, token_bits
from tinyslm.inspection.attention import Gathering, listen
from tinyslm.inspection.head_kinds import KINDS, HeadKinds, head_kinds, repetition_bits
from tinyslm.model.config import ModelConfig
from tinyslm.model.rotary import apply_rotary
from tinyslm.tokenizer.shown import face

WEIGHT_UNIT = 1e-4
"""Weights are whole numbers of this unit on the page."""
MOST_NUMBERS = 160_000
"""Numbers of queries, keys and values on the page. They are there for fewer heads if all need more."""
CLEAR = 0.25
"""A head is of a kind if its mean weight at that position is at least this, and larger than for any other kind."""
SINK = 1.5
"""The first token is preferred if it gets this many times the weight of uniform attention."""
HIDDEN_TOKENS = 1_024
"""Held-out tokens that are read with a hidden place."""


def _blocks(subject: Subject) -> Iterator[Block]:
    kinds = head_kinds(subject.model, subject.tokenizer)
    _, found = listen(subject.model, subject.ids, range(subject.model.config.depth))
    weights = np.stack([found[layer].weights() for layer in sorted(found)])
    yield Section("What it computes", tuple(_formulas(subject, found, weights, explained_heads(subject, kinds)[0])))
    yield Section(
        "Step by step",
        (
            Paragraph(
                "Choose a layer, one of its heads, and a token. The arcs lead to the tokens that it attends to; a "
                "thicker arc is a larger weight. In the heat map, rows are queries and columns are keys. The upper "
                "right half is empty: the mask hides later tokens. Below are the numbers, step by step; the page "
                "computes them as the model does."
            ),
            Widget("attention", attention_data(subject, found, weights, kinds), "Attention of one head, step by step"),
        ),
    )
    yield Section("What heads do", tuple(_heads(subject, kinds)))
    yield Section("Why the first token gets most of the attention", tuple(_first(subject, found, weights)))


def attention_data(
    subject: Subject, found: dict[int, Gathering], weights_lhtt: NDArray[Any], kinds: HeadKinds
) -> dict[str, Any]:
    """What the widget shows: the weights of all heads, and of some or all what the weights come from.

    Layers, heads and places count from 0. `steps` has queries before rotation by head, `groups` keys and values.
    """
    rows, columns = np.tril_indices(len(subject.ids))
    whole = np.rint(weights_lhtt[:, :, rows, columns] / WEIGHT_UNIT).astype(int).tolist()
    explained = explained_heads(subject, kinds)
    rotations: list[dict[str, Any]] = []
    size = subject.model.config.heads // subject.model.config.kv_heads
    steps, groups = {}, {}
    for layer, head in explained:
        group = head // size
        steps[f"{layer},{head}"] = {"group": f"{layer},{group}", "q": found[layer].q_bthk[0, :, head].tolist()}
        k_tk, v_tk = found[layer].k_btgk[0, :, group], found[layer].v_btgk[0, :, group]
        groups[f"{layer},{group}"] = {"k": k_tk.tolist(), "v": v_tk.tolist()}
    return {
        "tokens": [face(token) for token in subject.tokens],
        "weights": whole,
        "kinds": [[_label(kinds, layer, head) for head in range(len(one))] for layer, one in enumerate(whole)],
        "layers": [_layer(found[layer], rotations) for layer in sorted(found)],
        "rotations": rotations,
        "steps": steps,
        "groups": groups,
        "adds": [_adds(found[layer], weights_lhtt[layer]) for layer in sorted(found)],
        "head": explained[0],
        "grouped": size,
    }


def explained_heads(subject: Subject, kinds: HeadKinds) -> list[tuple[int, int]]:
    """Layer and head, from 0, of the heads whose steps are on the page: the clearest of each kind first, then others,
    evenly spread, while there is room. The very first is the clearest one that goes by the previous token."""
    config = subject.model.config
    room = max(len(KINDS), MOST_NUMBERS // (3 * config.head_dim * len(subject.ids)))
    clearest = [_clearest(kinds, kind.name) for kind in KINDS]
    every = [(layer, head) for layer in range(config.depth) for head in range(config.heads)]
    spread = [every[place * len(every) // room] for place in range(room)] if room < len(every) else every
    return list(dict.fromkeys([*clearest, *spread]))[:room]


def _clearest(kinds: HeadKinds, name: str) -> tuple[int, int]:
    layer, head = np.unravel_index(int(kinds.shares[name].argmax()), kinds.shares[name].shape)
    return int(layer), int(head)


def _label(kinds: HeadKinds, layer: int, head: int) -> dict[str, Any]:
    """The kind of a head, and how much it gives the place of that kind; no kind if it is none clearly."""
    shares = {kind.short: float(kinds.shares[kind.name][layer, head]) for kind in KINDS}
    best = max(shares, key=lambda name: shares[name])
    return {"kind": best if shares[best] >= CLEAR else "", "share": round(shares[best], 4)}


def _layer(gathering: Gathering, rotations: list[dict[str, Any]]) -> dict[str, Any]:
    """How a layer's scores are made: which rotation (-1: none), scale, cap and window (0: none)."""
    module, number = gathering.module, -1
    if (cos_sin := module.rotation(gathering.attn)) is not None:
        half = cos_sin.cos.shape[-1] // 2
        # `sin` has the negative of the sine in its first half.
        turn = {"cos": cos_sin.cos[0, :, 0, :half].tolist(), "sin": cos_sin.sin[0, :, 0, half:].tolist()}
        if turn not in rotations:
            rotations.append(turn)
        number = rotations.index(turn)
    config = module.config
    window = config.window if module.windowed else 0
    return {"rotation": number, "scale": module.scale, "cap": config.attention_cap, "window": window}


@torch.inference_mode()
def _adds(gathering: Gathering, weights_htt: NDArray[Any]) -> list[list[float]]:
    """The length of what each head writes for each token, after its part of the output product: `[h, t]`."""
    v_tgk, projection = gathering.v_btgk[0].float(), gathering.module.o_proj.weight.float()
    heads, width = len(weights_htt), v_tgk.shape[-1]
    v_htk = v_tgk.transpose(0, 1).repeat_interleave(heads // v_tgk.shape[1], 0)
    out_htk = torch.from_numpy(weights_htt) @ v_htk
    parts_hkd = projection.T.unflatten(0, (heads, width))
    lengths: list[list[float]] = (out_htk @ parts_hkd).norm(dim=-1).tolist()
    return [[float(f"{one:.4g}") for one in row] for row in lengths]


def _formulas(
    subject: Subject, found: dict[int, Gathering], weights_lhtt: NDArray[Any], head: tuple[int, int]
) -> Iterator[Block]:
    config, count = subject.model.config, len(subject.ids)
    layer, number = head
    gathering = found[layer]
    weights_t = weights_lhtt[layer, number, -1]
    value = float(weights_t @ gathering.v_btgk[0, :, number // (config.heads // config.kv_heads), 0].numpy())
    looked = int(weights_t.argmax())
    shared = config.heads // config.kv_heads
    last, there = face(subject.tokens[-1]), face(subject.tokens[looked])
    yield Paragraph(
        "Attention is the only part of the model in which a token sees other tokens. Each head computes three vectors "
        "for every token. The query says what the token looks for, the key what it contains, the value what it passes "
        "on. If a query and a key point in the same direction, their product is large, and so is the weight of that "
        "value."
    )
    sizes = f"[{count}, {config.dim}] × [{config.dim}, "
    width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
    yield Formula(
        (
            (
                "queries = x · W_q",
                f"{sizes}{width}]; x: the layer's normalized input for {count} tokens; heads × head width: "
                f"{config.heads} × {config.head_dim}",
            ),
            (
                "keys = x · W_k, values = x · W_v",
                f"{sizes}{kv_width}] each; heads × head width: {config.kv_heads} × {config.head_dim}"
                + (f"; {shared} heads share the keys and values of one (grouped-query attention)" * (shared > 1)),
            ),
            (
                "score(t, s) = scale × (query of t) · (key of s)",
                f"s is the token t itself or an earlier one; scale = {gathering.module.scale:.4g}"
                + (" = 1 / √head width" * (abs(gathering.module.scale - config.head_dim**-0.5) < 1e-9)),
            ),
            (
                f"{gathering.module.scale:.4g} × {_product(gathering, number, looked):.3f} = "
                f"{gathering.module.scale * _product(gathering, number, looked):.3f}",
                f"layer {layer + 1}, head {number + 1}, t = “{last}”, the last token; s = “{there}”",
            ),
            (
                "weight(t, s) = exp(score(t, s)) / sum of exp(score(t, r)) over all visible r",
                f"the softmax: of these two tokens, {float(weights_t[looked]):.4f}; the weights of t add up to 1",
            ),
            (
                "output(t) = sum of weight(t, s) × (value of s) over all visible s",
                f"[{config.head_dim}] for each head; the first value is {value:.4f}".replace("-", "−"),
            ),
            (
                "attention(x) = outputs · W_o",
                f"[{count}, {width}] × [{width}, {config.dim}]: the outputs of all heads side by side; this is added "
                "to the residual stream (the next chapter)",
            ),
        )
    )
    yield Paragraph(_positions(config))
    for said in _further(config):
        yield Paragraph(said)


@torch.inference_mode()
def _product(gathering: Gathering, head: int, place: int) -> float:
    """The query of the last token times the key of another one, after rotation."""
    size = gathering.q_bthk.shape[2] // gathering.k_btgk.shape[2]
    q_bthk, k_btgk = gathering.q_bthk, gathering.k_btgk
    if (cos_sin := gathering.module.rotation(gathering.attn)) is not None:
        q_bthk, k_btgk = apply_rotary(q_bthk, cos_sin), apply_rotary(k_btgk, cos_sin)
    return float(q_bthk[0, -1, head] @ k_btgk[0, place, head // size])


def _positions(config: ModelConfig) -> str:
    if config.positions == "learned":
        return (
            "This model has a learned vector for each position, which is added to the embedding. Queries and keys "
            "are not rotated, so that step is missing below."
        )
    part = "all" if config.rotary_share == 1 else f"the first {config.rotary_dim}"
    said = (
        f"Before they are multiplied, queries and keys are rotated (rotary positions): {part} of their values form "
        "pairs, and each pair is rotated by an angle proportional to the position of the token, with a different "
        "frequency for each pair. The product of two rotated vectors depends only on the difference of their angles, "
        "so a score depends on the distance between two tokens and not on where they are in the text."
    )
    if config.unrotated_layers:
        numbers = ", ".join(str(layer + 1) for layer in config.unrotated_layers)
        said += f" Some layers of this model have no rotation and so no positions: {numbers}."
    return said


def _further(config: ModelConfig) -> Iterator[str]:
    """Sentences about other features of this model's attention."""
    if config.qk_norm:
        over = "each head's vector" if config.qk_norm_over == "head" else "all heads together as one vector"
        yield (
            f"This model normalises queries and keys first ({over}): each vector gets the same length and is then "
            "multiplied by learned weights, so a score cannot grow because a vector is long. The numbers below are "
            "those after the norm."
        )
    if config.window_layers:
        which = "All layers" if len(config.window_layers) == config.depth else f"{len(config.window_layers)} layers"
        yield f"{which} see a sliding window: the last {config.window:,} tokens, the token itself included."
    if config.attention_cap:
        yield f"Scores are limited to ±{config.attention_cap:g} (soft cap): cap × tanh(score / cap)."


def _heads(subject: Subject, kinds: HeadKinds) -> Iterator[Block]:
    config = subject.model.config
    yield Paragraph(
        f"Heads are classified by the positions that they attend to. To measure this, the model reads "
        f"{len(kinds.ids_nt)} sequences of {kinds.period} random tokens, each repeated once. Random tokens have no "
        "meaning together, so a head can only use positions or equal tokens. An induction head finds an earlier "
        "occurrence of the current token and attends to the token after it; this is how a model repeats what it has "
        "read. It needs a head in an earlier layer that attends to the previous token."
    )
    labels = [[_label(kinds, layer, head) for head in range(config.heads)] for layer in range(config.depth)]
    yield Paragraph(
        "The share is the mean weight of a head at this position; uniform attention would give "
        f"{100 * kinds.chance:.1f} %. A head with less than {100 * CLEAR:.0f} % for every kind has no clear kind. "
        "Choose a head to see it above."
    )
    yield Widget("heads", {"labels": labels}, "Kinds of the heads")
    yield _strongest(subject, kinds)
    first, second = repetition_bits(subject.model, kinds)
    yield Paragraph(
        f"Does this model copy? A random token costs it {first:.2f} bits when it is new, and {second:.2f} bits when "
        "the sequence is repeated. The last column above is the cost of the repetition with that one head switched "
        "off: if copying depends on the head, the number is higher."
    )
    yield from _forming(subject)


def _strongest(subject: Subject, kinds: HeadKinds) -> Table:
    rows = []
    for kind in KINDS:
        layer, head = _clearest(kinds, kind.name)
        off = ablate(subject.model, [Part(layer + 1, "head", head + 1)])
        rows.append(
            (
                kind.name,
                kind.looks,
                f"layer {layer + 1}, head {head + 1}",
                f"{100 * float(kinds.shares[kind.name][layer, head]):.1f} %",
                f"{repetition_bits(off, kinds)[1]:.2f}",
            )
        )
    header = ("kind", "attends to", "clearest head", "share", "bits per token without it")
    return Table(rows, header, "The clearest head of each kind")


def _forming(subject: Subject) -> Iterator[Block]:
    """The clearest head of each kind over the snapshots of the run."""
    if not subject.snapshots:
        yield Paragraph(
            "For a run with snapshots, this section shows when the kinds of heads form: train it with "
            "--train.snapshots 8."
        )
        return
    steps: list[int] = []
    best: dict[str, list[float]] = {kind.name: [] for kind in KINDS}
    for step, model in subject.snapshot_models():
        steps.append(step)
        for name, shares_lh in head_kinds(model, subject.tokenizer).shares.items():
            best[name].append(100 * float(shares_lh.max()))
    lines = [Series(name, steps, shares) for name, shares in best.items()]
    chart = line_chart(lines, title="Clearest head (% of its weight)", x_title="updates", y_axis="zero", legend="below")
    yield Paragraph(
        "When they form: the share of the clearest head of each kind at each snapshot, starting with the untrained "
        "model."
    )
    yield Figures([(chart.svg(), chart.description)])


def _first(subject: Subject, found: dict[int, Gathering], weights_lhtt: NDArray[Any]) -> Iterator[Block]:
    share_l = weights_lhtt[:, :, 1:, 0].mean((1, 2))
    even = float((1 / np.arange(2, len(subject.ids) + 1)).mean())
    said = (
        f"After the first token, “{face(subject.tokens[0])}”, the tokens of this sentence give it "
        f"{100 * float(share_l.mean()):.0f} % of their attention, averaged over all heads. Uniform attention would "
        f"give it {100 * even:.0f} %."
    )
    if share_l.mean() < SINK * even:
        said += " So this model hardly prefers it. Larger models that are trained for longer usually do."
    yield Paragraph(said)
    yield Paragraph(
        "There are two causes. The first token is the only one that every token sees. And the weights of a row always "
        "add up to 1, so a head that finds nothing cannot attend to nothing. It learns to put its weight on the first "
        "token, whose value vector becomes short, so that it adds little. Such a token is called an attention sink "
        "(Xiao et al., 2023, arXiv:2309.17453)."
    )
    lengths = [found[layer].v_btgk[0].float().norm(dim=-1).mean(-1) for layer in sorted(found)]
    layers = list(range(1, len(found) + 1))
    here, others = [float(one[0]) for one in lengths], [float(one[1:].mean()) for one in lengths]
    share = line_chart(
        [Series("share", layers, (100 * share_l).tolist())],
        title="Attention to the first token (%)",
        x_title="layer",
        x_axis="whole",
        y_axis="zero",
    )
    values = line_chart(
        [Series("first token", layers, here), Series("mean of the others", layers, others)],
        title="Length of the value vectors",
        x_title="layer",
        x_axis="whole",
        y_axis="zero",
        legend="below",
    )
    yield Figures([(share.svg(), share.description), (values.svg(), values.description)])
    rows = [
        (str(layer), f"{100 * one:.1f} %", f"{first:.3g}", f"{other:.3g}")
        for layer, one, first, other in zip(layers, share_l.tolist(), here, others, strict=True)
    ]
    header = ("layer", "attention to the first token", "length of its value", "of other values")
    yield Folded("The same as a table", (Table(rows, header),))
    yield from _hidden(subject)


def _hidden(subject: Subject) -> Iterator[Block]:
    """What it costs to hide the first token, or another one."""
    windows = subject.held_out
    length = min(128, windows.shape[1] - 1) if windows is not None else 0
    if windows is None:
        ids_bt, what = torch.tensor([list(subject.ids)]), "this sentence"
    else:
        ids_bt = windows[: max(1, HIDDEN_TOKENS // length), : length + 1]
        what = f"{ids_bt[:, 1:].numel():,} tokens of held-out text, in windows of {length}"
    if ids_bt.shape[1] < 4:
        return
    inputs, targets = ids_bt[:, :-1], ids_bt[:, 1:]
    skip = 2  # predictions from the first two positions, which the masks change most

    def cost(place: int | None) -> float:
        hidden_btd = hide_position(subject.model, inputs, place)
        return float(token_bits(subject.model, hidden_btd, targets)[:, skip:].mean())

    rows = [
        ("nothing", f"{cost(None):.3f}"),
        ("the first token", f"{cost(0):.3f}"),
        ("the second token", f"{cost(1):.3f}"),
    ]
    yield Paragraph(
        f"What if a token is hidden from all later ones? Hiding the first token removes its content and the attention "
        f"sink. Hiding the second one removes its content only. Measured on {what}, without the first two tokens:"
    )
    yield Table(rows, ("hidden", "bits per token"))


ATTENTION = Chapter(
    "Attention",
    "How a token reads the tokens before it: queries, keys, mask, softmax and the weighted sum, with real numbers; and "
    "what the heads of the model do.",
    lambda subject: list(_blocks(subject)),
    ("grid.js", "attention.js"),
    ("grid.css", "attention.css"),
)
