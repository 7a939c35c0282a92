"""Log-probabilities of tokens in the formats of OpenAI's API."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from tinyslm.inference.request import TokenScore
from tinyslm.tokenizer.tokenizer import Tokenizer

LEAST = -9999.0
"""Stands for minus infinity, which JSON cannot represent."""


def chat_logprobs(scores: Sequence[TokenScore], tokenizer: Tokenizer) -> dict[str, Any]:
    """The format of chat completions."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        spelled = tokenizer.token_bytes(token)
        return {
            "token": spelled.decode("utf-8", "replace"),
            "logprob": max(LEAST, logprob),
            "bytes": list(spelled),
        }

    content = [
        {**entry(score.id, score.logprob), "top_logprobs": [entry(*alternative) for alternative in score.top]}
        for score in scores
    ]
    return {"content": content, "refusal": None}


class CompletionLogprobs:
    """The format of completions: parallel lists, with the offset of each token in the text so far."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0

    def format(self, scores: Sequence[TokenScore]) -> dict[str, list[Any]]:
        """The next tokens of the text."""
        lists: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for score in scores:
            skip = score.repeats
            top = {self._name(token, skip): max(LEAST, value) for token, value in score.top}
            row = (self._name(score.id, skip), max(LEAST, score.logprob), top, self._length)
            for column, value in zip(lists.values(), row, strict=True):
                column.append(value)
            self._length += len(self._decoder.decode(self._tokenizer.token_bytes(score.id)[skip:]))
        return lists

    def _name(self, token: int, skip: int) -> str:
        """The token's text after `skip` bytes; incomplete characters are escaped, so that names differ."""
        spelled = self._tokenizer.token_bytes(token)[skip:]
        try:
            return spelled.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)
