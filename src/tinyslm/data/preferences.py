"""Tokenized preferences: pairs of a chosen and a rejected answer to one prompt, in an examples folder.

Each pair is a group of two examples: the prompt with the chosen answer, and the prompt with the rejected one. Only the
answers are learned.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import Group, Prepared, examples_of, tokenize_splits, write_splits
from tinyslm.tokenizer.tokenizer import Tokenizer

KIND = "preferences"


def pair_of(conversation: Conversation, tokenizer: Tokenizer) -> Group:
    """Tokenize a preference: the example with the chosen answer, and the one with the rejected answer.

    The ids are those that the model reads and writes when it is served; the loss mask covers the last answer and the
    token that ends it.
    Raises `TinyslmError` for a conversation without a rejected answer.
    """
    if conversation.rejected is None:
        raise TinyslmError(
            f"{conversation.place} cannot be used: it has no rejected answer.",
            'Give rows with "prompt", "chosen" and "rejected".',
        )
    rejected = replace(conversation, messages=[*conversation.messages[:-1], conversation.rejected], rejected=None)
    return tuple(examples_of(one, tokenizer)[-1].with_last_answer() for one in (conversation, rejected))


def prepare_preferences(
    conversations: Iterator[Conversation],
    out: Path,
    tokenizer: Tokenizer,
    *,
    context: int,
    valid_share: float | None = None,
    valid: Iterator[Conversation] | None = None,
    left_out: Callable[[str, str], None] = lambda *_: None,
) -> Prepared:
    """Write an examples folder of pairs, whole or not at all; see `prepare_examples`.

    A pair is skipped if either answer with its prompt is longer than `context`, or if both answers are equal.
    """
    splits = tokenize_splits(
        lambda conversation: [pair_of(conversation, tokenizer)],
        conversations,
        valid,
        context=context,
        valid_share=valid_share,
        left_out=left_out,
    )
    return write_splits(splits, out, tokenizer, kind=KIND)
