"""A base without ChatML tokens gets them: only their rows in the token tables are trained and saved beside adapters."""

import json
from pathlib import Path

import pytest
import tokenizers
import torch
from safetensors.torch import load_file

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.adapted import AdaptedModel
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.model.lora import add_adapters, merge_adapters, without_adapters
from tinyslm.model.lora_config import LoraConfig
from tinyslm.model.loss import IGNORE, log_probs, loss_sum
from tinyslm.planning.finetune import finetune
from tinyslm.planning.train import resume
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.training.interrupt import Interrupted
from tinyslm.training.pipeline import Watch

SETTINGS = {
    "optimizer": {"lr": 0.01},
    "lora": {"rank": 4},
    "train": {"batch": 2, "steps": 4, "checkpoint_minutes": 0.0, "device": "cpu"},
}


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def base(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = json.dumps(train_tokenizer([], kind="byte").content)
    content = content.replace("<|im_start|>", "<|one|>").replace("<|im_end|>", "<|other|>")
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(content))
    torch.manual_seed(0)
    shape = {"dim": 64, "heads": 2, "depth": 1, "context": 128, "init_std": 0.1, "tied": request.param}
    folder = tmp_path_factory.mktemp("bare") / "base"
    save_model(Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **shape)), folder, tokenizer)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps({"question": f"{n}?", "answer": str(n)}) + "\n" for n in range(20)))
    return path


def with_rows(base: Path) -> tuple[Decoder, torch.Tensor]:
    """The base with adapters and two new tokens, and ids with them."""
    model, size = load_model(base), load_model(base).config.vocab_size
    add_adapters(model, LoraConfig(rank=2, token_rows=(size, size + 1)))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith(("adapter.rows", "adapter.B")):
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval(), torch.tensor([[size, 5, 6, size + 1, 7, size]])


def test_merged_equals_unmerged_and_the_base_stays(base: Path) -> None:
    model, ids = with_rows(base)
    before, whole = load_model(base), model(ids)
    with without_adapters(model):
        assert torch.allclose(model(ids[:, 1:3])[..., :-2], before(ids[:, 1:3]), atol=1e-5)
        assert not torch.allclose(model(ids), whole, atol=1e-2)
    merge_adapters(model)
    assert torch.allclose(model(ids), whole, atol=1e-5)
    assert not [name for name in model.state_dict() if "adapter" in name]
    table = model.model.embed_tokens.weight
    assert torch.equal(table[:-2], before.model.embed_tokens.weight)


@pytest.mark.parametrize("take", [loss_sum, log_probs])
def test_the_gradients_of_rows_are_those_of_whole_tables(base: Path, take) -> None:
    model, ids = with_rows(base)
    merged, _ = with_rows(base)
    merge_adapters(merged)
    targets = torch.cat([ids[0, 1:], torch.tensor([5 if take is log_probs else IGNORE])])
    for one in (model, merged):
        take(one, one.model(ids).flatten(0, 1), targets).sum().backward()
    pairs = [(model.model.embed_tokens, merged.model.embed_tokens)]
    pairs += [] if model.config.tied else [(model.lm_head, merged.lm_head)]
    for ours, table in pairs:
        assert torch.allclose(ours.adapter.rows.grad, table.weight.grad[-2:], atol=1e-5)
        assert ours.weight.grad is None


def test_a_base_without_chats_is_taught_to_chat(base: Path, rows: Path, tmp_path: Path) -> None:
    def stop(event: dict) -> None:
        if event["event"] == "checkpoint" and event["step"] == 2:
            raise Interrupted(2)

    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        finetune(base, [rows], run, settings=SETTINGS, watch=Watch(event=stop))
    resume(run)
    size, dim = load_model(base).config.vocab_size, 64
    saved = load_file(run / "adapter" / "adapter_model.safetensors")
    tables = {name.split(".")[-3]: tuple(tensor.shape) for name, tensor in saved.items() if ".lora_" not in name}
    assert set(tables.values()) == {(2, dim)}
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    assert config["trainable_token_indices"] == {name: [size, size + 1] for name in tables}
    engine = open_engine(AdaptedModel(base, run), "torch", device="cpu")
    whole = load_model(run / "model")
    ids = torch.tensor([engine.chat_ids([{"role": "user", "content": "1?"}])])
    assert {size, size + 1} <= set(ids[0].tolist())
    assert torch.allclose(engine.model(ids), whole(ids), atol=1e-4)
    assert load_tokenizer(run / "model").sha256 == engine.tokenizer.sha256
    assert engine.chat([{"role": "user", "content": "1?"}], SamplingSettings(max_tokens=3))


def test_all_weights_of_a_base_without_chats(base: Path, rows: Path, tmp_path: Path) -> None:
    finetune(base, [rows], tmp_path / "run", settings={**SETTINGS, "lora": {"rank": 0}})
    assert load_model(tmp_path / "run" / "model").config.vocab_size == load_model(base).config.vocab_size + 2


def test_a_quantized_base_is_refused(base: Path, rows: Path, tmp_path: Path) -> None:
    from tinyslm.compression.config import QuantizeConfig
    from tinyslm.compression.quantizing import quantize

    quantize(base, tmp_path / "int8", QuantizeConfig(scheme="int8", method="rtn", judge_tokens=200))
    with pytest.raises(TinyslmError, match="new tokens need rows"):
        finetune(tmp_path / "int8", [rows], tmp_path / "run", settings=SETTINGS)
