"""`tinyslm show`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


def show(
    path: Path,
    /,
    *others: Path,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    step: str = "",
    loss: str = "",
    json: bool = False,
) -> None:
    """Explain a model folder (parameters and sizes), shards (what is in them), or a run folder (its curve so far).

    With several run folders, or files with loss curves of other programs, compare the curves.

    Parameters
    ----------
    path
        The folder to explain, or a file with a loss curve: CSV, JSON, JSON lines or a log, as written by nanoGPT,
        transformers (trainer_state.json), litgpt, Lightning, TensorBoard and Weights & Biases.
    others
        More run folders and files with curves.
    out
        An HTML page to write, with charts of all curves.
    step
        The column of steps in the files, if it does not have a usual name.
    loss
        The column of losses in the files, if it does not have a usual name.
    json
        Print what is known as JSON.
    """
    from tinyslm.cli.telling import tell
    from tinyslm.core.errors import TinyslmError
    from tinyslm.data.shards import is_shards
    from tinyslm.training.curves import is_curve

    has_config = (path / "config.json").is_file()
    if others or out is not None or is_curve(path):
        _show_curves([path, *others], (step, loss), out, json=json)
    elif has_config and (path / "checkpoints").is_dir():
        tell(_run(path)) if json else _show_run(path)
    elif has_config:
        tell(_model(path)) if json else _show_model(path)
    elif is_shards(path):
        tell(_shards(path)) if json else _show_shards(path)
    elif not path.exists():
        raise TinyslmError(f"{path} does not exist.", "Check the path; relative paths start at the current folder.")
    else:
        raise TinyslmError(
            f"{path} is not a model folder, shards folder, run folder or file with a curve.",
            "Give a folder that `tinyslm train` or `tinyslm data prepare` wrote, or one in the Hugging Face layout.",
        )


def _show_curves(paths: Sequence[Path], columns: tuple[str, str], out: Path | None, *, json: bool) -> None:
    """Print the training losses as curves and all curves in a table; optionally write a page."""
    from dataclasses import asdict
    from textwrap import fill

    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say, table
    from tinyslm.core.plots import terminal_curve
    from tinyslm.training.curves import CAUTION, HEADER, common_axis, read_curves, table_rows, write_page

    step, loss = columns
    curves = read_curves(paths, step=step, loss=loss)
    rows, axis = table_rows(curves), common_axis(curves)
    if out is not None:
        write_page(curves, out)
    if json:
        tell({"kind": "curves", "curves": [asdict(curve) for curve in curves], "page": out})
        return
    for curve in curves:
        if not curve.validation and len(curve.losses) > 1:
            x = curve.x[axis]
            say(f"\n{curve.name}: training loss (nats per token)")
            say(terminal_curve(curve.losses, height=7, x_labels=(f"{x[0]:,.0f} {axis}", f"{x[-1]:,.0f}")))
    say()
    table(rows, HEADER)
    if len(paths) > 1:
        say("\n" + fill(CAUTION, 79))
    if out is not None:
        say(f"\nPage: {out}")


def _model(folder: Path) -> dict[str, Any]:
    """What a model folder says of itself."""
    from tinyslm.cli.pull import summary_of
    from tinyslm.export.facts import as_counted, training_record
    from tinyslm.model.folder import read_model_config
    from tinyslm.model.summary import parts

    config = as_counted(folder, read_model_config(folder))
    return {
        "kind": "model",
        **summary_of(folder, config),
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "parts": {part.name: part.values for part in parts(config)},
        "quantized": _scheme(folder),
        "training": training_record(folder),
    }


def _shards(folder: Path) -> dict[str, Any]:
    """What a shards folder says of itself; every file is checked."""
    from tinyslm.data.shards import Shards

    manifest = Shards.open(folder).manifest
    return {"kind": "shards", "shards": folder, "tokenizer": manifest["tokenizer"], "splits": manifest["splits"]}


def _run(folder: Path) -> dict[str, Any]:
    """How far a run is, its validations so far, and its result where it has ended."""
    from tinyslm.training.metrics import planned_steps, read_metrics

    log = folder / "metrics.jsonl"
    events = read_metrics(log) if log.is_file() else []
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        found.setdefault(event["event"], []).append(event)
    start, end = found.get("start", [{}])[0], found.get("end", [{}])[0]
    return {
        "kind": "run",
        "run": folder,
        "parameters": start.get("parameters"),
        "step": found["step"][-1]["step"] if "step" in found else 0,
        "steps": planned_steps(events) or None,
        "validations": found.get("validation", []),
        "result": end.get("result"),
    }


def _show_model(folder: Path) -> None:
    from tinyslm.core.console import say, table
    from tinyslm.core.quantities import count, size
    from tinyslm.export.facts import as_counted
    from tinyslm.model.folder import read_model_config
    from tinyslm.model.summary import parts
    from tinyslm.model.weights import read_tensors, weight_files

    config, files = as_counted(folder, read_model_config(folder)), weight_files(folder)
    held = sum(tensor.nbytes for _, tensor in read_tensors(folder, {}))  # mapped: nothing but headers is read
    scheme = _scheme(folder)
    say(
        f"{folder}: {config.family}, {count(config.parameters)} parameters, "
        f"width {config.dim}, depth {config.depth}, "
        f"{config.heads} heads ({config.kv_heads} for keys and values) of {config.head_dim}, "
        f"context {config.context:,}, vocabulary {config.vocab_size:,}."
    )
    rows = [
        (part.name, part.shape, f"{part.values:,}", f"{part.values / config.parameters:.1%}") for part in parts(config)
    ]
    table([*rows, ("all", "", f"{config.parameters:,}", "100.0%")], header=("part", "shape", "parameters", "share"))
    what = files[0].name if len(files) == 1 else f"{len(files)} weight files"
    say(f"\n{what}: {size(sum(path.stat().st_size for path in files))}")
    if scheme:
        say(f"Quantized as {scheme}: {8 * held / config.parameters:.2f} bits per weight over all tensors.")
    _show_scores(folder, quantized=bool(scheme))


def _scheme(folder: Path) -> str:
    """How the weights in a folder are quantized; "" where they are not."""
    from tinyslm.export.facts import quantization_report
    from tinyslm.model.compressed_tensors import METHOD
    from tinyslm.model.folder import quantized

    return str(quantization_report(folder).get("scheme", METHOD)) if quantized(folder) else ""


def _show_scores(folder: Path, *, quantized: bool) -> None:
    """The validation score from training; of a quantized model, which score is whose."""
    from tinyslm.cli.train import describe_interval
    from tinyslm.core.console import say
    from tinyslm.core.quantities import count
    from tinyslm.export.facts import quantization_report, training_record

    training = training_record(folder)
    if {"training_tokens", "bits_per_byte", "low", "high", "documents"} <= training.keys():
        whose = "validation of the original, before it was quantized:" if quantized else "validation"
        say(
            f"Trained on {count(training['training_tokens'])} tokens; {whose} {training['bits_per_byte']:.4f} "
            f"bits per byte ({describe_interval(training)})."
        )
    if not quantized:
        return
    match quantization_report(folder):
        case {"rows": [{"bits_per_byte": float(before)}, *_, {"bits_per_byte": float(after)}]}:
            say(f"Held-out text: {after:.4f} bits per byte, where the original has {before:.4f}.")
        case _:
            say("How it predicts text since then was not measured: `tinyslm evaluate` does.")


def _show_shards(folder: Path) -> None:
    from tinyslm.core.console import say, table
    from tinyslm.core.quantities import size
    from tinyslm.data.shards import Shards

    manifest = Shards.open(folder).manifest
    tokenizer = manifest["tokenizer"]
    say(
        f"{folder}: shards, tokenizer {tokenizer['kind']} with {tokenizer['vocab_size']:,} tokens; "
        "every file is intact."
    )
    rows = [
        (name, f"{part['documents']:,}", f"{part['tokens']:,}", size(part["utf8_bytes"]),
         f"{part['utf8_bytes'] / max(1, part['tokens']):.2f}")
        for name, part in manifest["splits"].items()
    ]  # fmt: skip
    table(rows, header=("split", "documents", "tokens", "text", "bytes per token"))


def _show_run(folder: Path) -> None:
    from tinyslm.cli.finetune import score_words
    from tinyslm.cli.train import describe_interval
    from tinyslm.core.console import say, table
    from tinyslm.core.plots import terminal_curve
    from tinyslm.core.quantities import count, duration
    from tinyslm.training.metrics import planned_steps, read_metrics

    log = folder / "metrics.jsonl"
    events = read_metrics(log) if log.is_file() else []
    start = next((event for event in events if event["event"] == "start"), None)
    if start is None:
        say(f"{folder}: a run that has not begun (go on with: tinyslm train --resume {folder}).")
        return
    steps = [event for event in events if event["event"] == "step" and event["loss"] is not None]
    end = next((event for event in events if event["event"] == "end"), None)
    done = steps[-1]["step"] if steps else 0
    state = "finished" if end else f"not finished (go on with: tinyslm train --resume {folder})"
    say(f"{folder}: {count(start['parameters'])} parameters, step {done:,} of {planned_steps(events):,}, {state}.")
    if len(steps) > 1:
        say("\nTraining loss (nats per token)")
        say(terminal_curve([event["loss"] for event in steps], x_labels=(f"step {steps[0]['step']:,}", f"{done:,}")))
    looked = [event for event in events if event["event"] == "validation" and event["loss"] is not None]
    of_text = all("bits_per_byte" in event for event in looked)
    rows = [
        (
            f"{event['step']:,}",
            f"{event['loss']:.4f}",
            *([f"{event['bits_per_byte']:.4f}"] if of_text else []),
            duration(event["seconds"]),
        )
        for event in looked
    ]
    if rows:
        say()
        table(rows, header=("step", "validation loss", *(["bits per byte"] if of_text else []), "time"))
    if end:
        result = end["result"]
        if "bits_per_byte" in result:
            say(f"\nResult: {result['bits_per_byte']:.4f} bits per byte ({describe_interval(result)}).")
        else:
            kind, answered = ("prompts", "prompts") if "reward" in result else ("conversations", "answers")
            say(f"\nResult: {score_words(result)} on {result[kind]:,} held-out {answered}.")
        say(f"Model folder: {folder / 'model'}\nReport:       {folder / 'report.html'}")
