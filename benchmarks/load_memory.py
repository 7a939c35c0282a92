"""How much memory loading a model of 500M parameters takes, beside the size of its weights; transformers beside ours.

    python benchmarks/load_memory.py

Each load is a process of its own, which then touches every weight, as some may only be mapped; ours and transformers'
alternate. The last line printed is the result as JSON.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model

ROUNDS = 3
SHAPE = ModelConfig(dim=1280, depth=24, vocab_size=32768, context=2048, ffn_dim=3456)

MEASURE = """
import sys, time, torch
from pathlib import Path
folder, dtype, ours = sys.argv[1], getattr(torch, sys.argv[2]), sys.argv[3] == "tinyslm"
if ours:
    from tinyslm.model.folder import load_model as load
else:
    from transformers import AutoModelForCausalLM
    from transformers.models.qwen3 import modeling_qwen3
    load = AutoModelForCausalLM.from_pretrained
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
Path("/proc/self/clear_refs").write_text("5")  # a process inherits its parent's peak
before, start = peak(), time.perf_counter()
model = load(folder, dtype=dtype)
seconds = time.perf_counter() - start
for parameter in model.parameters():
    parameter.detach().view(torch.uint8).flatten()[::4096].sum()  # every page
print(peak() - before, seconds)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        results = {f"{stored} file as {loaded}": compare(Path(name), stored, loaded) for stored, loaded in CASES}
    print(json.dumps({"parameters": SHAPE.parameters, "loads": results}))


CASES = (("bfloat16", "bfloat16"), ("float32", "float32"), ("bfloat16", "float32"))


def compare(folder: Path, stored: str, loaded: str) -> dict:
    """Peak memory over what the process had before, as a multiple of the loaded weights, and seconds."""
    path = folder / stored
    if not path.exists():
        with torch.device("meta"):
            model = Decoder(SHAPE)
        model = model.to_empty(device="cpu").to(getattr(torch, stored))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        save_model(model, path)
        del model
    weights = SHAPE.parameters * (2 if loaded == "bfloat16" else 4)
    measured: dict[str, list[tuple[float, float]]] = {"tinyslm": [], "transformers": []}
    for _ in range(ROUNDS):
        for who, figures in measured.items():
            command = [sys.executable, "-c", MEASURE, str(path), loaded, who]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            figures.append((int(out[0]) / weights, float(out[1])))
            print(f"{stored} as {loaded}, {who}: {figures[-1][0]:.2f} times the weights, {figures[-1][1]:.1f} s")
    return {
        who: {
            "times_the_weights": [round(figure[0], 3) for figure in figures],
            "seconds": round(statistics.median(figure[1] for figure in figures), 2),
        }
        for who, figures in measured.items()
    }


if __name__ == "__main__":
    main()
