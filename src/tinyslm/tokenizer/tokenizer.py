"""The tokenizer: text to ids and back, and the files it travels in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import sha256_json, write_atomic, write_json
from tinyslm.tokenizer.backend import Spelling, read_backend, spell, spelling_of, start_ids
from tinyslm.tokenizer.fast import LONG_TEXT, FastEncoding, cut, fast_encoding, may_cut
from tinyslm.tokenizer.settings import CONFIG, STOPS, TEMPLATE, read_settings
from tinyslm.tokenizer.special import SpecialEncoder, unreachable, whole_characters
from tinyslm.tokenizer.vocabulary import END_OF_TEXT, ENDS_OF_TURN, MESSAGE_END, PAD

if TYPE_CHECKING:
    import tokenizers


class Tokenizer:
    """Text to ids and back: byte-level BPE, or BPE with byte fallback as SentencePiece makes it.

    Byte-level tokenizers give every text back without loss, unless they have a normalizer. Those with byte fallback
    take "\u2581" for a space, and some drop a space at the beginning of a text.

    Special tokens are never read from text: "<|endoftext|>" in a document is the thirteen characters it is written
    with. Whoever wants the special token puts in its id.

    Attributes:
        vocab_size: how many ids there are; a multiple of 64 for tokenizers trained here.
        special_ids: special tokens, name to id.
        eos_id: the id that ends a document.
        pad_id: the id that fills batches; never predicted.
        bos_id: the id that begins a document, or None.
        start_ids: what every prompt begins with: `(bos_id,)` where the tokenizer was made so, else nothing.
        stop_ids: the ids that end a generation.
        chat_template: Jinja, as transformers reads it, or None.
        eos, pad, bos, unk: names of the tokens that end, fill and begin texts, and of the unknown one; the last two may
            be None.
        spelling: the bytes that each token stands for.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        eos: str = END_OF_TEXT,
        pad: str | None = None,
        bos: str | None = None,
        adds_bos: bool | None = None,
        stops: Iterable[int] = (),
        chat_template: str | None = None,
    ) -> None:
        """Wrap a `tokenizers` object, which becomes this tokenizer's own.

        eos, pad, bos: names of its tokens; without `pad` it is `<|pad|>` where there is one, else `eos`.
        adds_bos: whether prompts begin with `bos`; None: as the post-processor of `backend` has it.
        stops: more ids that end a generation, beside `eos`, `<|im_end|>` and the ends of turns that are special
            tokens here and stand in the chat template.

        Raises `TinyslmError` when `backend` is of a kind that would not give texts back, or lacks a named token.
        """
        assert bos is not None or not adds_bos, "which token is to begin the prompts?"
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # as the ordinary text that they are written with
        self.spelling: Spelling = spelling_of(backend)
        _make_special(backend, [name for name in (eos, pad, bos) if name is not None])
        if adds_bos is not None:
            _begin_with(backend, bos if adds_bos else None)
        self._backend = backend
        self.chat_template = chat_template
        added = sorted(backend.get_added_tokens_decoder().items())
        self.special_ids: Mapping[str, int] = {token.content: place for place, token in added if token.special}
        pad = pad or (PAD if PAD in self.special_ids else eos)
        self.eos, self.pad, self.bos = eos, pad, bos
        self.unk: str | None = None
        self.eos_id = self.special_ids[eos]
        self.pad_id = self.special_ids[pad]
        self.bos_id = None if bos is None else self.special_ids[bos]
        self.start_ids = start_ids(backend)
        self._stops = tuple(stops)
        self.stop_ids = tuple(sorted({*self._known_stops(), *self._stops}))
        self.vocab_size: int = max(backend.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read a tokenizer or a model folder, written here or by transformers.

        `tokenizer.json` is taken at its word, as transformers' `PreTrainedTokenizerFast` does.
        Raises `TinyslmError` when its files are missing or damaged, or when it is of a kind that would not give texts
        back.
        """
        folder = Path(folder)
        file = folder / "tokenizer.json"
        backend = read_backend(file)
        settings = read_settings(folder, backend)
        try:
            tokenizer = cls(
                backend,
                eos=settings.eos,
                pad=settings.pad or settings.eos,
                bos=settings.bos,
                stops=settings.stops,
                chat_template=settings.chat_template,
            )
        except TinyslmError as error:
            raise TinyslmError(f"{file}: {error.problem}", error.remedy) from None
        tokenizer.unk = settings.unk
        return tokenizer

    def save(self, folder: Path, *, context: int | None = None) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` as transformers reads them.

        context: how many tokens the model can read, for `model_max_length`.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.bos,
            "eos_token": self.eos,
            "pad_token": self.pad,
            "unk_token": self.unk,
            "clean_up_tokenization_spaces": False,
        }
        if self.bos_id is not None:  # transformers looks at tokenizer.json alone; other programs read this
            config["add_bos_token"] = self.start_ids == (self.bos_id,)
        if set(self.stop_ids) != self._known_stops():
            config[STOPS] = list(self.stop_ids)
        length = {} if context is None else {"model_max_length": context}
        write_json(folder / "tokenizer.json", self.content)
        write_json(folder / CONFIG, config | length)
        if self.chat_template is not None:
            write_atomic(folder / TEMPLATE, self.chat_template)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens. A lone surrogate, which is no character, becomes U+FFFD.

        Some models' vocabularies lack the bytes of a few control characters: these are left out, as elsewhere.
        """
        if len(text) <= LONG_TEXT or not self.splits_alike:
            return self._encode_part(text)
        return list(chain.from_iterable([self._encode_part(part) for part in cut(text)]))

    def encode_batch(self, texts: Sequence[str], *, threads: int = 1) -> list[list[int]]:
        """`encode` of each text. Threads help with texts of some thousand characters, not with short ones."""
        if threads == 1:
            return [self.encode(text) for text in texts]
        share = -(-len(texts) // threads) or 1
        shares = [texts[start : start + share] for start in range(0, len(texts), share)]
        with ThreadPoolExecutor(threads) as pool:
            return list(chain.from_iterable(pool.map(self.encode_batch, shares)))

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD. `skip_special` leaves special tokens out."""
        if skip_special:
            special = set(self.special_ids.values())
            ids = [token for token in ids if token not in special]
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of `ids`, one token after another; a special token gives its name's, an unknown id none."""
        return spell(self.spelling, ids)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that one token stands for; none if there is no such token, as in models with spare ids.

        They are those of the token inside a text: "\u2581the" stands for " the".
        """
        return self.spelling.bytes_of.get(token, b"")

    @cached_property
    def kind(self) -> str:
        """What the merges are: "byte" if there are none, "char" if each stays within one character, else "bpe".

        "unigram" for a vocabulary without merges, whose tokens have probabilities instead.
        """
        if not self.spelling.byte_level:
            return str(self.content["model"]["type"]).lower()
        special = set(self.special_ids.values())
        pieces = self.spelling.bytes_of.items()
        merged = [piece for token, piece in pieces if len(piece) > 1 and token not in special]
        if not merged:
            return "byte"
        return "char" if all(_begins_character(piece) for piece in merged) else "bpe"

    @cached_property
    def sha256(self) -> str:
        """Hash of the content of `tokenizer.json`, however it is laid out: equal hashes mean equal ids."""
        return sha256_json(self.content)

    def without_start(self) -> Tokenizer:
        """The same, but prompts begin with nothing: in new models, texts follow each other with `eos` between."""
        if not self.start_ids:
            return self
        return _from_json(self._backend.to_str(), self.unk, {**self._settings, "adds_bos": False})

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross a process boundary as JSON."""
        return _from_json, (self._backend.to_str(), self.unk, self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        names = {"eos": self.eos, "pad": self.pad, "bos": self.bos}
        return {**names, "stops": self._stops, "chat_template": self.chat_template}

    def _known_stops(self) -> set[int]:
        """The ids that end a generation whatever the model's settings say."""
        template = self.chat_template or ""
        ends = [name for name in ENDS_OF_TURN if name in self.special_ids and (name == MESSAGE_END or name in template)]
        return {self.eos_id, *[self.special_ids[name] for name in ends]}

    @property
    def content(self) -> dict[str, Any]:
        """What `tokenizer.json` says."""
        content: dict[str, Any] = json.loads(self._backend.to_str())
        return content

    @cached_property
    def splits_alike(self) -> bool:
        """Whether text has the same ids wherever it stands, with no surprise where words end."""
        return may_cut(self.content)

    @cached_property
    def special_encoder(self) -> SpecialEncoder:
        """What encodes rendered conversations, in which special tokens are text."""
        return SpecialEncoder(self._backend)

    @cached_property
    def _encoder(self) -> tokenizers.Tokenizer:
        """What encodes ordinary text: `tokenizers` merges some special tokens' names to their ids, if they can be."""
        vocab = self._backend.get_vocab(with_added_tokens=False)
        names = [name for name in self.special_ids if name in vocab]
        merged = [name for name in names if self.special_ids[name] in encode_slowly(self._backend, name)]
        return unreachable(self._backend) if merged else self._backend

    @cached_property
    def _fast(self) -> FastEncoding | None:
        return fast_encoding(self._backend) if self._encoder is self._backend else None

    def _encode_part(self, text: str) -> list[int]:
        ids = None if self._fast is None else self._fast.encode(text)
        return encode_slowly(self._encoder, text) if ids is None else ids


def encode_slowly(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    """Ids of `text` by `tokenizers`, which takes no lone surrogates: they become U+FFFD first, as in tiktoken."""
    ids: list[int] = backend.encode(whole_characters(text), add_special_tokens=False).ids
    return ids


def _begins_character(token: bytes) -> bool:
    """Whether the bytes are one UTF-8 character or the first part of one."""
    return token[0] >= 0xC0 and all(0x80 <= byte < 0xC0 for byte in token[1:])


def _make_special(backend: tokenizers.Tokenizer, names: Sequence[str]) -> None:
    """Mark the tokens as special, as transformers does with those that `tokenizer_config.json` names."""
    from tokenizers import AddedToken

    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    for name in names:
        if backend.token_to_id(name) is None:
            raise TinyslmError(f"The tokenizer has no token {name!r}.", "Name one of its tokens.")
        if name not in special:
            backend.add_special_tokens([AddedToken(name, special=True, normalized=False)])


def _begin_with(backend: tokenizers.Tokenizer, bos: str | None) -> None:
    """Let the post-processor put `bos` before every text, or nothing; one that does so already stays as it is."""
    from tokenizers import processors

    wanted = () if bos is None else (backend.token_to_id(bos),)
    if start_ids(backend) == wanted:
        return
    begin = [] if bos is None else [bos]
    backend.post_processor = processors.TemplateProcessing(
        single=[*begin, "$A"],
        pair=[*begin, "$A", *[f"{name}:1" for name in begin], "$B:1"],
        special_tokens=list(zip(begin, wanted, strict=True)),
    )


def _from_json(content: str, unk: str | None, settings: Mapping[str, Any]) -> Tokenizer:
    import tokenizers

    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(content), **settings)
    tokenizer.unk = unk
    return tokenizer
