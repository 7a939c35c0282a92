"""One text in the making: the tokens chosen so far, the text they give, and when it ends."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinyslm.inference.generation import Generation
from tinyslm.inference.healing import Healing
from tinyslm.inference.request import Finish, Piece, TokenScore
from tinyslm.inference.sampler import SamplingBatch, draw, log_probabilities
from tinyslm.inference.scheduler import TokenSequence
from tinyslm.inference.stop import StopStrings
from tinyslm.tokenizer.tokenizer import TextStream, Tokenizer

if TYPE_CHECKING:
    from tinyslm.inference.grammar import Matcher


class SequenceState:
    """Sample `number` of a request. What `new_ids` holds has been chosen in this step, and is not the sequence's yet.

    max_tokens: how many may be generated. error: what went wrong with this sample alone. healing: the distribution of
    the first token, until it is drawn. echoed: how many of the first tokens of `new_ids` repeat the prompt's text.
    """

    def __init__(
        self,
        generation: Generation,
        number: int,
        *,
        seed: int,
        max_tokens: int,
        sequence: TokenSequence,
        tokenizer: Tokenizer,
    ) -> None:
        request = generation.request
        self.generation, self.number, self.sequence = generation, number, sequence
        self.settings, self.max_tokens = request.settings, max_tokens
        self.matcher: Matcher | None = None
        if request.grammar is not None:
            self.matcher = request.grammar.matcher(continues=request.continues)
        self.finish: Finish = ""
        self.generated = 0
        self.counted = False
        self.error: Exception | None = None
        self.new_ids: list[int] = []
        self.end_id: int | None = None
        self.healing: Healing | None = None
        self.echoed = 0
        self._tokenizer = tokenizer
        self._stream = TextStream(tokenizer, continues=request.continues)
        self._stop = StopStrings(self.settings.stop)
        self._random = random.Random(seed + number)
        self._counts: Counter[int] = Counter()
        self._biased = np.array(list(request.bias), np.int64)
        self._bias = np.array(list(request.bias.values()), np.float32)
        self._text = ""
        self._scores: list[TokenScore] = []
        self._before = 0.0  # log-probability of the tokens drawn since the last score

    def next_random(self) -> float:
        """The number that decides the next draw; each token uses one up, however it comes about."""
        return self._random.random()

    @property
    def has_penalties(self) -> bool:
        """Whether `apply_penalties` changes anything."""
        settings = self.settings
        return bool(
            settings.repetition_penalty != 1
            or settings.frequency_penalty
            or settings.presence_penalty
            or self.generation.request.bias
        )

    def apply_penalties(self, logits_v: NDArray[np.float32]) -> None:
        """Apply penalties and biases, in place.

        The repetition penalty divides the positive logits of seen tokens, and multiplies the negative ones (Keskar et
        al., 2019), the prompt's included; the other two count generated tokens only.
        """
        settings = self.settings
        if settings.repetition_penalty != 1:
            seen = np.unique(np.array([*self.sequence.tokens, *self.new_ids]))
            scores = logits_v[seen]
            penalty = np.float32(settings.repetition_penalty)
            logits_v[seen] = np.where(scores > 0, scores / penalty, scores * penalty)
        if self._counts and (settings.frequency_penalty or settings.presence_penalty):
            ids = np.array(list(self._counts))
            counts = np.array(list(self._counts.values()), np.float32)
            logits_v[ids] -= settings.frequency_penalty * counts + settings.presence_penalty
        if len(self._biased):
            logits_v[self._biased] += self._bias

    def score(self, token: int, logits_v: NDArray[np.float32]) -> None:
        """Note how likely the token was, which is about to be taken."""
        asked = self.generation.request.logprobs
        if asked is None or token in self._tokenizer.stop_ids:
            return
        logprobs = log_probabilities(logits_v) + self._before
        self._before = 0.0
        ids = likeliest(logprobs, asked)
        top = tuple((int(one), float(logprobs[one])) for one in ids)
        self._scores.append(TokenScore(token, float(logprobs[token]), top))

    def mask(self, bits: NDArray[np.uint32]) -> None:
        """Note in a row of bits which tokens the grammar allows."""
        if self.matcher is None:
            return
        try:
            self.matcher.allow(bits)
        except Exception as error:  # whatever it is, it must not reach other requests
            self.error = error

    def settle(self, token: int) -> int:
        """The token, or the one that leads to the end of what the grammar wants, where too few tokens are left."""
        if self.matcher is None:
            return token
        try:
            return self.matcher.settle(token, self.max_tokens - self.generated)
        except Exception as error:
            self.error = error
            return token

    def heal(self, chain: tuple[int, ...], logits_wv: NDArray[np.float32]) -> int:
        """Take in the logits along a chain of the prompt's cuts; after the last chain, draw the first token.

        Penalties apply only to the tokens after it. Returns how many of the chain's tokens belong to the text.
        """
        assert self.healing is not None
        self.healing.read(chain, logits_wv)
        if self.healing.unread is not None:
            return 0
        request, ids = self.generation.request, self.healing.ids
        logits_v = self.healing.logprobs + [request.bias.get(int(token), 0.0) for token in ids]
        place = draw(logits_v[None].astype(np.float32), SamplingBatch.of([self.settings], [self.next_random()]))[0]
        start = self.healing.start(int(place), request.logprobs or 0)
        self.healing = None
        self.new_ids = list(start.cut)
        if len(self._tokenizer.token_bytes(start.token)) == start.repeats:
            self.new_ids.append(start.token)
            self._before = start.logprob
            self.echoed = len(self.new_ids)
        else:
            self.echoed = len(self.new_ids)
            if request.logprobs is not None:
                top = tuple(one for one in start.top if len(self._tokenizer.token_bytes(one[0])) > start.repeats)
                self._scores.append(TokenScore(start.token, start.logprob, top, start.repeats))
            self.take(start.token, skip=start.repeats)
        return len(start.cut) if chain[: len(start.cut)] == start.cut else 0

    def take(self, token: int, skip: int = 0) -> None:
        """Take in the next token, whose first `skip` bytes repeat the prompt."""
        self.generated += 1
        self.generation.usage.generated_tokens += 1
        if token in self._tokenizer.stop_ids:
            self.finish, self.end_id = "stop", token
            return
        self.new_ids.append(token)
        self._counts[token] += 1
        self._text += self._stop.push(self._stream.push(token, skip))
        if self.matcher is not None:
            self._follow(self.matcher, token)
        if self._stop.found or (self.matcher is not None and self.matcher.finished):
            self.finish = "stop"
        elif self.generated == self.max_tokens:
            self.finish = "length"
        if self.finish and self.matcher is not None and self.matcher.repeats:
            self.finish = "invalid"

    def _follow(self, matcher: Matcher, token: int) -> None:
        try:
            taken = matcher.take([token])
            assert taken == 1, f"token {token} is not allowed by the grammar"
        except Exception as error:
            self.error = error

    def take_forced(self) -> int:
        """Take the tokens that the grammar leaves no choice about; returns how many."""
        if self.matcher is None or self.finish or self.generation.request.logprobs is not None:
            return 0
        before = self.generated
        for token in self.matcher.forced():
            self.next_random()
            settled = self.settle(token)
            self.take(settled)
            if self.finish or self.error or settled != token:
                break
        return self.generated - before

    def end(self, finish: Finish) -> None:
        """It ends here, whatever the model would have said."""
        self.finish = finish

    def emit(self) -> None:
        """Pass on what is certain since the last time."""
        text, self._text = self._text, ""
        if self.finish:
            text += self._stop.push(self._stream.flush()) + self._stop.flush()
        scores, self._scores = tuple(self._scores), []
        ids, self.new_ids, self.echoed = tuple(self.new_ids[self.echoed :]), [], 0
        if ids or text or self.finish:
            self.generation.push(Piece(self.number, text, self.generated, self.finish, ids, scores, self.end_id))


def likeliest(values_v: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The ids of the `count` largest values, in order; of equal ones, the smaller id first. Sorts only these."""
    if not 0 < count < len(values_v):
        return np.argsort(-values_v, kind="stable")[:count]
    least = np.partition(values_v, -count)[-count]
    ids = np.flatnonzero(values_v >= least)
    return ids[np.argsort(-values_v[ids], kind="stable")][:count]
