"""Quantizing a model folder."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from tinyslm.compression.calibration import calibrate
from tinyslm.compression.config import QuantizeConfig
from tinyslm.compression.finetune import Repair, Repaired, repair
from tinyslm.compression.judging import divergence
from tinyslm.compression.report import Report, compare_states, dense
from tinyslm.compression.rounding import Scales, best_scales, plain_scales, round_to_nearest
from tinyslm.compression.schemes import SCHEMES, Plan, plan
from tinyslm.compression.text import check_length, least_tokens, open_texts, with_learned
from tinyslm.compression.writing import REPORT, State, write_quantized
from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import atomic_folder, write_json
from tinyslm.core.json_files import read_json
from tinyslm.core.locks import new_output
from tinyslm.data.documents import Notify, Progress, silent
from tinyslm.data.shards import TokenSplit
from tinyslm.hardware.device import pick_dtype
from tinyslm.inspection.importance import Importance, column_importance
from tinyslm.inspection.own_text import own_text
from tinyslm.model.compressed_tensors import is_quantized
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model, load_tokenizer, model_of, read_model_config, state_tensors
from tinyslm.model.packed import PackedTensor
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.pipeline import Watch
from tinyslm.training.stages.distill_text import DistillText
from tinyslm.training.stages.pretrain import WindowBatches
from tinyslm.training.validation import even_windows
from tinyslm.training.world import World

CONTEXT = 512
"""Longest windows to learn from."""
CALIBRATION_TOKENS = 32_768
TRIAL_TOKENS = 2_048
"""Tokens of text on which the ways to choose scales are compared."""
BATCH_TOKENS = 2_048
MOST_JUDGED, FEWEST_JUDGED, JUDGED_PRODUCTS = 50_000, 4_096, 1e12
"""Default number of held-out tokens: `JUDGED_PRODUCTS` divided by the parameters, within the bounds."""


def quantize(
    model: str | Path,
    out: str | Path,
    config: QuantizeConfig | None = None,
    *,
    notify: Notify = silent,
    progress: Progress = silent,
) -> Report:
    """Write the model of the folder `model` to the new folder `out`, its layers in fewer bits, on the CPU.

    The report is also written to `out`, as `quantization.json`. progress: receives `(stage, bytes done, bytes in all)`.
    The first Ctrl-C during fine-tuning ends it, and the best weights so far are written; any other leaves nothing.
    Raises `TinyslmError` when the model, the text or `out` cannot be used.
    """
    config = config or QuantizeConfig()
    source, out = find_model(Path(model)), Path(out)
    with new_output(out):
        _check(source, config := _with_learned(Path(model), source, config, notify))
        return _quantized(source, out, config, notify, progress)


def _quantized(source: Path, out: Path, config: QuantizeConfig, notify: Notify, progress: Progress) -> Report:
    original, tokenizer = untied(load_model(source)), load_tokenizer(source)
    todo = plan(original, config.scheme, config.group_size)
    for note in todo.notes:
        notify(note)
    with tempfile.TemporaryDirectory() as work:
        texts = open_texts(config, tokenizer, Path(work), notify, progress)
        states = {"rounded to nearest": _rounded(original, tokenizer, todo, texts.calibration, config.seed, progress)}
        if texts.calibration and config.method != "rtn":
            states["GPTQ"] = _calibrated(original, states["rounded to nearest"], texts.calibration, progress)
        finetuning = None
        if texts.training and config.finetune:
            watch = Watch(notify, progress)
            repaired = _repaired(original, tokenizer, _last(states), texts.training, config, watch)
            states["fine-tuned"], finetuning = repaired.state, repaired.finetuning
        with atomic_folder(out) as folder:
            write_quantized(source, folder, original.config, _last(states))
            progress("judge", 0, 0)
            tokens = config.judge_tokens or _judged_tokens(original.config.parameters)
            rows, seen = compare_states(source, folder, states, texts.heldout, tokens)
            report = Report(config.scheme, config.group_size, rows, seen, finetuning, todo.notes)
            write_json(folder / REPORT, asdict(report))
    return report


def _with_learned(model: Path, source: Path, config: QuantizeConfig, notify: Notify) -> QuantizeConfig:
    """The settings, perhaps with the data that the model's run learned from."""
    found = with_learned(config, model, min(CONTEXT, read_model_config(source).context))
    if found != config:
        notify(f"Measuring on what the run learned from: {found.data[0]} (--calibrate gives another text).")
    return found


def _check(source: Path, config: QuantizeConfig) -> None:
    """Raise `TinyslmError` for settings that cannot work, before anything is computed."""
    SCHEMES[config.scheme]
    read_model_config(source)
    if is_quantized(read_json(source / "config.json"), str(source / "config.json")):
        raise TinyslmError(f"The model in {source} is quantized already.", "Give the model that it was made from.")
    text = config.data or config.calibrate
    if config.method == "gptq" and not text:
        raise TinyslmError(
            "GPTQ measures on a text which weights matter most, and no text was given.",
            "Give text like that which the model is for (--calibrate TEXT), or --method rtn.",
        )
    if config.finetune and not text:
        raise TinyslmError(
            "No text to fine-tune on was given.", "Give text like the model's training text: --data TEXT."
        )


def untied(model: Decoder) -> Decoder:
    """The model with an output projection of its own, which is quantized while the token table is not."""
    if not model.config.tied:
        return model
    tensors = {**model.state_dict(), "lm_head.weight": model.lm_head.weight.detach().clone()}
    return model_of(model.config.model_copy(update={"tied": False}), tensors, dtype=model.dtype)


@torch.no_grad()
def _rounded(
    original: Decoder, tokenizer: Tokenizer, todo: Plan, split: TokenSplit | None, seed: int, progress: Progress
) -> State:
    """Every matrix rounded to nearest, with the scales that change the model's predictions least.

    The scale of least squared error is usually the best, but not for weights that were rounded to 4 bits before. So for
    4 bits, three ways to choose scales are compared on text from `split`, or on text that the model generates.
    """
    tensors = state_tensors(original)
    total = sum(tensors[name].nbytes for name in todo.layouts)
    if all(layout.bits != 4 for layout in todo.layouts.values()):
        return _rounded_by(tensors, todo, best_scales, {}, lambda done: progress("round", done, total))
    windows_nt = _trial_windows(original, tokenizer, split, seed)
    importance = column_importance(original, windows_nt[:, :-1].tolist())
    ways: list[tuple[Scales, Importance]] = [(plain_scales, {}), (best_scales, {}), (best_scales, importance)]
    rounded: list[tuple[float, State]] = []
    for number, (scales, weights) in enumerate(ways):

        def done(size: int, before: int = number * total) -> None:
            progress("round", before + size, len(ways) * total)

        state = _rounded_by(tensors, todo, scales, weights, done)
        rounded = [*rounded, (divergence(original, dense(original, state), windows_nt), state)]
        rounded = [min(rounded, key=lambda pair: pair[0])]  # frees the memory of the worse state
    return rounded[0][1]


def _rounded_by(
    tensors: Mapping[str, Tensor], todo: Plan, scales: Scales, importance: Importance, done: Callable[[int], None]
) -> State:
    packed: dict[str, PackedTensor] = {}
    size = 0
    for name, layout in todo.layouts.items():
        weights_i = torch.from_numpy(importance[name]) if name in importance else None
        packed[name] = round_to_nearest(tensors[name], layout, weights_i, scales)
        size += tensors[name].nbytes
        done(size)
    return State(packed, {name: tensor for name, tensor in tensors.items() if name not in packed})


def _trial_windows(original: Decoder, tokenizer: Tokenizer, split: TokenSplit | None, seed: int) -> Tensor:
    """Windows of token ids `[n, t]` from `split`, or from text that the model generates if `split` is too short."""
    length = min(CONTEXT, original.config.context)
    if split is None or split.tokens < least_tokens(length):
        return own_text(original, tokenizer, seed)
    return even_windows(split, length, TRIAL_TOKENS)


def _calibrated(original: Decoder, nearest: State, split: TokenSplit, progress: Progress) -> State:
    length = window_length(original, split, "GPTQ")
    windows_nt = even_windows(split, length, CALIBRATION_TOKENS)[:, :-1]
    return State(calibrate(original, nearest.packed, windows_nt, progress), nearest.others)


def _repaired(
    original: Decoder, tokenizer: Tokenizer, start: State, split: TokenSplit, config: QuantizeConfig, watch: Watch
) -> Repaired:
    length = window_length(original, split, "fine-tuning")
    batch = max(1, BATCH_TOKENS // length)
    batches = WindowBatches(split, context=length, batch=batch, seed=config.seed, world=World())
    bytes_per_token = split.utf8_bytes / split.tokens

    def report(share: float, tokens: int) -> None:
        read = tokens * bytes_per_token
        watch.progress("fine-tune", int(read), int(read / share) if share else 0)

    settings = Repair(seconds=60 * config.finetune, dtype=pick_dtype(torch.device("cpu")))
    stage = DistillText(split, split, tokenizer, batches, length, original)
    return repair(stage, start, settings, progress=report, notify=watch.notify)


def _judged_tokens(parameters: int) -> int:
    """How many held-out tokens a model with this number of parameters can evaluate in about a minute."""
    return max(FEWEST_JUDGED, min(MOST_JUDGED, int(JUDGED_PRODUCTS / parameters)))


def window_length(model: Decoder, split: TokenSplit, use: str) -> int:
    """The length of the windows to learn from. Raises `TinyslmError` when the text has too few of them."""
    length = min(CONTEXT, model.config.context)
    check_length(split, length, use)
    return length


def _last(states: Mapping[str, State]) -> State:
    return list(states.values())[-1]
