"""Where the settings of a run come from: defaults, a file, options; the last one counts."""

import json
import tomllib
from pathlib import Path

import pytest
import yaml
from the_command import TINY

from tinyslm.cli.settings import nested, settings
from tinyslm.core.config import fields, flatten
from tinyslm.core.quantities import counted
from tinyslm.training.config import RunConfig


def test_the_listed_settings_are_the_defaults(tinyslm) -> None:
    listed = tinyslm("config").out
    Path("all.toml").write_text(listed)
    assert settings(RunConfig, Path("all.toml"), ()) == RunConfig()
    uncommented = listed.replace("\n# ", "\n")
    Path("explicit.toml").write_text(uncommented)
    assert settings(RunConfig, Path("explicit.toml"), ()) == RunConfig()
    assert {key for key, _ in flatten(tomllib.loads(uncommented))} == {key for key, _ in fields(RunConfig)}


def test_options_win_over_the_file_and_the_last_one_counts() -> None:
    Path("run.toml").write_text("[model]\ndim = 64\ndepth = 2\n[train]\nsteps = 7\n")
    chosen = settings(RunConfig, Path("run.toml"), ["model.depth=3", "train.batch=2", "train.batch=8"])
    assert (chosen.model.dim, chosen.model.depth, chosen.train.steps, chosen.train.batch) == (64, 3, 7, 8)
    assert chosen.data == RunConfig().data


def test_lists_add_up_and_hyphens_are_underscores() -> None:
    options = ["train.sinks=tensorboard", "train.sinks=trackio", "train.log-every=3", "data.text_column=a=b"]
    assert nested(RunConfig, options) == {
        "train": {"sinks": ["tensorboard", "trackio"], "log_every": "3"},
        "data": {"text_column": "a=b"},
    }
    assert settings(RunConfig, None, options).train.sinks == ("tensorboard", "trackio")


@pytest.mark.parametrize("form", ["toml", "yaml"])
def test_a_file_and_options_reach_the_run(tinyslm, texts: Path, form: str) -> None:
    values = {
        "model": {"dim": 32, "depth": 1, "head_dim": 16, "context": 16},
        "train": {"steps": 3, "batch": 2, "device": "cpu"},
        "tokenizer": {"kind": "byte"},
    }
    sections = {
        group: "\n".join(f"{key} = {json.dumps(value)}" for key, value in some.items())
        for group, some in values.items()
    }
    toml = "\n".join(f"[{group}]\n{lines}" for group, lines in sections.items())
    file = Path(f"run.{form}")
    file.write_text(toml if form == "toml" else yaml.safe_dump(values))
    ended = tinyslm("train", texts, "--out", "run", "-c", file, "--train.steps", "2", "--model.ffn_dim=64")
    assert ended.code == 0, ended.err
    written = json.loads(Path("run/config.json").read_text())
    assert (written["model"]["dim"], written["model"]["ffn_dim"], written["model"]["context"]) == (32, 64, 16)
    assert (written["train"]["steps"], written["train"]["batch"]) == (2, 2)
    assert written["tokenizer"]["kind"] == "byte"
    assert written["model"]["vocab_size"] == 320


WITHOUT_LENGTH = [option for option in TINY if "train.steps" not in option]


def test_minutes_take_the_place_of_the_steps_of_a_file(tinyslm, texts: Path) -> None:
    Path("run.toml").write_text("[train]\nsteps = 7\n")
    ended = tinyslm("train", texts, "--out", "run", *WITHOUT_LENGTH, "--config", "run.toml", "--minutes", "0.01")
    assert ended.code == 0, ended.err
    written = json.loads(Path("run/config.json").read_text())
    assert (written["train"]["minutes"], written["train"]["steps"]) == (0.01, 0)
    steps = json.loads(Path("run/deadline.json").read_text())["steps"]
    assert f"for about {counted(steps, 'step')} on cpu" in ended.out


def test_tokens_are_read_to_the_next_whole_step(tinyslm, texts: Path) -> None:
    ended = tinyslm("train", texts, "--out", "run", *WITHOUT_LENGTH, "--tokens", 300, "--json")  # steps of 128
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["result"]["training_tokens"] == 384
    assert not Path("run/deadline.json").exists()


def test_hours_are_sixty_minutes() -> None:
    from tinyslm.cli.train import TrainOptions, _short_forms

    assert settings(RunConfig, None, list(_short_forms(TrainOptions(hours=1.5)))).train.minutes == 90


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--minutes", "5", "--train.steps", "10"], "steps (10) and minutes (5.0) exclude each other"),
        (["--tokens", "5", "--minutes", "1"], "tokens (5) and minutes (1.0) exclude each other"),
        (["--tokens", "5", "--hours", "1", "--train.steps=3"], "steps (3) and tokens (5) and minutes (60.0) exclude"),
        (["--minutes", "5", "--hours", "1"], "--minutes and --hours are two forms of one setting. Give one of them."),
    ],
)
def test_a_run_has_one_measure_of_its_length(tinyslm, texts: Path, given: list[str], told: str) -> None:
    assert told in tinyslm("train", texts, "--out", "run", *given).mistake()
    assert not Path("run").exists()


def test_what_is_given_over_others_takes_the_place_of_its_alternatives() -> None:
    assert RunConfig().train.minutes == 10
    assert RunConfig(train={"steps": 3}).train.minutes is None
    Path("run.toml").write_text("[train]\nminutes = 7\nbatch = 2\n")
    assert settings(RunConfig, Path("run.toml"), ["train.batch=4"]).train.minutes == 7
    chosen = settings(RunConfig, Path("run.toml"), ["train.tokens=50"]).train
    assert (chosen.steps, chosen.tokens, chosen.minutes, chosen.batch) == (0, 50, None, 2)
