"""How far the logits of each family are from transformers', at small random sizes in fp32.

    python benchmarks/parity.py

Four ways: a whole sequence, a left-padded batch, token by token through the cache past the window, and the same with
the native runner, as generation does on a CPU. The result is the largest difference of any logit, by family and way.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

from harness import finish, parser
from tinyslm.inference.native.runner import NativeRunner
from tinyslm.inference.runner import Rows, Runner
from tinyslm.inference.torch_runner import TorchRunner
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.families import FAMILIES
from tinyslm.model.folder import save_model

SMALL = {"vocab_size": 320, "dim": 64, "depth": 6, "heads": 4, "context": 64}
WINDOWED = ("mistral", "olmo3", "gemma2", "gemma3", "phi3", "gpt_neo")
LENGTH = 48
BLOCKS = LENGTH // 16


def main() -> None:
    parser(__doc__).parse_args()
    transformers.logging.set_verbosity_error()
    result = {}
    for family in FAMILIES:
        result[family] = differences(family)
        print(family, *(f"{way} {difference:.1e}" for way, difference in result[family].items()), sep=", ", flush=True)
    finish(result)


@torch.no_grad()
def differences(family: str) -> dict[str, float]:
    torch.manual_seed(0)
    window = {"window": 12} if family in WINDOWED else {}
    ours = Decoder(ModelConfig(family=family, **SMALL, **window)).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, mean=0.1 if parameter.ndim == 1 else 0.0, std=0.2)
    with tempfile.TemporaryDirectory() as name:
        save_model(ours, Path(name) / "model")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(Path(name) / "model").eval()
    ids = torch.randint(0, 320, (3, LENGTH))
    whole = theirs(ids).logits
    padding = torch.tensor([0, 7, 30])
    seen = torch.arange(LENGTH) >= padding[:, None]
    padded = theirs(ids, attention_mask=seen.long(), position_ids=(seen.cumsum(-1) - 1).clamp(min=0)).logits
    steps = step_by_step(TorchRunner(ours, 3 * BLOCKS), ids)
    native = step_by_step(NativeRunner(ours, 3 * BLOCKS), ids)
    return {
        "whole": (ours(ids) - whole).abs().max().item(),
        "padded": (ours(ids, padding_b=padding) - padded)[seen].abs().max().item(),
        "step by step": (steps - whole).abs().max().item(),
        "native": (native - whole).abs().max().item(),
    }


def step_by_step(runner: Runner, ids: torch.Tensor) -> torch.Tensor:
    """Logits of three sequences, one token of each at a time."""
    numbers = np.arange(3, dtype=np.int32)
    tables = np.arange(3 * BLOCKS, dtype=np.int32).reshape(3, BLOCKS)
    found = []
    for at in range(LENGTH):
        places = np.full(3, at, np.int32)
        rows = Rows(ids[:, at].numpy().astype(np.int32), places, numbers, tables, numbers)
        found.append(torch.from_numpy(runner.run(rows).copy()))
    return torch.stack(found, 1)


if __name__ == "__main__":
    main()
