"""The tokenizer: encoding, decoding, loading and saving."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import sha256_json, write_atomic, write_json
from tinyslm.tokenizer.backend import ByteDecoder, TokenTable, decode_bytes, read_backend, start_ids, table_of
from tinyslm.tokenizer.fast import LONG_TEXT, FastEncoding, cut, fast_encoding, may_cut
from tinyslm.tokenizer.settings import CONFIG, STOPS, TEMPLATE, read_settings
from tinyslm.tokenizer.special import SpecialEncoder, unreachable, whole_characters
from tinyslm.tokenizer.vocabulary import END_OF_TEXT, ENDS_OF_TURN, MESSAGE_END, PAD

if TYPE_CHECKING:
    import tokenizers


class Tokenizer:
    """Encodes text to ids and back: a byte-level tokenizer, or one with byte fallback as made by SentencePiece.

    Byte-level tokenizers restore every text without loss, unless they have a normalizer. Those with byte fallback
    decode "\u2581" as a space, and some drop a space at the beginning of a text.

    Text never becomes special tokens: "<|endoftext|>" in a document is thirteen ordinary characters. Callers add
    special tokens by id.

    Attributes:
        vocab_size: number of ids; a multiple of 64 for tokenizers trained by tinyslm.
        special_ids: special tokens, name to id.
        eos_id: the id that ends a document.
        pad_id: the id that fills batches; never predicted.
        bos_id: the id that begins a document, or None.
        start_ids: the ids that begin every prompt: `(bos_id,)` or nothing.
        stop_ids: the ids that end a generation.
        chat_template: Jinja, as transformers reads it, or None.
        eos, pad, bos, unk: names of the tokens that end, pad and begin texts, and of the unknown token; the last two
            may be None.
        table: the bytes of each token.
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
        """Wrap a `tokenizers` object and modify it.

        eos, pad, bos: names of its tokens; the default of `pad` is `<|pad|>` if that is a special token, else `eos`.
        adds_bos: whether prompts begin with `bos`; None: as in the post-processor of `backend`.
        stops: ids that end a generation, in addition to `eos`, `<|im_end|>`, and the end-of-turn tokens that are
            special and occur in the chat template.

        Raises `TinyslmError` when `backend` is of an unsupported kind, or lacks a named token.
        """
        assert bos is not None or not adds_bos, "prompts cannot begin with a token that is not named"
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # as ordinary text
        self.table: TokenTable = table_of(backend)
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
        self.vocab_size: int = max(self.table.bytes_of) + 1

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read a tokenizer or a model folder, written by tinyslm or transformers.

        Only `tokenizer.json` determines how text is encoded, as in transformers' `PreTrainedTokenizerFast`.
        Raises `TinyslmError` when its files are missing or damaged, or when it is of an unsupported kind.
        """
        folder = Path(folder)
        if not folder.is_dir():
            problem = f"{folder} is a file, not a folder." if folder.exists() else f"{folder} does not exist."
            raise TinyslmError(problem, "Give a model folder, or one with a tokenizer.")
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

        context: the model's context, for `model_max_length`.
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
        if self.bos_id is not None:  # for other programs; transformers reads only tokenizer.json
            config["add_bos_token"] = self.start_ids == (self.bos_id,)
        if set(self.stop_ids) != self._known_stops():
            config[STOPS] = list(self.stop_ids)
        length = {} if context is None else {"model_max_length": context}
        write_json(folder / "tokenizer.json", self.content)
        write_json(folder / CONFIG, config | length)
        if self.chat_template is not None:
            write_atomic(folder / TEMPLATE, self.chat_template)

    def encode(self, text: str) -> list[int]:
        """Encode a text without special tokens. A lone surrogate becomes U+FFFD.

        Some models' vocabularies lack the bytes of a few control characters; these are dropped.
        """
        if len(text) <= LONG_TEXT or not self.splits_alike:
            return self._encode_part(text)
        return list(chain.from_iterable([self._encode_part(part) for part in cut(text)]))

    def encode_batch(self, texts: Sequence[str], *, threads: int = 1) -> list[list[int]]:
        """`encode` each text. Threads help with texts of some thousand characters, not with short ones."""
        if threads == 1:
            return [self.encode(text) for text in texts]
        share = -(-len(texts) // threads) or 1
        shares = [texts[start : start + share] for start in range(0, len(texts), share)]
        with ThreadPoolExecutor(threads) as pool:
            return list(chain.from_iterable(pool.map(self.encode_batch, shares)))

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Decode `ids`; bytes that are not UTF-8 become U+FFFD. skip_special: drop special tokens."""
        if skip_special:
            special = set(self.special_ids.values())
            ids = [token for token in ids if token not in special]
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of `ids`; a special token has those of its name, an unknown id none."""
        return decode_bytes(self.table, ids)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token inside a text (" the" for "\u2581the"); empty for an unknown id."""
        return self.table.bytes_of.get(token, b"")

    @cached_property
    def kind(self) -> str:
        """The model, such as "bpe" or "unigram"; for byte-level BPE, "byte" without merges, "char" if all merges stay
        within characters.
        """
        model = str(self.content["model"]["type"]).lower()
        if not self.table.byte_level or model != "bpe":
            return model
        special = set(self.special_ids.values())
        pieces = self.table.bytes_of.items()
        merged = [piece for token, piece in pieces if len(piece) > 1 and token not in special]
        if not merged:
            return "byte"
        return "char" if all(_begins_character(piece) for piece in merged) else "bpe"

    @cached_property
    def sha256(self) -> str:
        """Hash of the content of `tokenizer.json`, independent of its layout: equal hashes mean equal ids."""
        return sha256_json(self.content)

    def without_start(self) -> Tokenizer:
        """A copy without `start_ids`, for new models, whose texts are only separated by `eos`."""
        if not self.start_ids:
            return self
        return _from_json(self._backend.to_str(), self.unk, {**self._settings, "adds_bos": False})

    def with_template(self, template: str) -> Tokenizer:
        """A copy with another chat template."""
        return _from_json(self._backend.to_str(), self.unk, {**self._settings, "chat_template": template})

    def with_special(self, names: Iterable[str]) -> Tokenizer:
        """A copy with these special tokens; missing ones are added at the end."""
        import tokenizers

        backend = tokenizers.Tokenizer.from_str(self._backend.to_str())
        backend.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in names])
        return _from_json(backend.to_str(), self.unk, self._settings)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as JSON."""
        return _from_json, (self._backend.to_str(), self.unk, self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        names = {"eos": self.eos, "pad": self.pad, "bos": self.bos}
        return {**names, "stops": self._stops, "chat_template": self.chat_template}

    def _known_stops(self) -> set[int]:
        """The ids that always end a generation, independent of the model's settings."""
        template = self.chat_template or ""
        ends = [name for name in ENDS_OF_TURN if name in self.special_ids and (name == MESSAGE_END or name in template)]
        return {self.eos_id, *[self.special_ids[name] for name in ends]}

    @property
    def content(self) -> dict[str, Any]:
        """The content of `tokenizer.json`."""
        content: dict[str, Any] = json.loads(self._backend.to_str())
        return content

    @cached_property
    def splits_alike(self) -> bool:
        """Whether the ids of the parts that `cut` makes of a text are those of the whole text."""
        return may_cut(self.content)

    @cached_property
    def special_encoder(self) -> SpecialEncoder:
        return SpecialEncoder(self._backend)

    @cached_property
    def _encoder(self) -> tokenizers.Tokenizer:
        """The encoder of ordinary text: a copy if `backend` would merge the name of a special token to its id."""
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


class TextStream:
    """Decodes ids that arrive one at a time.

    The bytes of an incomplete character wait for the rest, so returned text never changes. The results of `push` and
    `flush`, joined, equal `tokenizer.decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer, *, continues: bool = False) -> None:
        """continues: the ids follow another text, so a leading space is kept, which byte fallback otherwise drops."""
        self._bytes = ByteDecoder(tokenizer.table, continues=continues)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int, skip: int = 0) -> str:
        """The text that this token completes, without the token's first `skip` bytes, or ""."""
        return self._decoder.decode(self._bytes.push(token)[skip:])

    def flush(self) -> str:
        """U+FFFD for an incomplete character at the end, else ""."""
        return self._decoder.decode(self._bytes.flush(), final=True)


def encode_slowly(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    """Encode `text` with `tokenizers`; lone surrogates, which it rejects, become U+FFFD as in tiktoken."""
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
    """Make the post-processor add `bos`, or nothing, before every text, unless it already does."""
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
