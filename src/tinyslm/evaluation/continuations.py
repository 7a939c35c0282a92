"""Log-probabilities of continuations given their contexts: the scores of every task that generates no text.

A context and its continuation are tokenized together, as one text; a token that spans the boundary counts as part of
the continuation. Equal requests are computed once, so that equal texts always have equal scores.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.protocols import Continuation, ContinuationScore, Scorer

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TokenRequest:
    """Context ids to read, and the ids after them to score.

    All of these ids but the last fit the model's context. Without context ids, the first id is not scored.
    """

    read: tuple[int, ...]
    scored: tuple[int, ...]


TokenScores = tuple[float, bool]
"""The summed log-probability, and whether every token was the most probable one."""


@runtime_checkable
class BatchScorer(Protocol):
    """A `Scorer` that computes many requests together."""

    def score_many(self, requests: Sequence[TokenRequest], progress: Progress) -> list[TokenScores]:
        """Score all requests, in their order. A score does not depend on the other requests."""


@runtime_checkable
class TextScorer(Protocol):
    """A runtime that scores texts but does not expose its tokenizer."""

    def score_text(self, request: Continuation) -> ContinuationScore:
        """Score one continuation. Raises `TinyslmError` if the runtime cannot."""


@dataclass(frozen=True)
class Reading:
    """How a model reads texts: the `prefix` ids before each text, and the `max_length` of its context in tokens."""

    prefix: tuple[int, ...]
    max_length: int


def score_continuations(
    scorer: Scorer | TextScorer,
    reading: Reading,
    requests: Sequence[Continuation],
    progress: Progress = lambda *_: None,
) -> list[ContinuationScore]:
    """Score all requests, in their order.

    A context that does not fit is truncated on the left. A continuation that is longer than the model's context is
    scored in consecutive windows.

    Raises `TinyslmError` for a continuation without tokens, and for log-probabilities that are NaN or positive.
    """
    distinct = list(dict.fromkeys(requests))
    if isinstance(scorer, TextScorer):
        scores = []
        for number, request in enumerate(distinct):
            scores.append(scorer.score_text(request))
            progress("scoring", number + 1, len(distinct))
    else:
        scores = _score_by_tokens(scorer, reading, distinct, progress)
    for request, score in zip(distinct, scores, strict=True):
        if math.isnan(score.logprob) or score.logprob > 1e-3:
            raise TinyslmError(
                f"The model assigns the impossible log-probability {score.logprob} to {request.text[:60]!r}.",
                "Its weights or its runtime are faulty: inspect it with `tinyslm show`, or export it again.",
            )
    by_request = dict(zip(distinct, scores, strict=True))
    return [by_request[request] for request in requests]


def _score_by_tokens(
    scorer: Scorer, reading: Reading, requests: Sequence[Continuation], progress: Progress
) -> list[ContinuationScore]:
    pieces: list[TokenRequest] = []
    spans: list[tuple[slice, int, int]] = []  # of the pieces; tokens scored, tokens cut
    for request in requests:
        ids, border = encode_pair(scorer, request)
        excess = len(reading.prefix) + len(ids) - 1 - reading.max_length
        cut = max(0, min(excess, border if reading.prefix else border - 1))
        read, scored = (*reading.prefix, *ids[cut:border]), ids[border:]
        first = len(pieces)
        pieces += windows(read, scored, reading.max_length)
        spans.append((slice(first, len(pieces)), len(scored) if read else len(scored) - 1, cut))
    if isinstance(scorer, BatchScorer):
        found = scorer.score_many(pieces, progress)
    else:
        found = []
        for piece in pieces:
            found.append(_score_alone(scorer, piece))
            progress("scoring", len(found), len(pieces))
    return [
        ContinuationScore(math.fsum(sum_ for sum_, _ in found[span]), tokens, all(best for _, best in found[span]), cut)
        for span, tokens, cut in spans
    ]


def encode_pair(scorer: Scorer, request: Continuation) -> tuple[tuple[int, ...], int]:
    """Tokenize context and continuation together; returns the ids and how many of them belong to the context alone.

    Raises `TinyslmError` for a continuation that has no tokens.
    """
    whole = tuple(scorer.encode(request.context + request.text))
    context = scorer.encode(request.context) if request.context else []
    border = 0
    while border < min(len(context), len(whole)) and context[border] == whole[border]:
        border += 1
    if border == len(whole):
        raise TinyslmError(
            f"{request.text[:60]!r} has no tokens after {request.context[-60:]!r}.",
            "Remove the item, or use a model whose tokenizer can encode these characters.",
        )
    return whole, border


def windows(read: tuple[int, ...], scored: tuple[int, ...], max_length: int) -> list[TokenRequest]:
    """Split a request into windows of at most `max_length` input tokens that score each id of `scored` once.

    `read` must be shorter than a window.
    """
    ids, done = (*read, *scored), len(read)
    found: list[TokenRequest] = []
    while done < len(ids):
        start = done - 1 if found else 0
        stop = min(len(ids), start + max_length + 1)
        found.append(TokenRequest(ids[start:done], ids[done:stop]))
        done = stop
    return found


def _score_alone(scorer: Scorer, request: TokenRequest) -> TokenScores:
    """Score one request with a runtime that returns log-probabilities over the vocabulary for each position."""
    ids, first = (*request.read, *request.scored), max(1, len(request.read))
    targets = list(ids[first:])
    if not targets:
        return 0.0, True
    logprobs_tv = scorer.logprobs(ids[:-1], range(first - 1, len(ids) - 1))
    chosen = logprobs_tv[np.arange(len(targets)), targets].astype(np.float64)
    return float(chosen.sum()), bool((logprobs_tv.argmax(-1) == np.array(targets)).all())
