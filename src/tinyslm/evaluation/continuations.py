"""How probable a model finds texts after their contexts: what every task without generation is scored by.

A context is cut into tokens together with its continuation, as when it was written in one piece; a token over the
border counts as the continuation's. Equal requests are computed once, so that equal texts always have equal scores.
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
    """Ids to read, and the ids after them whose probability is asked for.

    All but the last of both together fit the model's context; with no ids to read, the first is not scored.
    """

    read: tuple[int, ...]
    scored: tuple[int, ...]


TokenScores = tuple[float, bool]
"""The summed log-probability, and whether every token was the most probable one."""


@runtime_checkable
class BatchScorer(Protocol):
    """A `Scorer` that computes many requests together."""

    def score_many(self, requests: Sequence[TokenRequest], progress: Progress) -> list[TokenScores]:
        """The scores of all requests, in their order. They do not depend on what else is asked for."""


@runtime_checkable
class TextScorer(Protocol):
    """A program that scores texts without showing how it cuts them into tokens."""

    def score_text(self, request: Continuation) -> ContinuationScore:
        """The score of one continuation. Raises `TinyslmError`."""


@dataclass(frozen=True)
class Reading:
    """How a model reads texts: the ids before each of them, and how many tokens fit its context."""

    begin: tuple[int, ...]
    room: int


def score_continuations(
    scorer: Scorer | TextScorer,
    reading: Reading,
    requests: Sequence[Continuation],
    progress: Progress = lambda *_: None,
) -> list[ContinuationScore]:
    """Score all requests, in their order.

    A context that does not fit is cut from its left. A continuation that is longer than the model's context is scored
    in windows, each of which goes on where the one before ended.

    Raises `TinyslmError` for a continuation without tokens, and where the model gives no numbers.
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
                f"The model gives the log-probability {score.logprob} to {request.text[:60]!r}.",
                "Its weights or its program are broken: check it with `tinyslm show`, or export it again.",
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
        excess = len(reading.begin) + len(ids) - 1 - reading.room
        cut = max(0, min(excess, border if reading.begin else border - 1))
        read, scored = (*reading.begin, *ids[cut:border]), ids[border:]
        first = len(pieces)
        pieces += windows(read, scored, reading.room)
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
    """The ids of context and continuation, and how many of them are the context's alone.

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
            "Remove the item, or use a model whose tokenizer knows these characters.",
        )
    return whole, border


def windows(read: tuple[int, ...], scored: tuple[int, ...], room: int) -> list[TokenRequest]:
    """Requests that score each of `scored` once; each reads at most `room` tokens, which `read` must leave room for."""
    ids, done = (*read, *scored), len(read)
    found: list[TokenRequest] = []
    while done < len(ids):
        start = done - 1 if found else 0
        stop = min(len(ids), start + room + 1)
        found.append(TokenRequest(ids[start:done], ids[done:stop]))
        done = stop
    return found


def _score_alone(scorer: Scorer, request: TokenRequest) -> TokenScores:
    """A request of a program that gives the probabilities of all tokens at the asked positions."""
    ids, first = (*request.read, *request.scored), max(1, len(request.read))
    targets = list(ids[first:])
    if not targets:
        return 0.0, True
    logprobs_tv = scorer.logprobs(ids[:-1], range(first - 1, len(ids) - 1))
    chosen = logprobs_tv[np.arange(len(targets)), targets].astype(np.float64)
    return float(chosen.sum()), bool((logprobs_tv.argmax(-1) == np.array(targets)).all())
