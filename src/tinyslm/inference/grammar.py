"""Text that must follow a grammar: a JSON schema, a regular expression, a Lark grammar, one of some choices.

A `Grammar` is compiled once and shared; each text in the making has a `Matcher`, its place in the grammar, that says
which tokens may come next. llguidance does the parsing; this module knows our tokenizers, refuses what llguidance does
not honour, and decides how text that the grammar forces is spelled.

Forced text. After `{"` an object with one property must go on with its name. A mask alone allows every spelling of the
name in tokens, and a model would spread over them; jumping over the name with one spelling would then change what the
model says after it. So here the tokenizer's own spelling is the only one that is allowed where text is forced: in
`allow` as in `forced`. Jumping is therefore the same as going step by step, token by token, and changes no
probability. At the end of a forced stretch, where a token may grow together with what follows, the model chooses
between the tokenizer's own next token and those that contain the whole rest of the stretch: no part of it can be
spelled so that only unlikely tokens fit after it.

Against the model's own distribution, what is the same: where nothing is forced, each token is drawn from the model's
probabilities over the allowed tokens. That is the usual meaning of constrained decoding; it is not the distribution of
the model's free texts among which those that break the grammar are thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.inference.call_stream import ToolCallStream
from tinyslm.inference.grammar_completion import GrammarCompletion, TextCompletion
from tinyslm.inference.grammar_limits import MOST_CHOICES, check_lark, check_schema_levels
from tinyslm.inference.json_schema import check_characters, check_schema
from tinyslm.inference.uniqueness import repeats, wants_uniqueness
from tinyslm.inference.vetting import vet
from tinyslm.inference.vocabulary import vocabulary

if TYPE_CHECKING:
    import llguidance
    from llguidance._lib import JsonCompileOptions
    from torch import Tensor

    from tinyslm.tokenizer.tokenizer import Tokenizer

Rows = NDArray[np.uint32]
"""Bits `[ceil(vocab_size / 32)]`: bit `i % 32` of word `i // 32` is set where token `i` may come next."""

LONGEST = 1 << 18  # characters of a schema, expression or grammar
_LONGEST_REASON = 400  # characters of what the parser says, which may cite the whole grammar
_MOST_ITEMS = 8_000  # that the parser holds at one place; an object holds some for each property that may come next
_MOST_STATES = 25_000  # of the lexer, which are made as texts grow, at some 2 kB each
_MOST_FUEL = 200_000  # for building the lexer: (a{1000}){1000} is refused in a tenth of a second

# No white space between the parts of a document, so that a model that likes line ends comes to an end. No \u escapes:
# llguidance would let a key be written so that it is not seen to be one that the schema names.
_JSON: JsonCompileOptions = {"whitespace_flexible": False, "json_allowed_escapes": 'nrbtf\\"'}

_REMEDIES = {
    "The JSON schema": "Change or leave out that part (for a oneOf: use anyOf).",
    "The regular expression": "Correct it; look-around and back-references are not supported.",
    "The Lark grammar": "Correct it; rules are described in llguidance's documentation of its syntax.",
}


class Grammar:
    """A compiled grammar for one tokenizer; immutable, shared by requests and threads.

    Attributes:
        vocab_size: ids of the tokenizer, of which `allow` has one bit each.
        source: as llguidance reads it.
        closing: what ends texts in time, and the shortest text that was found (see `closing.py`).
        unique: the JSON schema if it has `uniqueItems`, which a grammar cannot enforce; else `None`.
        calls: whether texts hold tool calls; they end at the first call that repeats an earlier one.
    """

    unique: Mapping[str, Any] | None = None
    calls = False

    def __init__(self, source: str, tokenizer: Tokenizer, what: str) -> None:
        """`source`: as llguidance reads it; `what`: what messages call it. Use the class methods."""
        if tokenizer.table.marked:
            raise TinyslmError(
                f"{what[:1].upper()}{what[1:]} cannot bind this model, whose tokenizer marks capitals "
                "(--tokenizer.case marked).",
                "Leave it out, or train a model with --tokenizer.case kept.",
            )
        self.vocabulary = vocabulary(tokenizer)
        self.vocab_size = self.vocabulary.size
        self.what, self.source = what, source
        vet(source, what, self.vocab_size, tokenizer.special_ids)
        self._start = _start(what, source, self.vocabulary.tokens)
        letters = _start(what, source, self.vocabulary.letters)
        self.closing = GrammarCompletion(letters, self.vocabulary, source)

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | bool, tokenizer: Tokenizer) -> Grammar:
        """JSON without white space between its parts that is valid under `schema` (draft 2020-12).

        Properties come in the order in which the schema names them, then others, if it allows them. A text may violate
        `uniqueItems`: it then ends with the finish reason "invalid".
        Raises `TinyslmError`, naming the keyword, for a schema that nothing satisfies or that would not be honoured.
        """
        from llguidance import LLMatcher

        checked = check_schema(schema)
        check_schema_levels(checked)
        text = json.dumps(checked)
        grammar = cls(LLMatcher.grammar_from_json_schema(text, overrides=_JSON), tokenizer, "The JSON schema")
        if isinstance(schema, Mapping) and wants_uniqueness(schema):
            grammar.unique = schema
        return grammar

    @classmethod
    def json_object(cls, tokenizer: Tokenizer) -> Grammar:
        """Any JSON object."""
        return cls.json_schema({"type": "object"}, tokenizer)

    @classmethod
    def regex(cls, pattern: str, tokenizer: Tokenizer) -> Grammar:
        """Text that a regular expression matches as a whole (Rust's syntax, no look-around or back-references)."""
        from llguidance import LLMatcher

        _check_text(pattern, "The regular expression")
        return cls(LLMatcher.grammar_from_regex(pattern), tokenizer, "The regular expression")

    @classmethod
    def lark(cls, text: str, tokenizer: Tokenizer) -> Grammar:
        """Text of a Lark grammar whose first rule is `start`, as llguidance reads it."""
        from llguidance import LLMatcher

        _check_text(text, "The Lark grammar")
        check_lark(text)
        return cls(LLMatcher.grammar_from_lark(text), tokenizer, "The Lark grammar")

    @classmethod
    def choices(cls, texts: Sequence[str], tokenizer: Tokenizer) -> Grammar:
        """Exactly one of `texts`."""
        from llguidance import LLMatcher

        if isinstance(texts, str) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise TinyslmError(
                f"The choices are {texts!r:.80}.", "Give a list of one or more texts, none of them empty."
            )
        if len(texts) > MOST_CHOICES:
            raise TinyslmError(f"There are {len(texts)} choices.", f"Give at most {MOST_CHOICES}.")
        rule = " | ".join(json.dumps(text, ensure_ascii=False) for text in dict.fromkeys(texts))
        _check_text(rule, "The list of choices")
        return cls(LLMatcher.grammar_from_lark(f"start: CHOICE\nCHOICE: {rule}"), tokenizer, "The list of choices")

    def matcher(self, *, continues: bool = True) -> Matcher:
        """A place at the beginning of the grammar.

        `continues`: the text goes on from a prompt's; otherwise tokenizers with byte fallback drop a space from its
        beginning, and the grammar is about what is left (see `TextStream`).
        """
        return Matcher(self, self._start.deep_copy(), None if continues else self.vocabulary.spelled_first)


class Matcher:
    """One text's place in a grammar."""

    def __init__(
        self, grammar: Grammar, inner: llguidance.LLMatcher, first: Mapping[int, int | None] | None = None
    ) -> None:
        self.grammar = grammar
        self.inner = inner
        self._first = first or {}
        self._taken: list[int] = []  # as they are spelled inside a text
        self._forced: list[int] = []  # what is known to come next
        self._repeats = False
        self._ends = 0  # stop tokens that came when the text had ended already
        self._closer: TextCompletion | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing can follow but the end."""
        return self._repeats or self.inner.is_stopped()

    @property
    def accepts(self) -> bool:
        """Whether the text may end here."""
        return self.inner.is_accepting()

    @property
    def repeats(self) -> bool:
        """Whether the text is complete and repeats items where its schema says `uniqueItems`."""
        schema, bytes_of = self.grammar.unique, self.grammar.vocabulary.bytes_of
        if schema is None or not (self.accepts or self.finished):
            return False
        text = b"".join(bytes_of[token] for token in self._taken if token not in self.grammar.vocabulary.stops)
        return repeats(text.decode("utf-8", "replace"), schema)

    def allow(self, row: Rows) -> None:
        """Fill `row` with the tokens that may come next; stop tokens are among them where the text may end.

        `row` may be longer than the vocabulary, as the logits of some models are: those tokens are never allowed.
        Raises `TinyslmError` when the grammar is too costly to follow.
        """
        words = -(-self.grammar.vocab_size // 32)
        assert row.dtype == np.uint32, "a row of bits is of 32-bit words"
        assert row.flags.c_contiguous, "a row of bits is contiguous"
        assert len(row) >= words, f"a row of bits has at least {words} words"
        row[words:] = 0
        if self._repeats:
            row[:] = 0
            for stop in self.grammar.vocabulary.stops:
                row[stop // 32] |= np.uint32(1 << stop % 32)
            return
        forced = self.forced()
        if forced:
            row[:] = 0
            row[forced[0] // 32] = 1 << forced[0] % 32
            return
        self.inner.unsafe_compute_mask_ptr(row.ctypes.data, 4 * words)
        self._check()
        if self._first and not self._taken:
            self._allow_first(row)
        else:
            self._keep_spelling(row[:words])

    def forced(self) -> list[int]:
        """The tokens that the grammar forces next, in the tokenizer's own spelling; none at most places."""
        if not self._forced and (self._taken or not self._first):
            forced = self.inner.compute_ff_tokens()
            forced = forced[: self.inner.validate_tokens(forced)] if forced else forced
            self._forced = self.grammar.vocabulary.settled(self._forced_text(), forced) if forced else forced
        return self._forced

    def take(self, ids: Sequence[int]) -> int:
        """Go on with `ids`; returns how many of them were allowed and taken. A stop token finishes the text.

        Raises `TinyslmError` when the grammar is too costly to follow.
        """
        if not len(ids):
            return 0
        if self.finished:
            self._ends += ids[0] in self.grammar.vocabulary.stops
            return int(ids[0] in self.grammar.vocabulary.stops)
        if self._first and not self._taken:
            first = self._first.get(ids[0], ids[0])
            ids = [] if first is None else [first, *ids[1:]]
        taken = self.inner.try_consume_tokens(list(ids))
        self._check()
        self._taken += ids[:taken]
        self._repeats = taken > 0 and self.grammar.calls and self._repeats_a_call()
        self._forced = self._forced[taken:] if self._forced[:taken] == list(ids[:taken]) else []
        return taken

    def settle(self, token: int, left: int) -> int:
        """The token to go on with, where `left` more may come, it included; call it before each `take`.

        It is `token`, while after it the text can still be ended by what may come; else the first token of such an
        ending. So a text that has room for the shortest one that was found becomes a whole one (see `closing.py`).
        """
        if self._closer is None:
            self._closer = TextCompletion(self.grammar.closing)
        changed = {} if self._taken else self._first
        spelled = changed.get(token, token)
        settled = spelled if spelled is None else self._closer.settle(spelled, self._taken, left, self.inner)
        return token if settled is None or settled == spelled or settled in changed else settled

    def rollback(self, count: int) -> None:
        """Forget the last `count` tokens that were taken."""
        assert 0 <= count <= len(self._taken) + self._ends, "more tokens than were taken"
        ends = min(count, self._ends)
        self._ends -= ends
        if count > ends:
            self.inner.rollback(count - ends)
            del self._taken[ends - count :]
            self._forced, self._repeats = [], False

    def copy(self) -> Matcher:
        """Another place, at the same point; the two go on separately."""
        copied = Matcher(self.grammar, self.inner.deep_copy(), self._first)
        copied._taken, copied._ends, copied._repeats = list(self._taken), self._ends, self._repeats
        return copied

    def _check(self) -> None:
        if self.inner.is_error():
            reason = " ".join(self.inner.get_error().removesuffix("<non-verbose/>").split())
            raise TinyslmError(f"{self.grammar.what} is too costly to follow: {reason}.", "Make it smaller or simpler.")

    def _repeats_a_call(self) -> bool:
        """Whether a tool call has just ended that repeats an earlier one."""
        bytes_of = self.grammar.vocabulary.bytes_of
        if not bytes_of[self._taken[-1]].endswith(b">") or not self.accepts:  # the end of a call's closing tag
            return False
        stream = ToolCallStream()
        stream.push(b"".join(bytes_of[token] for token in self._taken).decode("utf-8", "replace"))
        return stream.repeated

    def _keep_spelling(self, row: Rows) -> None:
        """Of the allowed tokens, keep those that spell forced text as the tokenizer would.

        These are the tokenizer's own next token, and those that begin with all of the forced text. After any other part
        of the forced text, only unlikely tokens might fit.
        """
        forced = self._forced_text()
        if not forced:
            return
        for token in self.grammar.vocabulary.begins(forced):  # which llguidance may have left out
            row[token // 32] |= np.uint32(1 << token % 32)
        kept = row & self.grammar.vocabulary.spelling(forced)
        if kept.any():
            row[:] = kept

    def _forced_text(self) -> bytes:
        """The bytes that come next in any case, up to a special token."""
        forced: bytes = self.inner.compute_ff_bytes().split(b"\xff", 1)[0]  # 0xFF is in no text
        return forced

    def _allow_first(self, row: Rows) -> None:
        """Allow tokens for what they spell at the beginning of a text."""
        allowed = unpacked(row, self.grammar.vocab_size)
        for token, twin in self._first.items():
            may = twin is not None and allowed[twin]
            bit = np.uint32(1 << token % 32)
            row[token // 32] = row[token // 32] | bit if may else row[token // 32] & ~bit


def hide(logits_bv: Tensor, rows: Rows) -> None:
    """Set the logits `[b, v]` of tokens that are not allowed to minus infinity, in place."""
    import torch

    allowed_bv = torch.from_numpy(unpacked(rows, logits_bv.shape[-1])).to(logits_bv.device)
    logits_bv.masked_fill_(~allowed_bv, float("-inf"))


def unpacked(rows: Rows, vocab_size: int) -> NDArray[np.bool_]:
    """Bits as booleans: `[..., ceil(v / 32)]` to `[..., v]`."""
    octets = np.ascontiguousarray(rows).astype("<u4", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=vocab_size, bitorder="little").view(np.bool_)


def _check_text(text: str, what: str) -> None:
    if len(text) > LONGEST:
        raise TinyslmError(f"{what} has {len(text)} characters.", f"Give one of at most {LONGEST}.")
    check_characters(text, what)


def _start(what: str, source: str, tokens: llguidance.LLTokenizer) -> llguidance.LLMatcher:
    """The beginning of a grammar; raises `TinyslmError` for one that is not understood, or allows nothing."""
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(
        verbose_errors=False,
        max_items_in_row=_MOST_ITEMS,
        step_max_items=10 * _MOST_ITEMS,
        initial_lexer_fuel=_MOST_FUEL,
        max_lexer_states=_MOST_STATES,
    )
    start = LLMatcher(tokens, source, log_level=0, limits=limits)
    if not start.is_error():
        first = start.deep_copy()
        first.compute_bitmask()  # that an expression matches nothing shows only here
        if not first.is_error():
            return start
        if "lexer error" in first.get_error().partition("\n")[0]:
            raise TinyslmError(f"{what} is too costly to follow.", "Use smaller or fewer repetitions.")
        raise TinyslmError(
            f"{what} cannot be satisfied: it allows no text at all.", "Look for parts that exclude another."
        )
    reason = one_line(start.get_error().partition("<backtrace>")[0], _LONGEST_REASON)
    if reason.startswith("panic: "):
        reason = "the grammar library crashed on it"
    if reason.startswith("Unsatisfiable schema: "):
        reason = reason.removeprefix("Unsatisfiable schema: ").removesuffix(".")
        raise TinyslmError(f"{what} cannot be satisfied: {reason}.", "Change it so that some document is valid.")
    if reason.startswith("oneOf constraints"):
        reason = "the alternatives of a oneOf may hold at the same time"
    raise TinyslmError(f"{what} cannot be used: {reason.removesuffix('.')}.", _REMEDIES.get(what, "Change it."))
