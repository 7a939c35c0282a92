import multiprocessing
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from tiny_run import TINY

from sentences import sentences
from tinyslm.core.config import build_config, merge
from tinyslm.data.config import DataConfig
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards
from tinyslm.tokenizer.training import train_tokenizer
from tinyslm.training import pipeline
from tinyslm.training.config import RunConfig
from tinyslm.training.report import write_report


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    """A file of 6 kB of English-like text."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(sentences(100))
    return path


@pytest.fixture(scope="session")
def shards(tmp_path_factory, text_file) -> Shards:
    """Shards of that text, a token for each byte."""
    out = tmp_path_factory.mktemp("shards") / "shards"
    return prepare([str(text_file)], out, tokenizer=train_tokenizer([], kind="byte"), config=DataConfig(workers=1))


@pytest.fixture
def tiny_config():
    """Makes settings of a run that takes a second: `tiny_config(train={"steps": 3})`."""
    return lambda **changes: build_config(RunConfig, merge(TINY, changes))


@pytest.fixture(autouse=True)
def reports_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of the runs of a test are drawn without starting Python for each.

    Runs of fixtures for a module, of processes and of the command line draw theirs in a process of its own, as ever.
    """
    monkeypatch.setattr(pipeline, "draw_report", write_report)


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Starts processes that have the libraries loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tinyslm.planning.train", "torch._inductor.compile_fx", "vl_convert"])
    return context
