"""The report of `quantize`: size, speed, and predictions of held-out text, before and after each step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tinyslm.compression.finetune import Finetuning
from tinyslm.compression.judging import Judgement, judge
from tinyslm.compression.speed import Throughput, throughput
from tinyslm.compression.writing import State, stored_bytes
from tinyslm.data.shards import TokenSplit
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, model_of
from tinyslm.model.packed import PackedTensor
from tinyslm.model.weights import read_tensors


@dataclass(frozen=True)
class Row:
    """One state of the model: its size, its speed, and its predictions of held-out text (`None`: not measured).

    bytes and bits_per_weight count every tensor: tables, norms, biases and scales too. speed: of the original in fp32,
    and of the written folder as it is loaded.
    """

    name: str
    bytes: int
    bits_per_weight: float
    bits_per_byte: float | None = None
    judgement: Judgement | None = None
    speed: Throughput | None = None


@dataclass(frozen=True)
class Report:
    """The result of `quantize`.

    rows: the original, plain rounding, and the model after each further step; the last one was written.
    heldout_tokens: how much text the rows were evaluated on. notes: settings that could not be followed.
    """

    scheme: str
    group_size: int
    rows: Sequence[Row]
    heldout_tokens: int
    finetuning: Finetuning | None
    notes: Sequence[str]


def compare_states(
    source: Path, folder: Path, states: Mapping[str, State], heldout: TokenSplit | None, tokens: int
) -> tuple[list[Row], int]:
    """The rows of a report, and how many held-out tokens they were evaluated on (about `tokens` at most).

    source: the original's folder. folder: where the last of `states` was written; it is read back from there.
    """
    original, written = load_model(source), load_model(folder)
    sizes = [sum(tensor.nbytes for _, tensor in read_tensors(source, {})), *map(stored_bytes, states.values())]
    seeded = torch.Generator().manual_seed(0)
    ids = torch.randint(original.config.vocab_size, (original.config.context,), generator=seeded)
    rows = [
        Row(name, size, 8 * size / original.config.parameters)
        for name, size in zip(["original", *states], sizes, strict=True)
    ]
    for place, model in ((0, original), (-1, written)):
        rows[place] = replace(rows[place], speed=throughput(model, ids.tolist()))
    if heldout is None:
        return rows, 0
    models = [dense(original, state) for state in list(states.values())[:-1]] + [load_model(folder, dense=True)]
    end_id = load_tokenizer(source).eos_id
    first, judgements, seen = judge(original, models, heldout, end_id, tokens)
    rows[0] = replace(rows[0], bits_per_byte=first)
    rows[1:] = [
        replace(row, bits_per_byte=judgement.bits_per_byte, judgement=judgement)
        for row, judgement in zip(rows[1:], judgements, strict=True)
    ]
    return rows, seen


def dense(original: Decoder, state: State) -> Decoder:
    """The original with the weights of a state, unpacked."""
    tensors: dict[str, Tensor | PackedTensor] = {**state.others, **state.packed}
    config = original.config.model_copy(update={"tied": "lm_head.weight" not in tensors})
    return model_of(config, tensors, dtype=torch.float32, dense=True)
