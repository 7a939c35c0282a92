"""The losses of grpo and their gradients equal those of TRL's GRPOTrainer on the same answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig as TheirConfig
from trl import GRPOTrainer

from tinyslm.data.prompts import Prompt
from tinyslm.evaluation.graders import Grade
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, save_model
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.rollouts import Sampler, advantages
from tinyslm.training.stages.grpo import Answer, Grpo, Rollouts
from tinyslm.training.world import World

PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12]]
ANSWERS = [[[20, 21], [30, 31, 32, 33]], [[40], [50, 51, 52]]]
REWARDS = [[0.2, 0.9], [0.0, 0.5]]
LONGEST = 6


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a b c"], kind="byte")
    shape = {"dim": 32, "heads": 4, "kv_heads": 2, "depth": 2, "context": 32, "init_std": 0.2}
    folder = tmp_path_factory.mktemp("base") / "base"
    model = Decoder(ModelConfig(family="llama", vocab_size=tokenizer.vocab_size, **shape))
    save_model(model, folder, tokenizer)
    return folder


CASES = {
    "grpo": {"loss": "grpo"},
    "dr_grpo": {"loss": "dr_grpo"},
    "dapo": {"loss": "dapo"},
    "sequences": {"loss": "grpo", "importance": "sequence"},
    "kl": {"loss": "dapo", "kl": 0.3},
    "on policy": {"loss": "dapo", "updates": 1},
    "temperature": {"loss": "grpo", "temperature": 0.7},
}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_trl_s(case: str, base: Path, tmp_path: Path) -> None:
    given = {"max_tokens": LONGEST, "prompts": 2, "group": 2, "updates": 2} | CASES[case]
    train = {"stage": "grpo", "grader": "exact", "start_from": str(base), "row_tokens": 16, "steps": 1, "device": "cpu"}
    config = RunConfig.model_validate({"grpo": given, "train": train})
    settings, rng = config.grpo, np.random.default_rng(0)

    def draws(answers: list[list[int]], spread: float) -> list[list[float]]:
        return [(-4 + spread * rng.standard_normal(len(one))).tolist() for one in answers]

    flat = [one for group in ANSWERS for one in group]
    scaled = [one for group in REWARDS for one in advantages(group, scaled=settings.scaled)]
    old = draws(flat, 2.0) if settings.updates > 1 else [()] * 4
    reference = draws(flat, 0.5) if settings.kl else [()] * 4
    answers = [Answer(i // 2, ids, scaled[i], old[i], reference[i]) for i, ids in enumerate(flat)]
    model = load_model(base)
    prompts = [Prompt(tuple(ids), {}) for ids in PROMPTS]
    tokenizer = AutoTokenizer.from_pretrained(base)

    def grader(*_: object) -> Grade:
        return Grade(0.0)

    rollouts = Rollouts(prompts, grader, Sampler(None, 16, torch.float32), config, World())
    stage = Grpo(prompts, None, rollouts, grader, config)
    batch = rollouts._batch(answers)
    total, weight, _ = stage.loss(model, batch)
    ours = total / weight
    ours.backward()

    theirs_model = AutoModelForCausalLM.from_pretrained(base)
    arguments = TheirConfig(
        output_dir=str(tmp_path),
        loss_type=settings.loss,
        importance_sampling_level=settings.importance,
        beta=settings.kl,
        epsilon=settings.clip_low,
        epsilon_high=settings.clip_high,
        temperature=settings.temperature,
        max_completion_length=LONGEST,
        num_generations=2,
        per_device_train_batch_size=4,
        scale_rewards="group" if settings.scaled else "none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
    )
    trainer = GRPOTrainer(
        model=theirs_model,
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "x"}] * 8),
        processing_class=tokenizer,
    )
    trainer.current_gradient_accumulation_steps = 1
    inputs = padded(flat, old, reference, scaled)
    found = trainer._compute_loss(trainer.model.train(), inputs)
    found.backward()
    assert ours.item() == pytest.approx(found.item(), abs=1e-5)
    wanted = trainer.model.model.layers[0].self_attn.q_proj.weight.grad
    assert torch.allclose(model.model.layers[0].self_attn.q_proj.weight.grad, wanted, atol=1e-5)
    assert wanted.abs().max() > 1e-3, "the gradient says something"


def padded(flat, old, reference, scaled) -> dict[str, torch.Tensor]:
    """The answers as TRL lays them out: prompts padded on the left, answers on the right."""
    before, after = max(map(len, PROMPTS)), max(map(len, flat))

    def left(ids):
        return [0] * (before - len(ids)) + ids

    def right(values):
        return list(values) + [0] * (after - len(values))

    prompts = [PROMPTS[i // 2] for i in range(len(flat))]
    made = {
        "prompt_ids": torch.tensor([left(ids) for ids in prompts]),
        "prompt_mask": torch.tensor([left([1] * len(ids)) for ids in prompts]),
        "completion_ids": torch.tensor([right(ids) for ids in flat]),
        "completion_mask": torch.tensor([right([1] * len(ids)) for ids in flat]),
        "advantages": torch.tensor(scaled),
        "num_items_in_batch": torch.tensor(float(sum(map(len, flat)))),
    }
    if old[0]:
        made["old_per_token_logps"] = torch.tensor([right(one) for one in old])
    if reference[0]:
        made["ref_per_token_logps"] = torch.tensor([right(one) for one in reference])
    return made
