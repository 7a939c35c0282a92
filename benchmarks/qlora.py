"""Adapters of a 4-bit base (QLoRA) compared with adapters of the dense base: memory, and accuracy on a small model.

    python benchmarks/qlora.py [--model FOLDER] [--dtype bf16] [--seeds 3] [--steps 300]

A small model is trained here: on text with dates, then, with all its weights, on conversations. The job of the adapters
is to say the date a week after another one, as 1998-03-03; the accuracy is the share of exact answers to held-out
questions. With --model (such as SmolLM2-135M-Instruct), memory is also measured on that model, in a few updates of
4 x 256 tokens. Each run is in a process of its own.
"""

import json
import random
import statistics
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from harness import finish, in_process, parser, peak_memory

MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October"]
MONTHS += ["November", "December"]
RANK, QUESTIONS = 16, 1_000
SHAPE = {"dim": 256, "heads": 4, "depth": 4, "context": 128}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", help="also measure memory on this model")
    options.add_argument("--dtype", choices=["fp32", "bf16"], default="bf16", help="number format on that model")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--steps", type=int, default=300, help="updates of the adapters of the small model")
    arguments = options.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        bases = in_process("qlora.make_bases", folder)
        found: dict[str, list[float]] = {"LoRA": [], "QLoRA": []}
        for seed in range(arguments.seeds):
            for name, base in bases.items():
                found[name].append(in_process("qlora.accuracy", base, f"{folder}/{name}-{seed}", arguments.steps, seed))
            print(f"seed {seed}:", {name: f"{100 * scores[-1]:.1f} %" for name, scores in found.items()}, flush=True)
        means = {name: statistics.mean(scores) for name, scores in found.items()}
        result["accuracy"] = {**found, "points": 100 * (means["QLoRA"] - means["LoRA"])}
        result["small model"] = in_process("qlora.weights", bases["QLoRA"], "fp32")
        if arguments.model:
            packed = in_process("qlora.quantized", arguments.model, f"{folder}/packed")
            result["weights"] = in_process("qlora.weights", packed, arguments.dtype)
            peaks = {
                name: in_process("qlora.peak", base, f"{folder}/peak-{name}", arguments.dtype)
                for name, base in (("LoRA", arguments.model), ("QLoRA", packed))
            }
            result["peak_memory"] = {"dtype": arguments.dtype, **peaks}
    finish(result)


def make_bases(folder: str) -> dict[str, str]:
    """The small model that knows dates and conversations, dense and in 4 bits."""
    from tinyslm import finetune, train
    from tinyslm.planning.methods.method import ExampleFiles

    draw, root = random.Random(0), Path(folder)
    lines = [f"{long} is written {short}, and {long.upper()} too." for long, short in dates(draw, 20_000)]
    (root / "dates.txt").write_text("\n\n".join(lines))
    common = {"batch": 16, "device": "cpu", "score_tokens": 2_000}
    train([root / "dates.txt"], root / "text", settings={"model": SHAPE, "train": {**common, "steps": 500}})
    asked = [(f"Repeat: {long}", long) for long, _ in dates(draw, 1_500)]
    asked += [(f"Year of {long}?", long[-4:]) for long, _ in dates(draw, 1_500)]
    settings = {"lora": {"rank": 0}, "train": {**common, "steps": 300}, "optimizer": {"lr": 5e-4}}
    finetune(root / "text", ExampleFiles([write(root / "talks.jsonl", asked)]), root / "base", settings=settings)
    return {"LoRA": f"{root}/base/model", "QLoRA": quantized(f"{root}/base/model", f"{root}/int4")}


def quantized(model: str, out: str) -> str:
    """The model in 4 bits, rounded to nearest."""
    from tinyslm import QuantizeConfig, quantize_model

    quantize_model(model, out, QuantizeConfig(method="rtn", judge_tokens=2_000))
    return out


def accuracy(base: str, out: str, steps: int, seed: int) -> float:
    """The share of exact answers to held-out questions after learning the job."""
    from tinyslm import finetune
    from tinyslm.planning.methods.method import ExampleFiles

    known = dates(random.Random(1), 3_000 + QUESTIONS)
    made = [(f"A week after {long}?", str(date.fromisoformat(short) + timedelta(7))) for long, short in known]
    Path(out).mkdir()
    rows, valid = write(Path(out) / "rows.jsonl", made[QUESTIONS:]), write(Path(out) / "valid.jsonl", made[:QUESTIONS])
    train = {"batch": 8, "steps": steps, "device": "cpu", "grader": "exact", "seed": seed}
    settings = {"lora": {"rank": RANK}, "train": train, "verdict": {"questions": QUESTIONS}}
    result = finetune(base, ExampleFiles([rows], valid=[valid]), Path(out) / "run", settings=settings)
    return float(result["verdict"]["gain"]["after"])


def weights(packed: str, dtype: str) -> dict[str, float]:
    """Bytes of a quantized model's weights while its adapters are trained, compared with bf16."""
    import torch

    from tinyslm import RunConfig
    from tinyslm.core.config import build_config
    from tinyslm.model.packed import PackedLinear
    from tinyslm.training.stages import first_model

    given = {"lora": {"rank": RANK}, "train": {"start_from": packed, "dtype": dtype, "steps": 1}}
    model = first_model(build_config(RunConfig, given), torch.device("cpu"))
    layers = [one for one in model.modules() if isinstance(one, PackedLinear)]
    matrices = sum(one.weight_packed.nbytes + one.weight_scale.nbytes for one in layers)
    as_bf16 = 2 * sum(one.in_features * one.out_features for one in layers)
    others = sum(one.nbytes for name, one in model.named_parameters() if ".adapter." not in name)
    in_all = 2 * model.config.parameters
    return {
        "matrices": matrices,
        "share_of_bf16": matrices / as_bf16,
        "total": matrices + others,
        "total_share_of_bf16": (matrices + others) / in_all,
    }


def peak(base: str, out: str, dtype: str) -> int:
    """The peak memory of a short run."""
    from tinyslm import finetune

    Path(out).mkdir()
    text = " ".join(f"{long} is {short}." for long, short in dates(random.Random(2), 8))
    rows = write(Path(out) / "rows.jsonl", [(f"Question {number}?", text) for number in range(40)])
    train = {"batch": 4, "steps": 3, "row_tokens": 256, "dtype": dtype, "device": "cpu", "score_tokens": 1_000}
    finetune(base, [rows], Path(out) / "run", settings={"lora": {"rank": RANK}, "train": train})
    return peak_memory()


def dates(draw: random.Random, count: int) -> list[tuple[str, str]]:
    """Dates in words and in digits, most of them different."""
    made = []
    for _ in range(count):
        day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1900, 2099)
        made.append((f"{day} {MONTHS[month - 1]} {year}", f"{year}-{month:02}-{day:02}"))
    return made


def write(path: Path, asked: list[tuple[str, str]]) -> Path:
    """Questions and answers as a file of examples."""
    path.write_text("".join(json.dumps({"question": one, "answer": other}) + "\n" for one, other in asked))
    return path


if __name__ == "__main__":
    main()
