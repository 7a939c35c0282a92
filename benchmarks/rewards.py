"""GRPO of SmolLM2-135M-Instruct with LoRA: ours compared with TRL, in completions learned per second.

    python benchmarks/rewards.py --model FOLDER [--dtype bf16] [--rounds 2] [--steps 3]

Both answer 4 prompts 8 times with at most 64 tokens at temperature 1, and learn from the lengths of the answers (a
reward that always differs within a group, so that no answer can be skipped), with rank 16 on all linear layers, in
turns, in the environment of `make test-peers`, each in a process of its own for its peak memory. TRL samples with
transformers' continuous batching, or with `--plain` with its `generate`.
"""

import json
import time
from pathlib import Path
from typing import Any

from harness import alternate, compare, finish, in_process, parser, peak_memory

PROMPTS, GROUP, LONGEST, RANK = 4, 8, 64, 16


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="SmolLM2-135M-Instruct, as `tinyslm pull` writes it")
    options.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--steps", type=int, default=3, help="updates of each in one round")
    options.add_argument("--plain", action="store_true", help="TRL without continuous batching")
    arguments = options.parse_args()
    memory: dict[str, list[int]] = {"tinyslm": [], "TRL": []}

    def measure(name: str, function: str, *more: Any) -> float:
        rate, peak = in_process(function, str(arguments.model), arguments.dtype, arguments.steps, *more)
        memory[name].append(peak)
        return rate

    ways = {
        "tinyslm": lambda _: measure("tinyslm", "rewards.ours"),
        "TRL": lambda _: measure("TRL", "rewards.theirs", arguments.plain),
    }
    result: dict[str, Any] = {"dtype": arguments.dtype, "continuous batching": not arguments.plain}
    result |= compare(alternate(ways, range(arguments.rounds + 1)), "TRL")
    finish({**result, "peak_memory": {name: max(peaks) for name, peaks in memory.items()}})


def questions() -> list[str]:
    """Prompts that are answered at some length."""
    things = ["the sea", "bread", "a bicycle", "winter", "music", "a library", "the moon", "gardens"]
    return [f"Tell me {number} facts about {thing}." for number in range(2, 6) for thing in things]


def ours(model: str, dtype: str, steps: int) -> tuple[float, int]:
    """Completions per second of updates after the first, and the peak memory."""
    import tempfile

    from tinyslm import finetune
    from tinyslm.training.pipeline import Watch

    times: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            times.append(time.perf_counter())

    train = {"steps": steps + 1, "dtype": dtype, "log_every": 1, "device": "cpu", "validation_tokens": 1}
    train |= {"score_tokens": 1, "validate_every": 1000, "sample_every": 1000, "checkpoint_minutes": 1000.0}
    with tempfile.TemporaryDirectory() as folder:
        grader, rows = Path(folder) / "grader.py", Path(folder) / "rows.jsonl"
        grader.write_text("def grade(example, answer):\n    return len(answer) % 97 / 97\n")
        rows.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in questions()))
        settings = {"grpo": {"prompts": PROMPTS, "group": GROUP, "max_tokens": LONGEST}, "lora": {"rank": RANK}}
        settings |= {"train": {**train, "grader": f"{grader}:grade"}, "verdict": {"questions": 1}}
        finetune(model, [rows], Path(folder) / "run", method="grpo", settings=settings, watch=Watch(event=watch))
    # The last update's time has the validation at the end, so it is left out.
    return (steps - 1) * PROMPTS * GROUP / (times[-2] - times[0]), peak_memory()


def theirs(model: str, dtype: str, steps: int, plain: bool) -> tuple[float, int]:
    """The same of TRL's GRPOTrainer with peft."""
    import tempfile

    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    def reward(completions: list[Any], **_: Any) -> list[float]:
        return [len(one[0]["content"]) % 97 / 97 for one in completions]

    rows = [{"prompt": [{"role": "user", "content": one}]} for one in questions()]
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            max_steps=steps + 1,
            per_device_train_batch_size=PROMPTS * GROUP,
            num_generations=GROUP,
            max_completion_length=LONGEST,
            temperature=1.0,
            use_transformers_continuous_batching=not plain,
            bf16=dtype == "bf16",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            model_init_kwargs={"dtype": "float32" if dtype == "fp32" else "bfloat16"},
        )
        peft = LoraConfig(r=RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=[reward],
            args=config,
            train_dataset=Dataset.from_list(rows),
            peft_config=peft,
            callbacks=[Clock()],
        )
        trainer.train()
    return (steps - 1) * PROMPTS * GROUP / (times[-2] - times[0]), peak_memory()


if __name__ == "__main__":
    main()
