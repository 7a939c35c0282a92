"""Which device and which number format to compute with."""

import torch

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.hardware.machine import BF16_FEATURES, read_processor

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`: "cpu", "cuda", "cuda:1", "mps", or with "auto" the fastest one that is there.

    Raises `TinyslmError` for a device that this machine does not have.
    """
    available = _available_devices()
    if name == "auto":
        return torch.device(available[0])
    if name in available:
        return torch.device(name)
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise TinyslmError(f'Unknown device "{name}".', did_you_mean(name, ["auto", *available]))
    raise TinyslmError(
        f'There is no device "{name}" on this machine.', f'Use "auto", or one of: {", ".join(sorted(available))}.'
    )


def pick_dtype(device: torch.device, name: str = "auto") -> torch.dtype:
    """The number format called `name` ("bf16", "fp32", "fp16"), or with "auto" bf16 where `device` has it fast.

    The choice follows from what the device is, not from a measurement, so that a resumed run chooses the same again.
    Raises `TinyslmError` for fp16 on a CPU, where it is hundreds of times slower than fp32.
    """
    if name == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    if name not in DTYPES:
        raise TinyslmError(f'Unknown number format "{name}".', did_you_mean(name, ["auto", *DTYPES]))
    if name == "fp16" and device.type == "cpu":
        raise TinyslmError("fp16 is unusably slow on a CPU.", 'Use "auto", "bf16" or "fp32".')
    return DTYPES[name]


def has_fast_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bf16 matrices in hardware, faster than fp32 ones."""
    if device.type == "cpu":
        return not BF16_FEATURES.isdisjoint(read_processor()[1])
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return False


def _available_devices() -> list[str]:
    """Names that `pick_device` accepts here, the fastest first."""
    cuda = ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    return [
        *(cuda if torch.cuda.is_available() else []),
        *(["mps"] if torch.backends.mps.is_available() else []),
        "cpu",
    ]
