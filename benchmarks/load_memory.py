"""The memory that loading a model of 500M parameters takes, relative to its weights, compared with transformers.

    python benchmarks/load_memory.py

Each load is a process of its own, which then touches every weight, as some may only be mapped; ours and transformers'
alternate.
"""

import json
import tempfile
import time
from pathlib import Path

import torch

from harness import alternate, finish, in_process, medians, parser, peak_memory
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, save_model

SHAPE = ModelConfig(dim=1280, depth=24, vocab_size=32768, context=2048, ffn_dim=3456)
CASES = (("bfloat16", "bfloat16"), ("float32", "float32"), ("bfloat16", "float32"))
"""Number formats of the file and of the loaded model."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--alone", nargs=3, help="used by the others: load this folder, so, in this process")
    arguments = options.parse_args()
    if arguments.alone:
        print(json.dumps(measure(*arguments.alone)))
        return
    with tempfile.TemporaryDirectory() as name:
        loads = {f"{file} file as {dtype}": compare(Path(name), file, dtype, arguments.rounds) for file, dtype in CASES}
    finish({"parameters": SHAPE.parameters, "loads": loads})


def compare(work: Path, stored: str, loaded: str, rounds: int) -> dict:
    """Peak memory over what the process had before, as a multiple of the loaded weights, and seconds."""
    folder = work / stored
    if not folder.exists():
        with torch.device("meta"):
            model = Decoder(SHAPE)
        model = model.to_empty(device="cpu").to(getattr(torch, stored))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        save_model(model, folder)
        del model
    weights = SHAPE.parameters * (2 if loaded == "bfloat16" else 4)
    peaks: dict[str, list[float]] = {"tinyslm": [], "transformers": []}

    def load(who: str) -> float:
        peak, seconds = in_process(__file__, "--alone", who, folder, loaded)
        peaks[who].append(round(peak / weights, 3))
        return seconds

    print(f"{stored} file as {loaded}, seconds:")
    seconds = medians(alternate({who: lambda _, who=who: load(who) for who in peaks}, range(rounds + 1)))
    return {who: {"times_the_weights": peaks[who][1:], "seconds": round(seconds[who], 2)} for who in peaks}


def measure(who: str, folder: str, dtype_name: str) -> tuple[int, float]:
    """Bytes that loading took at most, and seconds."""
    if who == "tinyslm":
        load = load_model
    else:
        from transformers import AutoModelForCausalLM
        from transformers.models.qwen3 import modeling_qwen3  # noqa: F401 - its memory is not the model's

        load = AutoModelForCausalLM.from_pretrained
    Path("/proc/self/clear_refs").write_text("5")  # a process inherits its parent's peak
    before, start = peak_memory(), time.perf_counter()
    model = load(folder, dtype=getattr(torch, dtype_name))
    seconds = time.perf_counter() - start
    for parameter in model.parameters():
        parameter.detach().view(torch.uint8).flatten()[::4096].sum()  # every page
    return peak_memory() - before, seconds


if __name__ == "__main__":
    main()
