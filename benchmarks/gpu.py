"""One NVIDIA GPU: training compared with a plain loop, a small memory, decoding, resuming, and the tests for GPUs.

    python benchmarks/gpu.py                      under six minutes
    python benchmarks/gpu.py --only steps tests   just these parts
    python benchmarks/gpu.py --smoke              tiny sizes, on a CPU too: it only shows that the script works

The parts, each in a process of its own, whose result is printed when it is there:

    steps     whole updates in bf16 of GPT-2's shape (124M) and of SmolLM2's (135M), compiled and not, and of a plain
              loop over transformers' model of the same shape (autocast, fused AdamW), compiled and not; all alternate.
              The batch is 16 x 1,024 tokens, halved until everything fits. Shares are of the dense bf16 peak in the
              maker's data sheet, where it is known, and of a large matrix product measured right before.
    memory    the same updates within 12 GB, as on a consumer card: the largest micro-batch that fits
    decoding  tokens per second of 1, 8 and 32 streams of the 135M shape in bf16, and of transformers.generate
    resume    whether a run that was stopped and resumed ends with the bits of one that was not
    tests     `pytest -m gpu`
"""

import gc
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import plain_gpt2
from engine_ways import Ours, Prompts, Transformers
from harness import HERE, alternate, compare, finish, in_process, medians, parser, ratio
from share_of_ceiling import SMOLLM2, operations
from tinyslm import Decoder, ModelConfig, open_engine, save_model, train, train_tokenizer
from tinyslm.core.files import sha256_file
from tinyslm.model.families import FAMILIES
from tinyslm.planning.train import resume as resume_run
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.loop import StepSettings, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.pipeline import Watch
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss

PEAKS = {
    **{"H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L40": 181, "L4": 121},
    **{"A10": 125, "RTX 3090": 71, "RTX 4090": 165, "RTX 5090": 210},
}
"""Dense bf16 with sums in fp32, 10^12 operations a second, from NVIDIA's data sheets; the first name that fits."""
SHAPES = {
    "GPT-2 124M": {"family": "gpt2", "dim": 768, "depth": 12, "heads": 12, "context": 1024, "vocab_size": 50_304},
    "SmolLM2 135M": {**SMOLLM2, "context": 1024},
}
TINY = {"dim": 64, "depth": 2, "heads": 2, "context": 64, "vocab_size": 320}
BATCH, SMALL_MEMORY = 16, 12e9
PEER = "transformers, compiled"
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    options.add_argument("--smoke", action="store_true")
    arguments = options.parse_args()
    if not CUDA and not arguments.smoke:
        raise SystemExit("There is no GPU. --smoke runs tiny sizes on the CPU, to see that the script works.")
    result: dict = {"device": torch.cuda.get_device_name() if CUDA else "a CPU", "smoke": arguments.smoke}
    for part in arguments.only:
        begun = time.perf_counter()
        result[part] = in_process(f"gpu.{part}", arguments.smoke)
        print(f"{part}, {time.perf_counter() - begun:.0f} s: {result[part]}", flush=True)
    finish(result)


def steps(smoke: bool) -> dict:
    return {name: speed_of_steps(shape_of(name, smoke), smoke) for name in SHAPES}


def shape_of(name: str, smoke: bool) -> ModelConfig:
    shape = SHAPES[name]
    tiny = {"kv_heads": 1, "ffn_dim": 128} if "kv_heads" in shape else {}
    return ModelConfig(**{**shape, **(TINY | tiny if smoke else {})})


def speed_of_steps(config: ModelConfig, smoke: bool) -> dict:
    """The contenders in turns, and their shares of two peaks."""
    many, batch = (1 if smoke else 6), (2 if smoke else BATCH)
    product = large_product(64 if smoke else 8192)
    while (steppers := warmed_up(config, batch)) is None:
        free()
        batch //= 2
        assert batch, "not even one sequence fits"

    def rate(step: Callable[[], object]) -> float:
        begun = now()
        for _ in range(many):
            step()
        return many * batch * config.context / (now() - begun)

    ways = {name: lambda _, step=step: rate(step) for name, step in steppers.items()}
    found = compare(alternate(ways, range(2 if smoke else 5)), PEER)
    per_token, sheet = operations(config), peak_of(torch.cuda.get_device_name()) if CUDA else None
    peaks = {"share_of_product": product, **({"share_of_peak": sheet} if sheet else {})}
    rates = found["tokens_per_second"].items()
    shares = {kind: {who: rate * per_token / peak for who, rate in rates} for kind, peak in peaks.items()}
    return {"parameters": config.parameters, "batch": batch, "product_tflops": product / 1e12, **found, **shares}


def warmed_up(config: ModelConfig, batch: int) -> dict[str, Callable[[], object]] | None:
    """The contenders after their first update; None where that takes more memory than there is."""
    try:
        steppers = contenders(config, batch)
        for step in steppers.values():
            step()
    except torch.OutOfMemoryError:
        return None
    return steppers


def now() -> float:
    """The time, when the GPU has done what it was given."""
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


def free() -> None:
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()


def peak_of(gpu: str) -> float | None:
    """Operations a second by the data sheet; None where it is not known."""
    return None if "Laptop" in gpu else next((1e12 * tera for name, tera in PEAKS.items() if name in gpu), None)


def large_product(size: int) -> float:
    """Operations a second of a product of two square matrices in bf16."""
    one, other = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        one @ other
    begun, times = now(), 20
    for _ in range(times):
        one @ other
    return times * 2 * size**3 / (now() - begun)


def contenders(config: ModelConfig, batch: int) -> dict[str, Callable[[], object]]:
    """Each makes an update when it is called."""
    ways: dict[str, Callable[[], object]] = {}
    for kind in ("compiled", "not compiled"):
        for optimizer, name in (("muon", "Muon"), ("adamw", "AdamW")):
            ways[f"tinyslm, {name}, {kind}"] = ours(config, batch, optimizer, compiled=kind == "compiled")
        ways[f"transformers, {kind}"] = theirs(config, batch, compiled=kind == "compiled")
    return ways


def windows_of(config: ModelConfig, batch: int) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (batch, config.context + 1), device=DEVICE)


def compiled_by(model: torch.nn.Module) -> None:
    """On a CPU only what the compiler is given is found out: it takes minutes to make code of it."""
    model.compile(backend="inductor" if CUDA else "eager")


def ours(
    config: ModelConfig, batch: int, optimizer: str, *, compiled: bool, micro_batch: int = 0
) -> Callable[[], object]:
    torch.manual_seed(0)
    model = Decoder(config).to(DEVICE)
    if compiled:
        compiled_by(model.model)
    windows = Batch.of_windows(windows_of(config, batch))
    settings = StepSettings(10**9, micro_batch or batch, 1.0, torch.bfloat16, lambda step: 0.01)
    optimizers = Optimizers(model, OptimizerConfig(name=optimizer))
    reports = train_steps(model, next_token_loss, lambda: windows, optimizers, settings)
    return lambda: next(reports)


def theirs(config: ModelConfig, batch: int, *, compiled: bool) -> Callable[[], object]:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    fields = FAMILIES[config.family].config_to_hf(config)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields, use_cache=False)).to(DEVICE).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert sum(parameter.numel() for parameter in model.parameters()) == config.parameters, "the same shape"
    optimizer, windows = plain_gpt2.adamw(model, fused=CUDA), windows_of(config, batch)
    if compiled:
        compiled_by(model)
    return lambda: plain_gpt2.step(model, optimizer, windows, torch.bfloat16)


def memory(smoke: bool) -> dict:
    """By shape: the largest micro-batch that fits into `SMALL_MEMORY`, not compiled."""
    if CUDA:
        whole = torch.cuda.get_device_properties(DEVICE).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, SMALL_MEMORY / whole))
    return {name: in_small_memory(shape_of(name, smoke), 2 if smoke else BATCH) for name in SHAPES}


def in_small_memory(config: ModelConfig, batch: int) -> dict:
    micro_batch = batch
    while micro_batch and (rate := rate_of_updates(config, batch, micro_batch)) is None:
        free()
        micro_batch //= 2
    peak = torch.cuda.max_memory_reserved() / 1e9 if CUDA else None
    return {"micro_batch": micro_batch, "tokens_per_second": rate, "peak_gb": peak}


def rate_of_updates(config: ModelConfig, batch: int, micro_batch: int) -> float | None:
    """Tokens per second; None where an update takes more memory than there is."""
    if CUDA:
        torch.cuda.reset_peak_memory_stats()
    times = 4
    try:
        step = ours(config, batch, "muon", compiled=False, micro_batch=micro_batch)
        step()
        begun = now()
        for _ in range(times):
            step()
        return times * batch * config.context / (now() - begun)
    except torch.OutOfMemoryError:
        return None


def decoding(smoke: bool) -> dict:
    """By the number of streams: tokens per second in all, reading the prompts left out."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config, chance = shape_of("SmolLM2 135M", smoke), torch.Generator().manual_seed(0)
    new, prompt = (4, 8) if smoke else (64, 128)
    with tempfile.TemporaryDirectory() as folder:
        save_model(Decoder(config), Path(folder), train_tokenizer([], kind="byte"))
        ways = {
            "tinyslm": Ours(open_engine(folder, "torch", dtype=torch.bfloat16, device=DEVICE)),
            "transformers.generate": Transformers(
                AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(DEVICE).eval()
            ),
        }

    def rate(prompts: list[Prompts], way: Ours | Transformers) -> float:
        before = way.seconds(prompts[0], 1)
        return len(prompts[0]) * new / (way.seconds(prompts[1], new + 1) - before)

    found = {}
    for streams in (1, 2) if smoke else (1, 8, 32):
        asked = (torch.randint(0, 256, (2, streams, prompt), generator=chance).tolist() for _ in range(4))
        rates = alternate({name: partial(rate, way=way) for name, way in ways.items()}, asked)
        found[streams] = {
            "tokens_per_second": medians(rates),
            "ratio": ratio(rates["tinyslm"], rates["transformers.generate"]),
        }
    return found


class Stopped(Exception):
    """Stands for the end of a process."""


def resume(smoke: bool) -> dict:
    """With the default settings, and where PyTorch is told to sum in a fixed order."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, the order of products' sums is free
    default = same_bits(smoke)
    torch.use_deterministic_algorithms(True)
    return {"by default": default, "with deterministic algorithms": same_bits(smoke)}


def same_bits(smoke: bool) -> bool:
    """Whether a run that was stopped and resumed ends with the bits of one that was not."""
    shape = {"dim": 64, "depth": 2, "context": 64} if smoke else {"dim": 512, "depth": 8, "context": 256}
    count = 4 if smoke else 20
    rarely = {"validate_every": count, "sample_every": count, "score_tokens": 4096, "checkpoint_minutes": 0}
    run = {"steps": count, "batch": 4 if smoke else 16, "device": DEVICE.type, **rarely}
    settings = {"model": {**shape, "dropout": 0.1}, "train": run, "tokenizer": {"kind": "byte"}}

    def stop(event: dict) -> None:
        if event["event"] == "checkpoint" and event["step"] == count // 2:
            raise Stopped

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        paths = [HERE.parent / "docs" / name for name in ("engine.md", "serving.md", "finetuning.md")]
        train(paths, place / "whole", settings=settings)
        try:
            train(paths, place / "stopped", settings=settings, watch=Watch(event=stop))
        except Stopped:
            resume_run(place / "stopped")
        first, second = (sha256_file(place / run / "model" / "model.safetensors") for run in ("whole", "stopped"))
        return first == second


def tests(_: bool) -> dict:
    """How many there are of each outcome."""
    files = [str(file) for file in (HERE.parent / "tests").rglob("test_*.py") if "mark.gpu" in file.read_text()]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-rfE", *files]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    print(done.stdout[-5000:], flush=True)
    return {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", done.stdout)}


PARTS = {"steps": steps, "memory": memory, "decoding": decoding, "resume": resume, "tests": tests}


if __name__ == "__main__":
    main()
