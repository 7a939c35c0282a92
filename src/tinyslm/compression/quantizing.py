"""A model folder in fewer bits: `quantize`."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from tinyslm.compression.calibration import calibrate
from tinyslm.compression.config import QuantizeConfig
from tinyslm.compression.finetune import Repair, Repaired, repair
from tinyslm.compression.report import Report, compare_states
from tinyslm.compression.rounding import round_to_nearest
from tinyslm.compression.schemes import SCHEMES, Plan, plan
from tinyslm.compression.text import open_texts, refuse_short
from tinyslm.compression.writing import REPORT, State, write_packed
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import atomic_folder, write_json
from tinyslm.core.json_files import read_json
from tinyslm.core.locks import new_output
from tinyslm.data.documents import Notify, Progress, silent
from tinyslm.data.loader import Loader
from tinyslm.data.shards import TokenSplit
from tinyslm.hardware.device import pick_dtype
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model, load_tokenizer, read_model_config, state_tensors
from tinyslm.model.packed import PackedTensor, read_packing
from tinyslm.training.validation import even_windows

CONTEXT = 512
"""Longest windows that are learned from."""
CALIBRATION_TOKENS = 32_768
CHECK_TOKENS = 8_192
BATCH_TOKENS = 2_048


def quantize(
    model: str | Path,
    out: str | Path,
    config: QuantizeConfig | None = None,
    *,
    notify: Notify = silent,
    progress: Progress = silent,
) -> Report:
    """Write the model in the folder `model` to the new folder `out`, its matrices in fewer bits, on the CPU.

    The report is also written, as `quantization.json`. progress: told `(stage, bytes done, bytes in all)`. The first
    Ctrl-C while it fine-tunes ends that, and the best so far is written; any other leaves nothing behind.
    Raises `TinyslmError` when the model, the text or `out` cannot be used.
    """
    config = config or QuantizeConfig()
    source, out = find_model(Path(model)), Path(out)
    with new_output(out):
        _refuse(source, config)
        return _quantized(source, out, config, notify, progress)


def _quantized(source: Path, out: Path, config: QuantizeConfig, notify: Notify, progress: Progress) -> Report:
    original, tokenizer = load_model(source), load_tokenizer(source)
    todo = plan(original, config.scheme, config.group_size)
    for note in todo.notes:
        notify(note)
    with tempfile.TemporaryDirectory() as work:
        texts = open_texts(config, tokenizer, Path(work), notify, progress)
        states = {"rounded to nearest": _rounded(original, todo, progress)}
        if texts.calibration and config.method != "rtn":
            states["GPTQ"] = _calibrated(original, states["rounded to nearest"], texts.calibration, progress)
        finetuning = None
        if texts.training and config.finetune:
            repaired = _repaired(original, _last(states), texts.training, config, notify, progress)
            states["fine-tuned"], finetuning = repaired.state, repaired.finetuning
        with atomic_folder(out) as folder:
            write_packed(source, folder, config.scheme, _last(states))
            progress("judge", 0, 0)
            rows, seen = compare_states(source, folder, states, texts.heldout, config.judge_tokens)
            report = Report(config.scheme, config.group_size, rows, seen, finetuning, todo.notes)
            write_json(folder / REPORT, asdict(report))
    return report


def _refuse(source: Path, config: QuantizeConfig) -> None:
    """Raise `TinyslmError` for what can be known to fail before anything is computed."""
    SCHEMES[config.scheme]
    read_model_config(source)
    if read_packing(read_json(source / "config.json"), str(source / "config.json")) is not None:
        raise TinyslmError(f"The model in {source} is quantized already.", "Give the model that it was made from.")
    text = config.data or config.calibrate
    if config.method == "gptq" and not text:
        raise TinyslmError(
            "GPTQ measures which weights matter most, and no text to measure with was given.",
            "Give text like that which the model is for (--calibrate TEXT), or --method rtn.",
        )
    if config.finetune and not text:
        raise TinyslmError(
            "No text to fine-tune on was given.", "Give text like the model's training text: --data TEXT."
        )


@torch.no_grad()
def _rounded(original: Decoder, todo: Plan, progress: Progress) -> State:
    tensors = state_tensors(original)
    done, total = 0, sum(tensors[name].nbytes for name in todo.layouts)
    packed: dict[str, PackedTensor] = {}
    for name, layout in todo.layouts.items():
        weight = tensors.pop(name)
        packed[name] = round_to_nearest(weight, layout)
        done += weight.nbytes
        progress("round", done, total)
    return State(packed, tensors)


def _calibrated(original: Decoder, nearest: State, split: TokenSplit, progress: Progress) -> State:
    length = window_length(original, split, "GPTQ")
    windows_nt = even_windows(split, length, CALIBRATION_TOKENS)[:, :-1]
    return State(calibrate(original, nearest.packed, windows_nt, progress), nearest.others)


def _repaired(
    original: Decoder, start: State, split: TokenSplit, config: QuantizeConfig, notify: Notify, progress: Progress
) -> Repaired:
    length = window_length(original, split, "fine-tuning")
    loader = Loader(split, context=length, batch=max(1, BATCH_TOKENS // length), seed=config.seed)
    bytes_a_token = split.utf8_bytes / split.tokens

    def told(share: float, tokens: int) -> None:
        read = tokens * bytes_a_token
        progress("fine-tune", int(read), int(read / share) if share else 0)

    settings = Repair(seconds=60 * config.finetune, dtype=pick_dtype(torch.device("cpu")))
    return repair(
        original,
        start,
        lambda: torch.from_numpy(loader.next()),
        even_windows(split, length, CHECK_TOKENS),
        settings,
        progress=told,
        notify=notify,
    )


def window_length(model: Decoder, split: TokenSplit, use: str) -> int:
    """How long the windows are that are learned from; `TinyslmError` where the text has too few of them."""
    length = min(CONTEXT, model.config.context)
    refuse_short(split, length, use)
    return length


def _last(states: Mapping[str, State]) -> State:
    return list(states.values())[-1]
