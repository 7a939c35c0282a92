"""On an NVIDIA GPU: what is computed is what a CPU computes, and resumed runs end with the same bits."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tinyslm.core.files import sha256_file
from tinyslm.data.shards import Shards
from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.planning.train import resume, train
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.training.compiling import compile_model
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.loop import StepSettings, accumulate, train_steps
from tinyslm.training.optimizers import Optimizers
from tinyslm.training.pipeline import Watch
from tinyslm.training.sharding import is_sharded, shard, whole_model
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import next_token_loss
from tinyslm.training.world import World

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once; products add in a fixed order

GPU, CPU = torch.device("cuda"), torch.device("cpu")
FAMILIES = ["qwen3", "llama", "gpt2"]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("default"),  # of the libraries for GPUs
]


def small(family: str = "qwen3") -> Decoder:
    torch.manual_seed(3)
    return Decoder(ModelConfig(family=family, vocab_size=320, dim=64, heads=4, depth=2, context=32))


def batch() -> Batch:
    torch.manual_seed(4)
    return Batch.of_windows(torch.randint(0, 320, (8, 33)))


def settings(dtype: torch.dtype = torch.float32) -> StepSettings:
    return StepSettings(40, 4, 1.0, dtype, lambda step: 1.0)


def losses(
    model: Decoder, optimizer: str, dtype: torch.dtype = torch.float32, world: World | None = None
) -> list[float]:
    """Of updates on one batch."""
    optimizers, device = Optimizers(model, OptimizerConfig(name=optimizer), world=world), model.device
    rows = batch().to(device)
    return [one.loss for one in train_steps(model, next_token_loss, lambda: rows, optimizers, settings(dtype))]


@pytest.fixture
def fixed_order() -> Iterator[None]:
    """PyTorch adds in a fixed order, more slowly."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_the_cpu(family: str) -> None:
    models = [small(family).to(device) for device in (CPU, GPU)]
    found = [accumulate(one, next_token_loss, batch().to(one.device), settings())[:3] for one in models]
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    for expected, ours in zip(*(one.parameters() for one in models), strict=True):
        torch.testing.assert_close(ours.grad.cpu(), expected.grad, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_training_in_bf16_learns_as_in_fp32(optimizer: str) -> None:
    exact, fast = losses(small(), optimizer), losses(small().to(GPU), optimizer, torch.bfloat16)
    assert fast[-1] < 0.7 * fast[0]
    assert fast[:10] == pytest.approx(exact[:10], rel=0.02)


def test_compiled_updates_compute_the_same() -> None:
    plain, compiled = small().to(GPU), small().to(GPU)
    compile_model(compiled)
    assert losses(compiled, "adamw")[:10] == pytest.approx(losses(plain, "adamw")[:10], rel=1e-3)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.usefixtures("fixed_order")
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, shards: Shards, tiny_config, dtype: str) -> None:
    class Killed(Exception):
        pass

    def kill(event: dict) -> None:
        if event["event"] == "checkpoint" and event["step"] == 5:
            raise Killed

    config = tiny_config(train={"device": GPU.type, "dtype": dtype})
    train([shards.folder], tmp_path / "whole", settings=config)
    with pytest.raises(Killed):
        train([shards.folder], tmp_path / "killed", settings=config, watch=Watch(event=kill))
    resume(tmp_path / "killed")
    hashes = [sha256_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "killed")]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_decoding_gives_the_texts_of_the_cpu(tmp_path: Path, family: str) -> None:
    save_model(small(family), tmp_path, train_tokenizer([], kind="byte"))
    prompts, greedy = ["once", "upon a time there", ""], SamplingSettings(temperature=0, max_tokens=12)
    texts = []
    for device in (CPU, GPU):
        engine = open_engine(tmp_path, "torch", dtype=torch.float32, device=device)
        texts.append([completion.text for prompt in prompts for completion in engine.complete(prompt, greedy)])
    assert texts[1] == texts[0]


def test_divided_weights_through_nccl_train_as_whole_ones(tmp_path: Path) -> None:
    torch.cuda.set_device(0)
    backend = f"cpu:gloo,{GPU.type}:nccl"
    torch.distributed.init_process_group(backend, init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for optimizer in ("muon", "adamw"):
            divided, whole = small().to(GPU), small().to(GPU)
            shard(divided, World.current())
            assert is_sharded(divided)
            found = losses(divided, optimizer, world=World.current())
            assert found[:10] == pytest.approx(losses(whole, optimizer)[:10], rel=1e-3)
            gathered = whole_model(divided, World.current()).state_dict()
            assert gathered.keys() == whole.state_dict().keys()
    finally:
        torch.distributed.destroy_process_group()
