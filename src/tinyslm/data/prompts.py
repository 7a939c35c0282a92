"""Tokenized prompts for reinforcement learning, with the fields that graders need, in a prompts folder.

A prompts folder holds `train.jsonl` and `valid.jsonl`, one prompt per line: its ids, its example and its text. It also
holds `tokenizer/`, and `manifest.json` with counts and a hash of every file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import MANIFEST, atomic_folder, read_manifest, write_manifest
from tinyslm.core.json_files import read_json
from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import SPLITS, as_rendered, held_out_numbers, question_hash
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer

KIND = "prompts"


@dataclass(frozen=True)
class Prompt:
    """The ids of a conversation before the assistant's answer, and the fields that a grader needs.

    A reference answer, if the data has one, is `example["answer"]`. text: the last message.
    """

    ids: tuple[int, ...]
    example: Mapping[str, Any]
    text: str = ""


def prompt_of(conversation: Conversation, tokenizer: Tokenizer) -> Prompt:
    """The prompt for the last answer of a conversation, or for its next one if it ends with the user."""
    messages = list(conversation.messages)
    if messages[-1]["role"] == "assistant":
        messages.pop()
    shown = as_rendered(replace(conversation, messages=messages), tokenizer)
    ids = encode_chat(tokenizer, shown.messages, add_generation_prompt=True, tools=shown.tools or None)
    return Prompt(tuple(ids), graded_fields(conversation), messages[-1]["content"])


def graded_fields(conversation: Conversation) -> dict[str, Any]:
    """The fields of a conversation's row for graders, with its last answer, if any, as "answer"."""
    example, last = dict(conversation.row), conversation.messages[-1]
    return {"answer": last["content"], **example} if last["role"] == "assistant" else example


def prepare_prompts(
    conversations: Iterator[Conversation],
    out: Path,
    tokenizer: Tokenizer,
    *,
    longest: int,
    valid: Iterator[Conversation] | None = None,
    valid_share: float | None = None,
    left_out: Callable[[str, str], None] = lambda *_: None,
) -> dict[str, list[Prompt]]:
    """Write a prompts folder, whole or not at all. Returns the prompts of each split.

    longest: maximum length in tokens; longer prompts are skipped. valid_share: the share of prompts to validate on,
    chosen by a hash of the first question; `valid` replaces them. left_out: called with the location of each skipped
    prompt and the reason.

    Raises `TinyslmError` if a split would be empty.
    """

    def usable(source: Iterator[Conversation]) -> Iterator[tuple[int, Prompt]]:
        for conversation in source:
            prompt = prompt_of(conversation, tokenizer)
            if len(prompt.ids) > longest:
                left_out(conversation.place, f"longer than {longest} tokens")
            else:
                yield question_hash(conversation), prompt

    found = list(usable(conversations))
    if valid is None:
        held_out = held_out_numbers({number for number, _ in found}, valid_share)
        parts = {name: [one for number, one in found if (number in held_out) == (name == "valid")] for name in SPLITS}
    else:
        parts = {"train": [prompt for _, prompt in found], "valid": [prompt for _, prompt in usable(valid)]}
    if not parts["train"] or not parts["valid"]:
        which = "to learn from" if not parts["train"] else "to validate on"
        raise TinyslmError(f"There are no prompts {which}.", "Give more prompts, or a file with --valid.")
    with atomic_folder(out) as folder:
        tokenizer.save(folder / "tokenizer")
        for name, prompts in parts.items():
            lines = (
                json.dumps({"ids": one.ids, "example": one.example, "text": one.text}, default=str) for one in prompts
            )
            (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        counts = {name: {"prompts": len(prompts)} for name, prompts in parts.items()}
        about = {"kind": KIND, "version": 1, "splits": counts, "tokenizer": {"sha256": tokenizer.sha256}}
        write_manifest(folder, about)
    return parts


def open_prompts(folder: Path) -> tuple[Sequence[Prompt], Sequence[Prompt], Tokenizer]:
    """Read both splits and the tokenizer. Raises `TinyslmError` for another kind of folder, or a damaged one."""
    if not (folder / MANIFEST).is_file() or read_json(folder / MANIFEST).get("kind") != KIND:
        raise TinyslmError(f"{folder} contains no prepared prompts.", "Prepare them with: tinyslm finetune")
    read_manifest(folder)
    train, valid = (_read(folder / f"{name}.jsonl") for name in SPLITS)
    return train, valid, Tokenizer.load(folder / "tokenizer")


def _read(path: Path) -> list[Prompt]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Prompt(tuple(row["ids"]), row["example"], row["text"]) for row in rows]
