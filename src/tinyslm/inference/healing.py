"""Token healing: continue a prompt that ends inside a token as if the text went on.

"def " is tokenized as "def" and " ". After these tokens, a model has hardly ever seen a name: in its training texts, a
name and the space before it are one token, " name". Likewise, the four spaces at the end of "x:\n    " are one token,
but before " return" only three are. So the model is conditioned on *text* that begins with the prompt, not on the
prompt's last tokens.

A *cut* divides the beginning of the prompt into tokens, up to where a token begins that reaches the prompt's end or
extends beyond it. The cuts are those that the tokenizer makes of the prompt followed by other text. The first token
after a cut must begin with the rest of the prompt:

    weight of token t after a cut    p(tokens of the cut) * p(t | tokens of the cut)

with the model's probabilities p. Normalized, these weights are the model's distribution over texts that begin with the
prompt. The first token is drawn from it; the others are drawn as usual.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tinyslm.inference.sampler import log_probabilities

if TYPE_CHECKING:
    from tinyslm.tokenizer.tokenizer import Tokenizer

Ids = tuple[int, ...]

MOST_BACK = 16
"""Tokens at the end of a prompt that may be replaced."""
MOST_CUTS = 8
"""Most cuts whose probabilities are computed, apart from those of the prompt's own tokens."""

_BEHIND = ("a", "T", "1", ".", " ", "\n", "_", "(", '"')  # texts that may follow the prompt
_TRIED = 3  # tokens to try for each ending of the prompt that they may complete


@dataclass(frozen=True)
class Cuts:
    """Where a prompt may be divided.

    root: tokens that all cuts begin with, at least one. rests: for each cut, given by its tokens after the root, the
    bytes from there to the prompt's end. first: for each cut, ids of the tokens that begin with these bytes. chains:
    the longest cuts, whose prefixes are the other cuts; the first consists of the prompt's own tokens.
    """

    root: Ids
    rests: dict[Ids, bytes]
    first: dict[Ids, NDArray[np.int64]]
    chains: tuple[Ids, ...]


@dataclass(frozen=True)
class Start:
    """The first token of a text, the cut before it, and how many of its bytes repeat the prompt's end.

    logprob: of the token, given the prompt's text. top: ids and logprobs of the likeliest tokens after this cut.
    Natural logarithms.
    """

    cut: Ids
    token: int
    repeats: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Healing:
    """The probabilities of one prompt's cuts: `read` the logits along each chain, then draw from `logprobs`."""

    def __init__(self, cuts: Cuts) -> None:
        self.cuts = cuts
        self._joint: dict[Ids, NDArray[np.float64]] = {}
        self._read: set[Ids] = set()

    @property
    def unread(self) -> Ids | None:
        """The next chain whose logits are needed; `None` when all have been read."""
        return next((chain for chain in self.cuts.chains if chain not in self._read), None)

    def read(self, chain: Ids, logits_wv: NDArray[np.float32]) -> None:
        """Take in the logits after the root and after each token of a chain, `[1 + len(chain), vocab_size]`."""
        assert len(logits_wv) == len(chain) + 1, "one row of logits for each place"
        self._read.add(chain)
        before = 0.0
        for place, logits_v in enumerate(logits_wv):
            logprobs_v = log_probabilities(logits_v)
            cut = chain[:place]
            if cut in self.cuts.first:
                self._joint[cut] = before + logprobs_v[self.cuts.first[cut]]
            if place < len(chain):
                before += float(logprobs_v[chain[place]])

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """The tokens that may come first, cut by cut."""
        return np.concatenate([self.cuts.first[cut] for cut in self._joint])

    @cached_property
    def logprobs(self) -> NDArray[np.float64]:
        """How likely each of `ids` is after its cut, given the prompt's text; natural logarithms."""
        assert self.unread is None, "all chains have been read"
        joint = np.concatenate(list(self._joint.values()))
        most = joint.max()
        given: NDArray[np.float64] = joint - (most + np.log(np.exp(joint - most).sum()))
        return given

    def start(self, place: int, likeliest: int = 0) -> Start:
        """The start for index `place` of `ids`, with the logprobs of the `likeliest` likeliest tokens after its cut."""
        ends = np.cumsum([len(self.cuts.first[cut]) for cut in self._joint])
        number = int(np.searchsorted(ends, place, side="right"))
        cut = list(self._joint)[number]
        begin = int(ends[number - 1]) if number else 0
        best = begin + np.argsort(-self.logprobs[begin : ends[number]], kind="stable")[:likeliest]
        top = tuple((int(self.ids[one]), float(self.logprobs[one])) for one in best)
        return Start(cut, int(self.ids[place]), len(self.cuts.rests[cut]), float(self.logprobs[place]), top)


class _Tokens:
    """The ordinary tokens of a vocabulary, sorted by their bytes, so that beginnings are found by bisection."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.special = frozenset((*tokenizer.special_ids.values(), *tokenizer.stop_ids))
        spelled = ((tokenizer.token_bytes(token), token) for token in range(tokenizer.vocab_size))
        pairs = sorted((piece, token) for piece, token in spelled if piece and token not in self.special)
        self._pieces = [piece for piece, _ in pairs]
        self._ids = np.array([token for _, token in pairs], np.int64)
        self.longest = max(map(len, self._pieces), default=0)

    def beginning(self, rest: bytes, *, longer: bool = False) -> NDArray[np.int64]:
        """Ids of the tokens that begin with `rest`; with `longer`, only of those that are longer."""
        first = (bisect_right if longer else bisect_left)(self._pieces, rest)
        last = bisect_left(self._pieces, rest + b"\xff" * (self.longest + 1), first)
        return self._ids[first:last]


_known: WeakKeyDictionary[Tokenizer, _Tokens] = WeakKeyDictionary()


def cuts_of(tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> Cuts | None:
    """The cuts of a prompt; `None` if its own tokens are the only ones.

    Cuts never replace special tokens or the first token, since a model needs at least one.
    """
    if tokenizer.table.marked:
        return None  # a token's text depends on the marks before it
    if tokenizer not in _known:
        _known[tokenizer] = _Tokens(tokenizer)
    tokens = _known[tokenizer]
    own = _own_end(tokenizer, prompt_ids, tokens)
    if not own:
        return None
    rests: dict[Ids, bytes] = {}
    for place in range(len(own)):
        rest = b"".join(map(tokenizer.token_bytes, own[place:]))
        if place == len(own) - 1 or len(tokens.beginning(rest, longer=True)):
            rests[own[:place]] = rest
    for cut, rest in _other_cuts(tokenizer, own, tokens):
        if len(rests) < len(own) + MOST_CUTS:
            rests.setdefault(cut, rest)
    if list(rests) == [own[:-1]] and not len(tokens.beginning(rests[own[:-1]], longer=True)):
        return None
    common = min(map(len, rests))
    while len({cut[:common] for cut in rests}) > 1:
        common -= 1
    root = (*prompt_ids[: len(prompt_ids) - len(own)], *own[:common])
    behind = {cut[common:]: rest for cut, rest in rests.items()}
    first = {cut: tokens.beginning(rest) for cut, rest in behind.items()}
    return Cuts(root, behind, first, _chains(list(behind), own[common:-1]))


def _own_end(tokenizer: Tokenizer, prompt_ids: Sequence[int], tokens: _Tokens) -> Ids:
    """The prompt's last tokens: those in which another token that reaches the prompt's end can begin."""
    length = count = 0
    for token in reversed(prompt_ids[1:][-MOST_BACK:]):
        length += len(tokenizer.token_bytes(token))
        if token in tokens.special or length > tokens.longest:
            break
        count += 1
    return tuple(prompt_ids[len(prompt_ids) - count :])


def _other_cuts(tokenizer: Tokenizer, own: Ids, tokens: _Tokens) -> Iterator[tuple[Ids, bytes]]:
    """Cuts that the tokenizer makes when text follows the prompt, each with the rest of the prompt after it."""
    for kept in range(len(own)):
        data = b"".join(map(tokenizer.token_bytes, own[kept:]))
        text = data.decode("utf-8", "replace")
        if text.encode() == data and tuple(tokenizer.encode(text)) == own[kept:]:
            break  # no character is cut, and tokens are the same with nothing before them
    else:
        return
    for behind in (*_BEHIND, *_continued(text, tokenizer, tokens)):
        cut, length = list(own[:kept]), 0
        for token in tokenizer.encode(text + behind):
            after = length + len(tokenizer.token_bytes(token))
            if after >= len(data):
                break
            cut.append(token)
            length = after
        if data.startswith(b"".join(map(tokenizer.token_bytes, cut[kept:]))):  # a normalizer may change the text
            yield tuple(cut), data[length:]


def _continued(text: str, tokenizer: Tokenizer, tokens: _Tokens) -> Iterator[str]:
    """Continuations of the text by some of the tokens that begin inside it and extend beyond it."""
    for start in range(len(text)):
        rest = text[start:].encode()
        for token in np.sort(tokens.beginning(rest, longer=True))[:_TRIED]:
            added = tokenizer.token_bytes(int(token))[len(rest) :]
            yield added.decode("utf-8", "ignore")


def _chains(cuts: list[Ids], own: Ids) -> tuple[Ids, ...]:
    """The prompt's own tokens, and the cuts that are not prefixes of these or of other cuts."""
    ends = [cut for cut in cuts if not any(other != cut and other[: len(cut)] == cut for other in (own, *cuts))]
    return (own, *(cut for cut in ends if cut != own))
