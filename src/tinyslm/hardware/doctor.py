"""What this machine offers, and what that means for training and generating on it."""

import os
from dataclasses import dataclass

import torch

from tinyslm.core.quantities import count, size
from tinyslm.hardware.compiling import INSTALL
from tinyslm.hardware.device import has_fast_bf16, pick_device
from tinyslm.hardware.machine import BF16_FEATURES, Machine, examine_machine
from tinyslm.hardware.speed import Speed, measure_speed

TRAINED_PARAMETERS = 3_000_000  # of the model that training is foretold for
GENERATING_PARAMETERS = 100_000_000  # larger than processor caches, so that memory sets the pace
# What a training step moves through memory beside its matrix products, for each token of a model of some million
# parameters. With the products' time it gives the tokens/s measured on two cores for 3 M and 11 M parameters.
STEP_BYTES_PER_TOKEN = 4_000_000
BYTES_OF_TEXT_PER_TOKEN = 3.5  # simple English, 4,096 tokens


@dataclass(frozen=True)
class Finding:
    """One fact: its name, its value, and what it means, in one sentence."""

    name: str
    value: str
    meaning: str


def examine(*, seconds: float = 2.0) -> list[Finding]:
    """Look at this machine and measure it for about `seconds`."""
    device = pick_device()
    return describe(examine_machine(), device, measure_speed(device, seconds=seconds))


def describe(machine: Machine, device: torch.device, speed: Speed) -> list[Finding]:
    """The findings about a machine, the device that training would use on it, and that device's speed."""
    bf16 = has_fast_bf16(device)
    findings = [
        Finding("system", f"{machine.platform}, Python {machine.python}", "tinyslm runs here."),
        _processor(machine),
        _cores(machine),
        Finding(
            "memory",
            f"{size(machine.memory_bytes)}, {size(machine.available_memory_bytes)} available",
            "Data is prepared and read here." if device.type == "cuda" else _room(machine.available_memory_bytes),
        ),
        Finding("free disk", size(machine.free_disk_bytes), "Shards and checkpoints are written here."),
        _compiler(machine),
        _device(device),
        _products(speed, bf16),
        Finding(
            "memory speed",
            f"{speed.gigabytes_per_second:.0f} GB/s copied",
            f"One stream of a model of {count(GENERATING_PARAMETERS)} parameters generates at most "
            f"{generated_tokens_per_second(speed, bf16=bf16):,.0f} tokens/s, as each token reads all weights.",
        ),
        _training(speed, bf16),
    ]
    return findings + _disturbed(machine)


def training_tokens_per_second(speed: Speed, *, bf16: bool, parameters: int = TRAINED_PARAMETERS) -> float:
    """Tokens a second that training reads with a model of some million `parameters`, roughly.

    Each token takes 6 operations for each parameter (2 forward, 4 backward), and traffic to memory.
    """
    rate = (speed.gflops_bf16 if bf16 else speed.gflops_fp32) * 1e9
    return 1 / (6 * parameters / rate + STEP_BYTES_PER_TOKEN / (speed.gigabytes_per_second * 1e9))


def generated_tokens_per_second(speed: Speed, *, bf16: bool, parameters: int = GENERATING_PARAMETERS) -> float:
    """Tokens a second that one stream can generate at most, with weights of 2 bytes (bf16) or 4 (fp32)."""
    return speed.gigabytes_per_second * 1e9 / ((2 if bf16 else 4) * parameters)


def _processor(machine: Machine) -> Finding:
    value = f"{machine.processor} ({', '.join(machine.features) or 'features unknown'})"
    if BF16_FEATURES.isdisjoint(machine.features):
        return Finding("processor", value, "It has no bf16 instructions: training on it uses fp32.")
    return Finding("processor", value, "It multiplies bf16 matrices in hardware.")


def _cores(machine: Machine) -> Finding:
    if machine.cores < machine.all_cores:
        value = f"{machine.cores} of {machine.all_cores}"
        return Finding("cores", value, "This process may not use more: it is limited by its container or affinity.")
    return Finding("cores", str(machine.cores), "Training and generating use all of them.")


def _room(available_bytes: int) -> str:
    """4 bytes each for weights, gradients and two averages of the optimizer, and as much again for a batch."""
    return f"Room to train models of up to about {count(float(f'{available_bytes / 32:.1g}'))} parameters."


def _compiler(machine: Machine) -> Finding:
    if machine.compiler is None:
        return Finding("C++ compiler", "none", f"PyTorch computes everything, which is slower. {INSTALL}")
    meaning = "The engine and the training kernels are compiled for this processor."
    return Finding("C++ compiler", machine.compiler, meaning)


def _device(device: torch.device) -> Finding:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        free, total = torch.cuda.mem_get_info(device)
        return Finding("GPU", f"{name}, {size(total)}, {size(free)} available", f"Training uses it. {_room(free)}")
    if device.type == "mps":
        return Finding("GPU", "Apple (mps)", "Training uses it.")
    return Finding("GPU", "none that torch can use", "Training and generating run on the processor.")


def _products(speed: Speed, bf16: bool) -> Finding:
    value = f"bf16 {speed.gflops_bf16:,.0f}, fp32 {speed.gflops_fp32:,.0f} GFLOP/s"
    ratio = speed.gflops_bf16 / speed.gflops_fp32
    comparison = f"{ratio:.1f} times faster" if ratio >= 1 else f"{1 / ratio:.1f} times slower"
    used = "bf16" if bf16 else "fp32"
    return Finding("matrix products", value, f"bf16 products run {comparison} than fp32: training uses {used}.")


def _training(speed: Speed, bf16: bool) -> Finding:
    rate = training_tokens_per_second(speed, bf16=bf16)
    return Finding(
        "training",
        f"about {count(rate)} tokens/s",
        f"A model of {count(TRAINED_PARAMETERS)} parameters reads some {size(600 * rate * BYTES_OF_TEXT_PER_TOKEN)} "
        "of text in 10 minutes.",
    )


def _disturbed(machine: Machine) -> list[Finding]:
    """A warning when other programs were busy, since the measured speeds are then too low."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load <= machine.cores / 2:
        return []
    return [Finding("load", f"{load:.1f}", "Other programs are at work: the measured speeds may be too low.")]
