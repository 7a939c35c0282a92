"""Replay: a share of the rows is general text, the same whatever was interrupted and however a batch is split."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import RowLoader, open_examples, prepare_examples
from tinyslm.data.prepare import prepare
from tinyslm.data.shards import Shards
from tinyslm.model.loss import IGNORE
from tinyslm.planning.finetune import finetune
from tinyslm.planning.train import resume, train
from tinyslm.training.interrupt import Interrupted
from tinyslm.training.metrics import read_metrics
from tinyslm.training.pipeline import Watch
from tinyslm.training.replay import FOLDER, Replay, rows_until
from tinyslm.training.stages.sft import ConversationBatches
from tinyslm.training.world import World

CONTEXT, BATCH = 64, 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, shards: Shards, text_file: Path) -> Path:
    """An examples folder with general text in it."""
    talks = [
        Conversation([{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": str(n)}], "")
        for n in range(40)
    ]
    out = tmp_path_factory.mktemp("replay") / "data"
    prepare_examples(iter(talks), out, shards.tokenizer, context=CONTEXT)
    prepare([str(text_file)], out / FOLDER, tokenizer=shards.tokenizer)
    return out


def batches(data: Path, world: World | None = None, share: float = 0.3) -> ConversationBatches:
    shape = {"context": CONTEXT, "batch": BATCH, "seed": 1}
    replay = Replay(data, share=share, **shape)
    return ConversationBatches(open_examples(data)[0], world=world or World(), replay=replay, **shape)


def is_text(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Which rows are general text: those of which every token is learned."""
    return (targets != IGNORE).all(1) & (inputs.shape[1] == CONTEXT)


def test_a_share_of_the_rows_is_text_learned_whole(data: Path) -> None:
    source = batches(data)
    counts = []
    for _ in range(8):
        batch = source.next(None)
        text = is_text(batch.inputs, batch.targets)
        assert len(batch) == BATCH
        assert (batch.segments[text] == 0).all()
        assert (batch.targets[text, :-1] == batch.inputs[text, 1:]).all()
        counts.append(int(text.sum()))
    assert counts == [1, 2, 1, 2, 1, 2, 1, 2]
    assert rows_until(1000, 0.3 * BATCH) == 1500


def test_conversations_keep_their_order_beside_the_text(data: Path) -> None:
    alone = RowLoader(open_examples(data)[0], context=CONTEXT, batch=1, seed=1)
    batch = batches(data).next(None)
    for row in range(BATCH - 1):
        (examples,) = alone.next()
        ids = np.concatenate([one.ids[:-1] for one in examples])
        assert batch.inputs[row, : len(ids)].tolist() == ids.tolist()


def test_batches_resume_and_are_shared_between_processes(data: Path) -> None:
    source = batches(data)
    for _ in range(3):
        source.next(None)
    state = json.loads(json.dumps(source.state()))
    other = batches(data)
    other.restore(state)
    parts = [batches(data, World(rank, 2)) for rank in range(2)]
    for part in parts:
        part.restore(state)
    for _ in range(4):
        whole, again = source.next(None), other.next(None)
        assert whole.inputs.equal(again.inputs)
        shares = [part.next(None) for part in parts]
        assert sum(len(share) for share in shares) == BATCH
        learned = sum(share.learned for share in shares)
        assert learned == whole.learned


def test_a_run_with_replay_resumes_to_the_same_weights(tmp_path: Path, shards: Shards, text_file: Path) -> None:
    shape = {"dim": 32, "heads": 2, "depth": 1, "context": 256}
    train([shards.folder], tmp_path / "base", settings={"model": shape, "train": {"steps": 1, "device": "cpu"}})
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{n}?", "answer": f"{n}!"}) + "\n" for n in range(99)))
    settings = {
        "train": {"batch": 2, "steps": 5, "checkpoint_minutes": 0.0, "device": "cpu"},
        "replay": {"share": 0.5, "text": [str(text_file)]},
    }

    def stop(event: dict) -> None:
        if event["event"] == "checkpoint" and event["step"] == 3:
            raise Interrupted(3)

    whole = finetune(tmp_path / "base", [rows], tmp_path / "whole", settings=settings)
    assert whole["verdict"]["replay"] == 0.5
    assert "with 50 % replay" in whole["verdict"]["words"]
    with pytest.raises(Interrupted):
        finetune(tmp_path / "base", [rows], tmp_path / "stopped", settings=settings, watch=Watch(event=stop))
    assert resume(tmp_path / "stopped")["loss"] == whole["loss"]
    losses = [
        [row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl") if row["event"] == "step"]
        for name in ("whole", "stopped")
    ]
    assert losses[0] == losses[1]


def test_replay_is_for_conversations(tmp_path: Path, text_file: Path) -> None:
    with pytest.raises(TinyslmError, match=r"replay\.share is for the stage sft, not for pretrain"):
        train([text_file], tmp_path / "run", settings={"replay": {"share": 0.1}, "train": {"steps": 1}})
