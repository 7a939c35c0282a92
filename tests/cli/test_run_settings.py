"""Where the settings of a run come from: defaults, a file, options; the last one counts."""

import json
import tomllib
from pathlib import Path

import pytest
import yaml
from the_command import TINY

from tinyslm.cli.settings import nested, settings
from tinyslm.core.config import fields, flatten
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


def test_minutes_take_the_place_of_steps(tinyslm, texts: Path) -> None:
    assert tinyslm("train", texts, "--out", "run", *TINY, "--minutes", "0.01").code == 0
    written = json.loads(Path("run/config.json").read_text())
    assert written["train"]["minutes"] == 0.01
    assert written["train"]["steps"] > 0
