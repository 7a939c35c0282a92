"""lm-eval and `tinyslm evaluate` agree on the same model and items, to within one item."""

import inspect
import json
import random
import textwrap
from pathlib import Path

import lm_eval
import pytest
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import tinyslm.evaluation.lm_eval
from tinyslm.evaluation.settings import EvaluationSettings
from tinyslm.export.evaluating import evaluate_tasks
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model
from tinyslm.tokenizer.training import train_tokenizer

WORDS = ["the", "a", "cat", "dog", "girl", "sees", "likes", "house", "old", "runs", "to", "with", "because", "water"]
ITEMS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([textwrap.dedent(inspect.getsource(inspect))], vocab_size=600)
    shape = {"dim": 64, "heads": 4, "depth": 3, "context": 128, "init_std": 0.2}
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **shape)), folder, tokenizer)
    return folder


def sentence(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words)).capitalize() + "."


def blimp(draw: random.Random, _: int) -> dict:
    return {"sentence_good": sentence(draw, 7), "sentence_bad": sentence(draw, 7), "UID": "random"}


def arc(draw: random.Random, number: int) -> dict:
    texts = [sentence(draw, draw.randint(1, 6)) for _ in "ABCD"]
    choices = {"text": texts, "label": list("ABCD")}
    return {"id": str(number), "question": sentence(draw, 9), "choices": choices, "answerKey": draw.choice("ABCD")}


def hellaswag(draw: random.Random, number: int) -> dict:
    return {
        "ind": number,
        "activity_label": "Making tea",
        "ctx_a": f"{sentence(draw, 8)} [step] then [title] stir",
        "ctx_b": sentence(draw, 2),
        "endings": [sentence(draw, draw.randint(4, 12)) for _ in range(4)],
        "label": str(draw.randrange(4)),
    }


def copa(draw: random.Random, number: int) -> dict:
    texts = {name: sentence(draw, 5) for name in ("premise", "choice1", "choice2")}
    return {**texts, "question": draw.choice(["cause", "effect"]), "label": draw.randrange(2), "idx": number}


MADE = {"blimp": blimp, "arc_easy": arc, "hellaswag": hellaswag, "copa": copa}
TASKS = Path(lm_eval.__file__).parent / "tasks"
THEIRS = {
    "blimp": "blimp/adjunct_island.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "copa": "super_glue/copa/default.yaml",
}
METRICS = {"raw": "acc,none", "per_byte": "acc_norm,none", "accuracy": "acc,none"}


def theirs(task: str, data: Path, model) -> dict[str, float]:
    """lm-eval's own task with our items instead of the hub's."""
    config = {
        "include": str(TASKS / THEIRS[task]),
        "task": f"{task}_here",
        "tag": None,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"validation": str(data)}},
        "training_split": None,
        "validation_split": "validation",
        "test_split": None,
    }
    (data.parent / f"{task}_here.yaml").write_text(yaml.safe_dump(config))
    manager = TaskManager(include_path=str(data.parent), include_defaults=False)
    found = simple_evaluate(model=model, tasks=[f"{task}_here"], task_manager=manager, bootstrap_iters=0)
    return found["results"][f"{task}_here"]


@pytest.mark.parametrize("task", MADE)
def test_scores_agree(task: str, model: Path, tmp_path: Path) -> None:
    draw, data = random.Random(1), tmp_path / f"{task}.jsonl"
    data.write_text("".join(json.dumps(MADE[task](draw, number)) + "\n" for number in range(ITEMS)))
    bos = "on" if task == "blimp" else "off"  # lm-eval reads the end of text only before texts without a context
    (ours,) = evaluate_tasks(model, f"{task}={data}", settings=EvaluationSettings(bos=bos))
    peer = HFLM(pretrained=str(model), dtype="float32", batch_size=8, device="cpu")
    for found in (theirs(task, data, peer), theirs(task, data, tinyslm.evaluation.lm_eval.TinyslmModel(str(model)))):
        for name, metric in METRICS.items():
            if name in ours.metrics and metric in found:
                assert abs(ours.metrics[name].value - found[metric]) <= 1 / ITEMS + 1e-9, (task, name)


def test_its_registry_has_our_models_and_they_generate(model: Path) -> None:
    from lm_eval.api.registry import get_model

    made = get_model("tinyslm").create_from_arg_string(f"model={model}")
    request = type("Request", (), {"args": ("def get", {"until": ["\n"], "max_gen_toks": 5})})
    (text,) = made.generate_until([request])
    assert isinstance(text, str)
    assert "\n" not in text
    assert made.loglikelihood_rolling([type("Request", (), {"args": ("def get(self):",)})])[0] < 0
