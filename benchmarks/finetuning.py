"""Fine-tuning of SmolLM2-135M-Instruct on 4 x 256 tokens an update: ours compared with TRL and peft.

    python benchmarks/finetuning.py --model FOLDER --data FOLDER [--full] [--dtype bf16] [--rounds 3] [--steps 3]

Both learn the same conversations, of several turns from shell_commands.train.jsonl and some 240 tokens each, with rank
16 on all linear layers, in turns, in the environment of `make test-peers`, each in a process of its own for its peak
memory. TRL runs with its defaults, in which every token is learned; ours learns the answers. --full: all weights are
trained, in fp32, with the products in the given type. --dtype default: each as it is without this setting, which is
bf16 for ours where the processor is fast at it, and fp32 for TRL.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from harness import alternate, compare, finish, in_process, parser, peak_memory

ROWS, TOKENS, RANK = 4, 256, 16


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="SmolLM2-135M-Instruct, as `tinyslm pull` writes it")
    options.add_argument("--data", type=Path, required=True, help="a folder with shell_commands.train.jsonl")
    options.add_argument("--dtype", choices=["default", "fp32", "bf16"], default="default")
    options.add_argument("--full", action="store_true", help="train all weights instead of adapters")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--steps", type=int, default=3, help="updates of each in one round")
    arguments = options.parse_args()
    memory: dict[str, list[int]] = {"tinyslm": [], "TRL": []}

    def measure(name: str, function: str) -> float:
        given = (
            str(arguments.model),
            str(arguments.data),
            arguments.dtype,
            arguments.steps,
            0 if arguments.full else RANK,
        )
        rate, peak = in_process(function, *given)
        memory[name].append(peak)
        return rate

    ways = {
        "tinyslm": lambda _: measure("tinyslm", "finetuning.ours"),
        "TRL": lambda _: measure("TRL", "finetuning.theirs"),
    }
    result: dict[str, Any] = {
        "dtype": arguments.dtype,
        "full": arguments.full,
        **compare(alternate(ways, range(arguments.rounds + 1)), "TRL"),
    }
    finish({**result, "peak_memory": {name: max(peaks) for name, peaks in memory.items()}})


def ours(model: str, data: str, dtype: str, steps: int, rank: int) -> tuple[float, int]:
    """Tokens per second of updates after the first, and the peak memory."""
    import tempfile

    from tinyslm import finetune
    from tinyslm.data.examples import open_examples
    from tinyslm.training.pipeline import Watch

    times: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            times.append(time.perf_counter())
            print(event["step"], file=sys.stderr)

    train = {"batch": ROWS, "steps": steps + 1, "log_every": 1}
    train |= {} if dtype == "default" else {"dtype": dtype}
    train |= {"validation_tokens": 1, "score_tokens": 1, "validate_every": 1000, "sample_every": 1000}
    train |= {"checkpoint_minutes": 1000.0, "device": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in conversations(Path(data))))
        settings = {"train": train, "lora": {"rank": rank}}
        finetune(model, [rows], Path(folder) / "run", settings=settings, watch=Watch(event=watch))
        examples = open_examples(Path(folder) / "run" / "data")[0]
        mean = float(examples.lengths.mean())
    # The last update's time has the validation at the end, so it is left out.
    return (steps - 1) * ROWS * mean / (times[-2] - times[0]), peak_memory()


def theirs(model: str, data: str, dtype: str, steps: int, rank: int) -> tuple[float, int]:
    """The same of TRL's SFTTrainer with peft, with its defaults."""
    import tempfile

    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    talks = [{"messages": talk} for talk in conversations(Path(data))]
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            max_steps=steps + 1,
            per_device_train_batch_size=ROWS,
            max_length=2 * TOKENS,
            bf16=dtype == "bf16",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            model_init_kwargs={"dtype": "bfloat16" if dtype == "bf16" and rank else "float32"},
        )
        peft = LoraConfig(r=rank, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM") if rank else None
        trainer = SFTTrainer(
            model=model, args=config, train_dataset=Dataset.from_list(talks), peft_config=peft, callbacks=[Clock()]
        )
        lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
        torch.manual_seed(0)
        trainer.train()
    tokens = ROWS * sum(lengths) / len(lengths)
    return (steps - 1) * tokens / (times[-2] - times[0]), peak_memory()


def conversations(data: Path) -> list[list[dict[str, str]]]:
    """Conversations of as many turns as fit; a token is 3.5 characters, and a turn takes 8 more."""
    made: list[list[dict[str, str]]] = []
    with (data / "shell_commands.train.jsonl").open(encoding="utf-8") as file:
        talk, size = [], 30.0  # the template's own system message
        while len(made) < 64:
            row = json.loads(next(file))
            asked, answer = f"{row['instruction']} {row['input']}", row["output"]
            tokens = (len(asked) + len(answer)) / 3.5 + 16
            if talk and size + tokens > TOKENS:
                made.append(talk)
                talk, size = [], 30.0
            size += tokens
            talk += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return made


if __name__ == "__main__":
    main()
