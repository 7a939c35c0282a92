"""Log-probabilities of tokens in OpenAI's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyslm.inference.request import TokenScore
from tinyslm.tokenizer.tokenizer import Tokenizer

LEAST = -9999.0
"""Stands for minus infinity, which JSON has no number for."""


def chat_scores(scores: Sequence[TokenScore], tokenizer: Tokenizer) -> dict[str, Any]:
    """As chat completions tell them."""
    return {"content": [token_score(score, tokenizer) for score in scores], "refusal": None}


def token_score(score: TokenScore, tokenizer: Tokenizer) -> dict[str, Any]:
    """One token and the likeliest ones at its place."""
    top = [_told(token, logprob, tokenizer) for token, logprob in score.top]
    return {**_told(score.id, score.logprob, tokenizer), "top_logprobs": top}


def _told(token: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    spelled = tokenizer.token_bytes(token)
    return {
        "token": spelled.decode("utf-8", "replace"),
        "logprob": max(LEAST, logprob),
        "bytes": list(spelled),
    }
