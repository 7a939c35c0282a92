"""Tokenized conversations with a loss mask, stored in an examples folder and packed into rows.

An examples folder holds, for each split (`train`, `valid`):

    train.ids.bin      int32, the ids of all examples, one after another
    train.learned.bin  uint8, the loss mask: for each id, whether the model learns to predict it
    train.offsets.npy  int64 [examples + 1], where each example begins

and also `valid.origins.jsonl` (the rows that the held-out examples are from), `tokenizer/`, and `manifest.json` with
counts and a hash of every file. Folders of preferences have the same files, in which each chosen answer is followed by
the rejected one (`data/preferences.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import MANIFEST, atomic_folder, read_manifest, write_manifest
from tinyslm.core.json_files import read_json
from tinyslm.data.conversations import Conversation
from tinyslm.tokenizer.chat import TurnsDiffer, encode_chat, encode_chat_masked
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.tool_calls import for_template

KIND = "conversations"
SPLITS = ("train", "valid")
ORIGINS = "valid.origins.jsonl"
IGNORE = -100
Ids = NDArray[np.int64]
Group = tuple["Example", ...]
"""Examples that stay together: in one split, one after another, and in one row."""


@dataclass(frozen=True)
class Example:
    """The ids of a conversation, and the loss mask: the assistant's tokens, with the one that ends each answer."""

    ids: Ids
    learned: NDArray[np.bool_]
    origin: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """"row": the fields for graders, with the reference in "answer"; "asked": the last question. Only in memory."""

    def with_last_answer(self) -> Example:
        """A copy whose loss mask covers only the last answer."""
        not_learned = np.cumsum(~self.learned[::-1])[::-1]  # number of tokens from each position on
        last = not_learned[self.learned].min(initial=len(self.ids))
        return replace(self, learned=self.learned & (not_learned == last))

    @property
    def prompt(self) -> Ids:
        """The ids before the last answer."""
        return self.ids[: int(np.argmax(self.with_last_answer().learned))]


def examples_of(conversation: Conversation, tokenizer: Tokenizer) -> list[Example]:
    """Tokenize a conversation to the ids that the model reads and writes when it is served.

    Returns one example; or, if the chat template renders a message differently when others follow it, one for each
    assistant message, with the prompt that the model reads for this message. Raises `TinyslmError` for a conversation
    that the chat template cannot render.
    """
    shown = as_rendered(conversation, tokenizer)
    try:
        ids, learned = encode_chat_masked(tokenizer, shown.messages, tools=shown.tools or None)
    except TurnsDiffer:
        return [
            _turn(shown, number, tokenizer)
            for number, message in enumerate(shown.messages)
            if message["role"] == "assistant"
        ]
    return [Example(np.array(ids, np.int64), np.array(learned, bool), _origin(conversation))]


def as_rendered(conversation: Conversation, tokenizer: Tokenizer) -> Conversation:
    """The conversation with tools, calls and results as the engine passes them to the chat template.

    They become text if the template does not render them. Raises `TinyslmError` for tools without a name.
    """
    used = any(message.get("tool_calls") or message["role"] == "tool" for message in conversation.messages)
    if not conversation.tools and not used:
        return conversation
    messages, tools = for_template(conversation.messages, conversation.tools, tokenizer)
    return replace(conversation, messages=messages, tools=tools or ())


def _origin(conversation: Conversation, answer: int = -1) -> Mapping[str, Any]:
    """The `origin` of an `Example`. answer: index of the message that is the reference if the row has no "answer"."""
    messages = conversation.messages[:answer]
    asked = next((one["content"] for one in reversed(messages) if one["role"] == "user"), "")
    return {"asked": asked, "row": {"answer": conversation.messages[answer]["content"], **conversation.row}}


def _turn(conversation: Conversation, number: int, tokenizer: Tokenizer) -> Example:
    """The example of one assistant message after the prompt that the model reads for it.

    Some templates render that prompt differently in a longer conversation: they open a thought, or put the system
    message before the last question. For these, the text of the message and an end token are appended to the prompt.
    """
    before, tools = conversation.messages[:number], conversation.tools or None
    asked = encode_chat(tokenizer, before, add_generation_prompt=True, tools=tools)
    whole = encode_chat(tokenizer, conversation.messages[: number + 1], tools=tools)
    if whole[: len(asked)] != asked:
        message = conversation.messages[number]
        if message.get("tool_calls"):
            raise TinyslmError(
                f"{conversation.place} cannot be used: the chat template does not show how to write a tool call.",
                "Use a template that renders each message independently of the following ones.",
            )
        whole = [*asked, *tokenizer.encode(message["content"]), tokenizer.eos_id]
    ends = (place for place in range(len(asked), len(whole)) if whole[place] in tokenizer.stop_ids)
    ids = whole[: next(ends, len(whole) - 1) + 1]
    learned = np.arange(len(ids)) >= len(asked)
    return Example(np.array(ids, np.int64), learned, _origin(conversation, number))


@dataclass(frozen=True)
class Prepared:
    """Statistics of prepared conversations: the number in each split, and the number skipped, by reason.

    longest: tokens of the longest conversation; for preferences, of both answers with their prompts.
    """

    folder: Path
    train: int
    valid: int
    learned_tokens: int
    tokens: int
    longest: int
    left_out: Mapping[str, int]


def prepare_examples(
    conversations: Iterator[Conversation],
    out: Path,
    tokenizer: Tokenizer,
    *,
    context: int,
    valid_share: float | None = None,
    valid: Iterator[Conversation] | None = None,
    left_out: Callable[[str, str], None] = lambda *_: None,
) -> Prepared:
    """Write an examples folder, whole or not at all.

    context: longer conversations are skipped, not truncated. valid_share: the share of conversations to validate on
    (default: see `held_out_numbers`), chosen by a hash of the first question, so that no question is in both splits;
    `valid` replaces them. left_out: called with the location of each skipped conversation and the reason.

    Raises `TinyslmError` if a split would be empty.
    """

    def tokenize(conversation: Conversation) -> list[Group]:
        return [(example,) for example in examples_of(conversation, tokenizer)]

    splits = tokenize_splits(
        tokenize, conversations, valid, context=context, valid_share=valid_share, left_out=left_out
    )
    return write_splits(splits, out, tokenizer, kind=KIND)


@dataclass(frozen=True)
class Splits:
    """Tokenized conversations, and the number skipped, by reason. context: the maximum length in tokens."""

    train: Sequence[Group]
    valid: Sequence[Group]
    left_out: Mapping[str, int]
    context: int


def tokenize_splits(
    tokenize: Callable[[Conversation], list[Group]],
    conversations: Iterator[Conversation],
    valid: Iterator[Conversation] | None,
    *,
    context: int,
    valid_share: float | None,
    left_out: Callable[[str, str], None],
) -> Splits:
    """Tokenize conversations and divide them into splits; see `prepare_examples`.

    tokenize: converts a conversation to groups of examples; groups with an unusable example are skipped. Raises
    `TinyslmError` if a split would be empty.
    """
    reasons: dict[str, int] = {}

    def usable(source: Iterator[Conversation]) -> Iterator[tuple[int, Group]]:
        for conversation in source:
            for group in tokenize(conversation):
                if reason := _why_not(group, context):
                    reasons[reason] = reasons.get(reason, 0) + 1
                    left_out(conversation.place, reason)
                else:
                    yield question_hash(conversation), group

    found = list(usable(conversations))
    if valid is None:
        held_out = held_out_numbers({number for number, _ in found}, valid_share)
        parts = [[one for number, one in found if (number in held_out) == held] for held in (False, True)]
    else:
        parts = [[group for _, group in found], [group for _, group in usable(valid)]]
    if not all(parts):
        which = "to learn from" if not parts[0] else "to validate on"
        why = f" ({', '.join(f'{count}: {reason}' for reason, count in reasons.items())})" if reasons else ""
        raise TinyslmError(
            f"There are no conversations {which}{why}.", "Give more rows, or others to validate on: --valid"
        )
    return Splits(parts[0], parts[1], reasons, context)


def write_splits(splits: Splits, out: Path, tokenizer: Tokenizer, *, kind: str) -> Prepared:
    """Write an examples folder of this kind, whole or not at all."""
    parts = {"train": splits.train, "valid": splits.valid}
    with atomic_folder(out) as folder:
        tokenizer.save(folder / "tokenizer")
        counts = {name: _write(folder, name, [one for group in groups for one in group])
                  for name, groups in parts.items()}  # fmt: skip
        about = {"kind": kind, "version": 1, "splits": counts, "left_out": splits.left_out, "context": splits.context}
        about["together"] = len(splits.train[0])
        write_manifest(folder, about | {"tokenizer": {"sha256": tokenizer.sha256}})
    return Prepared(
        folder=out,
        train=len(splits.train),
        valid=len(splits.valid),
        learned_tokens=counts["train"]["learned_tokens"],
        tokens=counts["train"]["tokens"],
        longest=max(sum(len(one.ids) for one in group) for groups in parts.values() for group in groups),
        left_out=splits.left_out,
    )


def is_examples(folder: Path, kind: str = KIND) -> bool:
    """Whether a folder holds examples of this kind."""
    return (folder / MANIFEST).is_file() and read_json(folder / MANIFEST).get("kind") == kind


class Examples:
    """One split of an examples folder, read as needed. together: the number of examples in a group."""

    def __init__(self, folder: Path, split: str, together: int = 1) -> None:
        self.split, self.together = split, together
        self._folder = folder
        self.offsets: NDArray[np.int64] = np.load(folder / f"{split}.offsets.npy", allow_pickle=False)
        self._ids = np.memmap(folder / f"{split}.ids.bin", np.int32, "r")
        self._learned = np.memmap(folder / f"{split}.learned.bin", np.uint8, "r")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> Example:
        part = slice(self.offsets[number], self.offsets[number + 1])
        return Example(self._ids[part].astype(np.int64), self._learned[part].astype(bool))

    @cached_property
    def origins(self) -> Sequence[Mapping[str, Any]]:
        """The `origin` of each held-out example; empty for the other split."""
        file = self._folder / ORIGINS
        if self.split != "valid" or not file.is_file():
            return ()
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example, `[examples]`."""
        return np.diff(self.offsets)

    @property
    def groups(self) -> int:
        """The number of groups."""
        return len(self) // self.together

    @property
    def group_inputs(self) -> NDArray[np.int64]:
        """Input tokens of each group, `[groups]`: all tokens of its examples but the last of each."""
        inputs: NDArray[np.int64] = (self.lengths - 1).reshape(-1, self.together).sum(1)
        return inputs

    def group(self, number: int) -> Group:
        """The examples of a group."""
        return tuple(self[self.together * number + index] for index in range(self.together))

    @property
    def learned_tokens(self) -> int:
        """The number of learned tokens."""
        return int(self._learned.sum())


def open_examples(folder: Path, *, verify: bool = False, kind: str = KIND) -> tuple[Examples, Examples, Tokenizer]:
    """Both splits, and the tokenizer. Raises `TinyslmError` for another kind of folder, or a damaged one."""
    if not is_examples(folder, kind):
        raise TinyslmError(f"{folder} contains no prepared {kind}.", "Prepare them with: tinyslm finetune")
    together = read_manifest(folder, verify=verify).get("together", 1)
    train, valid = (Examples(folder, split, together) for split in SPLITS)
    return train, valid, Tokenizer.load(folder / "tokenizer")


def packed_rows(inputs: Sequence[int] | NDArray[np.int64], context: int) -> list[list[int]]:
    """Pack groups of examples into rows of at most `context` input tokens, each into the first open row with space.

    inputs: input tokens of each group; an example of n ids has n - 1. Returns the indices of the groups in each row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    first_open = 0
    for number, needed in enumerate(map(int, inputs)):
        for row in range(first_open, len(rows)):
            if room[row] >= needed:
                rows[row].append(number)
                room[row] -= needed
                break
        else:
            rows.append([number])
            room.append(context - needed)
        while first_open < len(rows) - OPEN_ROWS:
            first_open += 1
    return rows


OPEN_ROWS = 32
"""The number of rows that are open at the same time."""


class RowLoader:
    """Endless batches of packed rows that can resume from any position.

    Each epoch contains every group of examples once; order and packing depend only on the seed and the epoch. A batch
    may span the end of an epoch.
    """

    def __init__(self, examples: Examples, *, context: int, batch: int, seed: int, rows: slice = slice(None)) -> None:
        """batch: rows per update. rows: the slice of each batch that this process reads."""
        self._examples, self._context, self._batch, self._seed, self._rows = examples, context, batch, seed, rows
        self._epoch = self._position = 0
        self._packed: list[list[int]] = []
        self._packed_epoch = -1

    def next(self, count: int | None = None) -> list[list[Example]]:
        """The next batch, or the next `count` rows: the examples of each row."""
        chosen: list[list[Example]] = []
        while len(chosen) < (self._batch if count is None else count):
            rows = self._epoch_rows()
            chosen.append([one for number in rows[self._position] for one in self._examples.group(number)])
            self._position += 1
            if self._position == len(rows):
                self._epoch, self._position = self._epoch + 1, 0
        return chosen[self._rows]

    @property
    def rows_of_an_epoch(self) -> int:
        """The number of rows in the current epoch; it varies slightly between epochs."""
        return len(self._epoch_rows())

    def state(self) -> dict[str, Any]:
        """The position of the loader, as JSON values."""
        return {"epoch": self._epoch, "position": self._position}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a loader with the same examples, context and seed."""
        self._epoch, self._position = state["epoch"], state["position"]

    def _epoch_rows(self) -> list[list[int]]:
        if self._packed_epoch != self._epoch:
            order = np.random.default_rng([self._seed, self._epoch]).permutation(self._examples.groups)
            packed = packed_rows(self._examples.group_inputs[order], self._context)
            self._packed = [[int(order[place]) for place in row] for row in packed]
            self._packed_epoch = self._epoch
        return self._packed


def arrays_of(rows: Sequence[Sequence[Example]]) -> tuple[Ids, Ids, Ids]:
    """Inputs, targets and segments of packed rows, each `[rows, t]`.

    The inputs are all tokens of an example but the last; the targets are all but the first, with `IGNORE` for tokens
    that are not learned. Segments number the examples of a row from 0; -1 is padding.
    """
    size = max(sum(len(example.ids) - 1 for example in row) for row in rows)
    inputs, targets, segments = (np.full((len(rows), size), value, np.int64) for value in (0, IGNORE, -1))
    for index, row in enumerate(rows):
        start = 0
        for number, example in enumerate(row):
            part = slice(start, start + len(example.ids) - 1)
            inputs[index, part] = example.ids[:-1]
            targets[index, part] = np.where(example.learned[1:], example.ids[1:], IGNORE)
            segments[index, part] = number
            start = part.stop
    return inputs, targets, segments


def _why_not(group: Group, context: int) -> str:
    if any(len(example.ids) - 1 > context for example in group):
        return f"longer than {context} tokens"
    if not all(example.learned[1:].any() for example in group):
        return "nothing to learn"
    same = len(group) > 1 and all(np.array_equal(example.ids, group[0].ids) for example in group)
    return "equal answers" if same else ""


def question_hash(conversation: Conversation) -> int:
    """A hash of the first question."""
    first = next((one["content"] for one in conversation.messages if one["role"] == "user"), "")
    return xxhash.xxh3_64_intdigest(first.strip().encode("utf-8", "replace"))


HELD_OUT, MOST_HELD_OUT, FEWEST_HELD_OUT = 0.05, 0.2, 30
"""By default, 5 % of the questions are for validation, or up to 20 % to reach 30 questions."""


def held_out_numbers(numbers: set[int], share: float | None = None) -> set[int]:
    """Choose the lowest numbers: the given share of them, at least one; none if there is only one number.

    The default share is 5 %, or up to 20 % to reach 30 numbers.
    """
    if share is None:
        share = max(HELD_OUT, min(MOST_HELD_OUT, FEWEST_HELD_OUT / max(1, len(numbers))))
    return set(sorted(numbers)[: max(1, round(share * len(numbers)))]) if len(numbers) > 1 else set()


def _write(folder: Path, name: str, examples: Sequence[Example]) -> dict[str, int]:
    ids = np.concatenate([example.ids for example in examples]).astype(np.int32)
    learned = np.concatenate([example.learned for example in examples]).astype(np.uint8)
    ids.tofile(folder / f"{name}.ids.bin")
    learned.tofile(folder / f"{name}.learned.bin")
    offsets = np.cumsum([0, *(len(example.ids) for example in examples)], dtype=np.int64)
    np.save(folder / f"{name}.offsets.npy", offsets)
    if name == "valid":
        lines = [json.dumps(dict(example.origin), default=str) + "\n" for example in examples]
        (folder / ORIGINS).write_text("".join(lines), encoding="utf-8")
    return {"examples": len(examples), "tokens": len(ids), "learned_tokens": int(learned.sum())}
