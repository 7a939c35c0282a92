"""Conversations as examples: what is learned is what the model will be asked to write; packing loses nothing."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from chat_template_styles import AGAIN, ASSISTANT, CALL, RESULT, STYLES, SYSTEM, USER
from tokenizer_folders import write_folder

from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import (
    IGNORE,
    Examples,
    RowLoader,
    arrays_of,
    examples_of,
    held_out_numbers,
    open_examples,
    packed_rows,
    prepare_examples,
)
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.tool_calls import for_template

LAST = {"role": "assistant", "content": "Sure, it is 5."}
TALKS = {
    "two turns": [USER, ASSISTANT, AGAIN, LAST],
    "system": [SYSTEM, USER, ASSISTANT, AGAIN, LAST],
    "a call": [USER, CALL, RESULT, LAST],
}
REFUSED = {("Gemma", "system"), ("DeepSeek", "a call")}
"""Templates that raise for such a conversation, whatever is done."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    return Tokenizer.load(write_folder("llama2", tmp_path_factory.mktemp("tokenizer") / "model"))


def served(messages, tokenizer: Tokenizer) -> list:
    """The messages as the engine gives them to the chat template."""
    return for_template(messages, None, tokenizer)[0]


def answered(tokenizer: Tokenizer, messages) -> list[tuple[list[int], list[int]]]:
    """By rendering every prefix: what the model reads before each answer, and what it should write."""
    found = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            asked = encode_chat(tokenizer, served(messages[:number], tokenizer), add_generation_prompt=True)
            whole = encode_chat(tokenizer, served(messages[: number + 1], tokenizer))
            if whole[: len(asked)] != asked:  # it asks for a thought, or moves the system's message
                if message.get("tool_calls"):
                    raise TinyslmError("A call that is never written again.", "")
                whole = [*asked, *tokenizer.encode(message["content"]), tokenizer.eos_id]
            found.append((asked, whole[len(asked) :]))
    return found


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("style", STYLES)
def test_what_is_learned_is_what_is_served(style: str, talk: str, tokenizer: Tokenizer) -> None:
    tokenizer.chat_template = STYLES[style]
    messages = TALKS[talk]
    try:
        expected = answered(tokenizer, messages)
    except TinyslmError:
        assert (style, talk) in REFUSED
        return
    runs = []
    for example in examples_of(Conversation(messages, "row 1"), tokenizer):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], example.learned, [False]]).astype(int)))
        for start, stop in edges.reshape(-1, 2):
            runs.append((example.ids[:start].tolist(), example.ids[start:stop].tolist()))
    assert len(runs) == len(expected)
    for (asked, written), (read, learned) in zip(expected, runs, strict=True):
        assert read == asked
        # An end of turn is learned; line ends and ends of text that the template writes after it need not be.
        assert written[: len(learned)] == learned
        rest = tokenizer.decode(written[len(learned) :])
        assert not rest.strip() or rest.strip() == tokenizer.eos


def examples(tmp_path: Path, lengths: list[int]) -> Examples:
    ids = np.concatenate([np.arange(length) + 100 * number for number, length in enumerate(lengths)])
    ids.astype(np.int32).tofile(tmp_path / "train.ids.bin")
    (ids % 3 == 0).astype(np.uint8).tofile(tmp_path / "train.learned.bin")
    np.save(tmp_path / "train.offsets.npy", np.cumsum([0, *lengths]))
    return Examples(tmp_path, "train")


def test_rows_hold_every_example_once_and_are_full() -> None:
    inputs = np.random.default_rng(0).integers(1, 59, 500)
    rows = packed_rows(inputs, 64)
    assert sorted(number for row in rows for number in row) == list(range(500))
    filled = [sum(int(inputs[number]) for number in row) for row in rows]
    assert max(filled) <= 64
    assert np.mean(filled) > 0.9 * 64


def test_arrays_of_rows(tmp_path: Path) -> None:
    found = examples(tmp_path, [4, 3, 6])
    inputs, targets, segments = arrays_of([[found[0], found[1]], [found[2]]])
    assert inputs.tolist() == [[0, 1, 2, 100, 101], [200, 201, 202, 203, 204]]
    assert targets.tolist() == [[IGNORE, IGNORE, 3, IGNORE, 102], [201, IGNORE, IGNORE, 204, IGNORE]]
    assert segments.tolist() == [[0, 0, 0, 1, 1], [0] * 5]


def test_epochs_give_each_example_once_and_resume_anywhere(tmp_path: Path) -> None:
    found = examples(tmp_path, [5, 9, 3, 7, 4, 6, 8, 2, 9, 3])
    loader = RowLoader(found, context=10, batch=2, seed=1)

    def firsts(rows) -> list[int]:
        return [int(example.ids[0]) for row in rows for example in row]

    states, batches = [loader.state()], []
    for _ in range(12):
        batches.append(firsts(loader.next()))
        states.append(loader.state())
    rows = loader.rows_of_an_epoch
    assert rows >= 5
    for state, batch in zip(states, batches, strict=False):
        again = RowLoader(found, context=10, batch=2, seed=1)
        again.restore(state)
        assert firsts(again.next()) == batch
    assert batches[:5] != [firsts(RowLoader(found, context=10, batch=2, seed=2).next())] * 5
    halves = [RowLoader(found, context=10, batch=2, seed=1, rows=rows) for rows in (slice(0, 1), slice(1, 2))]
    for batch in batches:
        assert [first for half in halves for first in firsts(half.next())] == batch, "processes share a batch"


def test_prepared_folders(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.chat_template = STYLES["SmolLM2"]

    def talks():
        for number in range(40):
            asked = {"role": "user", "content": f"What is {number // 2}?"}
            answer = {"role": "assistant", "content": "word " * (60 if number == 5 else 2)}
            yield Conversation([asked, answer], f"row {number + 1}")

    left_out: list[tuple[str, str]] = []
    found = prepare_examples(
        talks(), tmp_path / "data", tokenizer, context=200, valid_share=0.3, left_out=lambda *one: left_out.append(one)
    )
    assert left_out == [("row 6", "longer than 200 tokens")]
    assert found.train + found.valid == 39
    train, valid, saved = open_examples(tmp_path / "data", verify=True)
    assert (len(train), len(valid), saved.sha256) == (found.train, found.valid, tokenizer.sha256)
    texts = [[tokenizer.decode(part[n].ids.tolist()) for n in range(len(part))] for part in (train, valid)]
    assert not set(texts[0]) & set(texts[1]), "a question stands in one split only"
    with pytest.raises(TinyslmError, match=r"no conversations to learn from \(39: longer than 9 tokens\)"):
        prepare_examples((one for one in talks() if one.place != "row 6"), tmp_path / "x", tokenizer, context=9)
    assert not (tmp_path / "x").exists()
    with pytest.raises(TinyslmError, match="contains no prepared conversations"):
        open_examples(tmp_path)


def test_the_order_of_an_epoch_changes(tmp_path: Path) -> None:
    found = examples(tmp_path, [5] * 12)
    loader = RowLoader(found, context=4, batch=12, seed=0)
    epochs = [[int(row[0].ids[0]) for row in loader.next()] for _ in range(3)]
    assert all(sorted(one) == sorted(epochs[0]) for one in epochs)
    assert all(one != other for one, other in pairwise(epochs))


@pytest.mark.parametrize(
    ("count", "held_out"), [(1, 0), (2, 1), (60, 12), (150, 30), (300, 30), (600, 30), (2000, 100)]
)
def test_small_data_holds_out_a_larger_share(count: int, held_out: int) -> None:
    assert len(held_out_numbers(set(range(count)))) == held_out
