"""Read `tokenizer.json` files of supported kinds, and compute the bytes of each token.

Supported are the two kinds of tokenizers that can encode any text, and two that lose some (`losses.py`), WordPiece as
published and Unigram without byte fallback, which have one unknown token for what they do not know:

    byte-level        each byte of the text is a printable character of the vocabulary (GPT-2's table), which merges
                      join: GPT-2, GPT-NeoX, Llama 3, Qwen, Phi-2, OLMo, SmolLM, Granite, and "bpe", "char" and "byte"
                      of tinyslm; or which are joined to the longest pieces there are: "wordpiece" of tinyslm
    byte fallback     tokens are text, some with "▁" for a space; a character without a token becomes the tokens of its
                      bytes, "<0xE2>", "<0x96>", ...: Llama 2, Mistral, Phi-3, Gemma (made by SentencePiece), and
                      "unigram" of tinyslm
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.json_files import read_json
from tinyslm.core.text_files import decode_small
from tinyslm.tokenizer import casing
from tinyslm.tokenizer.ranks import read_ranks
from tinyslm.tokenizer.vocabulary import byte_symbols

if TYPE_CHECKING:
    import tokenizers

SPACE = "\u2581"  # stands for a space in a vocabulary with byte fallback
DAMAGED = "Restore the folder from a copy, or train the tokenizer again."
SUPPORTED = (
    "Use a model whose tokenizer is byte-level BPE, such as those of GPT-2, Llama 3, SmolLM and Qwen, "
    "or has byte fallback, such as those of Llama 2, Mistral, Phi-3 and Gemma."
)
LARGEST = 1 << 24  # upper limit of the size of a vocabulary
LARGEST_FILE = 1 << 28  # bytes; a file with 256,000 tokens has about 35 MB

# Tokenizer files of older model folders, which lack a tokenizer.json.
_OTHER_FILES = ("tokenizer.model", "tekken.json", "tiktoken.model", "vocab.json", "vocab.txt")

# The bytes that are required; vocabularies of real models lack those of some control characters.
_NEEDED = [ord("\n"), *range(0x20, 0x7F), *range(0x80, 0xC0)]
# Bytes that occur in UTF-8: all but 0xC0, 0xC1 and those from 0xF5 on.
_UTF8 = [*range(0xC0), *range(0xC2, 0xF5)]

_FALLBACK = ["ByteFallback", "Fuse"]

_PROBES = ("Hello, world", "HTTP Id", "  two spaces", "a\nb\n\n c", "naïve 漢字 👩‍👩‍👧", "x = {1: 'a'}", "\u2581\t\x01")


@dataclass(frozen=True)
class TokenTable:
    """The bytes of each token, and the bytes that decoding drops at the beginning of a text.

    byte_level: whether the tokenizer is byte-level, and not one with byte fallback.
    bytes_of: bytes by id.
    first: bytes by id, for tokens that are shorter at the beginning of a text.
    spaces: the maximum number of leading spaces to drop, because encoding added them.
    exact: whether it is certain that every text is restored. marked: whether capitals are marked (`casing.py`); the
    bytes are then those with marks.
    """

    byte_level: bool
    bytes_of: Mapping[int, bytes]
    first: Mapping[int, bytes] = field(default_factory=dict)
    spaces: int = 0
    exact: bool = False
    marked: bool = False


class ByteDecoder:
    """Decodes one text token by token."""

    def __init__(self, table: TokenTable, *, continues: bool = False) -> None:
        """continues: the text follows another one, so its beginning is kept."""
        self._table = table
        self._first = {} if continues else table.first
        self._spaces = 0 if continues else table.spaces
        self._case = casing.CaseDecoder() if table.marked else None

    def push(self, token: int) -> bytes:
        """The bytes that the token adds; none for an unknown id."""
        piece = self._table.bytes_of.get(token)
        if piece is None:
            return b""
        piece, self._first = self._first.get(token, piece), {}
        while self._spaces and piece.startswith(b" "):
            piece, self._spaces = piece[1:], self._spaces - 1
        self._spaces = 0 if piece else self._spaces
        return piece if self._case is None else self._case.push(piece)

    def flush(self) -> bytes:
        """The bytes that remain at the end of the text."""
        return b"" if self._case is None else self._case.flush()


def read_backend(file: Path) -> tokenizers.Tokenizer:
    """Read a `tokenizer.json`, or, in a folder without one, a file of ranks of tiktoken.

    Raises `TinyslmError` when it is missing, damaged or unsupported, or when `tokenizers` gives its added tokens other
    ids than it lists.
    """
    import tokenizers

    if not file.exists() and (ranks := sorted(file.parent.glob("*.tiktoken"))):
        return read_ranks(ranks[0])
    others = [name for name in _OTHER_FILES if (file.parent / name).is_file()]
    others += sorted(other.name for suffix in ("model", "spm", "vocab") for other in file.parent.glob(f"*.{suffix}"))
    if others and not file.exists():
        raise TinyslmError(
            f"{file.parent} has no {file.name}, only {others[0]}.",
            "Convert it with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER).",
        )
    try:
        content = read_json(file, limit=LARGEST_FILE, remedy=DAMAGED)
        backend = tokenizers.Tokenizer.from_str(decode_small(file.read_bytes(), str(file), DAMAGED))
    except TinyslmError:
        raise
    except Exception as error:  # `tokenizers` raises no more specific class
        raise TinyslmError(f"{file} is not a tokenizer ({error}).", DAMAGED) from None
    except BaseException as error:  # a panic in Rust
        if type(error).__name__ != "PanicException":
            raise
        raise TinyslmError(f"{file} is not a tokenizer ({error}).", DAMAGED) from None
    _is_byte_level(content, str(file))
    for token in content.get("added_tokens", ()):
        given = backend.token_to_id(token["content"])
        if given != token["id"]:
            raise TinyslmError(
                f"{file} lists the token {token['content']!r} with the id {token['id']}, but the tokens before it "
                f"give it the id {given}.",
                DAMAGED,
            )
    return backend


def table_of(backend: tokenizers.Tokenizer, origin: str = "This tokenizer") -> TokenTable:
    """The bytes of the tokens of `backend`.

    Raises `TinyslmError`, which names `origin` and the part, for a tokenizer that cannot restore every text: one that
    is not BPE and has no byte fallback, has an unknown decoder, or lacks tokens for bytes.
    """
    content = _description(backend)
    decoder = _steps(content["decoder"], "decoders")
    before = casing.unmarked(content["normalizer"], decoder)
    decoder = decoder if before is None else before
    byte_level = _is_byte_level(content, origin)
    if [step["type"] for step in decoder] == ["WordPiece"] and content["model"]["type"] == "WordPiece":
        table = _wordpiece(backend, decoder[0], origin)
    else:
        table = _byte_level(backend, decoder, origin) if byte_level else _with_fallback(backend, decoder, origin)
    table = replace(table, marked=before is not None)
    table = replace(table, exact=_is_exact(backend, content, decoder, table))
    _check(backend, table, origin)
    return table


def _description(backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """The content of `tokenizer.json` without the vocabulary and merges of BPE, which are large."""
    from tokenizers import models

    model = backend.model
    if not isinstance(model, models.BPE):
        content: dict[str, Any] = json.loads(backend.to_str())
        return content
    settings = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    parts = ("normalizer", "pre_tokenizer", "decoder")
    states = {name: getattr(backend, name) for name in parts}
    return {
        "model": {"type": "BPE", **{name: getattr(model, name) for name in settings}},
        **{name: state and json.loads(state.__getstate__()) for name, state in states.items()},
    }


def _is_byte_level(content: dict[str, Any], origin: str) -> bool:
    """True for a byte-level tokenizer, False for one with byte fallback; raises `TinyslmError` for all others."""
    model = content["model"]
    kind = model.get("type", "a model of an old format")
    steps = [*_steps(content.get("normalizer"), "normalizers")]
    steps += _steps(content.get("pre_tokenizer"), "pretokenizers")
    spells_bytes = any(step["type"] == "ByteLevel" for step in steps)
    if kind == "WordPiece" and not spells_bytes and (content.get("decoder") or {}).get("type") == "WordPiece":
        return False
    if kind not in ("BPE", "Unigram") and not (kind == "WordPiece" and spells_bytes and _knows_words(model, steps)):
        raise _refusal(
            origin, f"it is {kind} and not byte-level BPE: characters that it does not know become one unknown token"
        )
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key) and kind != "WordPiece":
            raise _refusal(origin, f"it has a {key} ({model[key]!r})")
    if kind != "Unigram" and spells_bytes:
        return True
    if not model.get("byte_fallback") and not (kind == "Unigram" and model.get("unk_id") is not None):
        raise _refusal(origin, "it is not byte-level BPE, and it has no byte fallback")
    return False


def _is_exact(
    backend: tokenizers.Tokenizer, content: dict[str, Any], decoder: list[dict[str, Any]], table: TokenTable
) -> bool:
    """Whether every byte has a token, and no step before or after changes a text."""
    steps = _steps(content["pre_tokenizer"], "pretokenizers")
    whole = all(
        step["type"] in ("Digits", "FixedLength")
        or (step["type"] == "Split" and step["behavior"] != "Removed")
        or (step["type"] == "ByteLevel" and not step["add_prefix_space"])
        for step in steps
    )
    added = [token for token in backend.get_added_tokens_decoder().values() if not token.special]
    plain = not any(token.lstrip or token.rstrip or token.normalized for token in added)
    every = {piece for piece in table.bytes_of.values() if len(piece) == 1}
    known = len(every.intersection(bytes([byte]) for byte in _UTF8)) == len(_UTF8)
    unchanged = table.marked or not content["normalizer"]
    falls_back = [step["type"] for step in decoder] == _FALLBACK
    return whole and plain and known and unchanged and (table.byte_level or falls_back)


def _knows_words(model: dict[str, Any], steps: list[dict[str, Any]]) -> bool:
    """Whether a byte-level WordPiece model has a token for each byte in both places, and no word is too long for it."""
    prefix, vocab = model["continuing_subword_prefix"], model["vocab"]
    longest = min((step["length"] for step in steps if step["type"] == "FixedLength"), default=LARGEST)
    return (
        bool(prefix)
        and prefix[0] not in byte_symbols()
        and all(symbol in vocab and prefix + symbol in vocab for symbol in byte_symbols())
        and 4 * longest <= model["max_input_chars_per_word"]  # bytes in a character
    )


def decode_bytes(table: TokenTable, ids: Sequence[int]) -> bytes:
    """The bytes of a whole text; unknown ids have none."""
    if table.first or table.spaces or table.marked:
        decoder = ByteDecoder(table)
        return b"".join(map(decoder.push, ids)) + decoder.flush()
    bytes_of = table.bytes_of
    return b"".join([bytes_of.get(token, b"") for token in ids])


def start_ids(backend: tokenizers.Tokenizer) -> tuple[int, ...]:
    """The ids of the special tokens that the post-processor adds before every text, as in transformers."""
    alone: list[int] = backend.encode("0", add_special_tokens=False).ids
    whole: list[int] = backend.encode("0", add_special_tokens=True).ids
    for place in range(len(whole) - len(alone) + 1):
        if whole[place : place + len(alone)] == alone:
            return tuple(whole[:place])
    return ()


def _byte_level(backend: tokenizers.Tokenizer, decoder: list[dict[str, Any]], origin: str) -> TokenTable:
    prefix = getattr(backend.model, "continuing_subword_prefix", None) or ""
    unmark = {"type": "Replace", "pattern": {"Regex": f"^{prefix}"}, "content": ""}
    wanted = [unmark, "ByteLevel"] if prefix else ["ByteLevel"]
    if [step if step == unmark else step["type"] for step in decoder] not in ([], wanted) or (prefix and not decoder):
        raise _refusal(origin, f"its decoder is {_names(decoder)} instead of ByteLevel")
    byte_of = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    vocab, added = _vocabulary(backend, origin)
    missing = [byte for byte in _NEEDED if byte_symbols()[byte] not in vocab]
    if missing:
        raise _refusal(origin, f"it is not byte-level BPE: it has no token for {len(missing)} common bytes")
    bytes_of = {}
    for marked, token in vocab.items():
        name = marked.removeprefix(prefix)
        try:
            bytes_of[token] = bytes(map(byte_of.__getitem__, name))
        except KeyError:  # not spelled in bytes
            bytes_of[token] = name.encode()
    return TokenTable(True, bytes_of | added)


def _with_fallback(backend: tokenizers.Tokenizer, decoder: list[dict[str, Any]], origin: str) -> TokenTable:
    kinds = [step["type"] for step in decoder]
    wanted: dict[str, dict[str, Any]] = {
        "Replace": {"pattern": {"String": SPACE}, "content": " "},
        "Metaspace": {"replacement": SPACE},
        "Strip": {"content": " ", "stop": 0},
        "ByteFallback": {},
        "Fuse": {},
    }
    for step in decoder:
        if step["type"] not in wanted or not wanted[step["type"]].items() <= step.items():
            raise _refusal(origin, f"its decoder has an unknown step: {json.dumps(step)}")
    if "Strip" in kinds and kinds[-2:] != ["Fuse", "Strip"]:
        raise _refusal(origin, f"its decoder strips spaces before its last step: {_names(decoder)}")
    vocab, added = _vocabulary(backend, origin)
    missing = [byte for byte in _UTF8 if f"<0x{byte:02X}>" not in vocab]
    falls_back = getattr(backend.model, "byte_fallback", False)
    if falls_back and (missing or "ByteFallback" not in kinds):
        raise _refusal(origin, f"its byte fallback lacks {len(missing)} of the bytes or its decoder")
    spaced = "Replace" in kinds or "Metaspace" in kinds
    names = {token: name for name, token in vocab.items()} | {token: name.decode() for token, name in added.items()}
    bytes_of = {token: (name.replace(SPACE, " ") if spaced else name).encode() for token, name in names.items()}
    bytes_of |= {vocab[f"<0x{byte:02X}>"]: bytes([byte]) for byte in range(256) if f"<0x{byte:02X}>" in vocab}
    first = {}
    if any(step["type"] == "Metaspace" and step["prepend_scheme"] != "never" for step in decoder):
        first = {token: name.replace(SPACE, "").encode() for token, name in names.items() if SPACE in name}
    spaces = sum(step["start"] for step in decoder if step["type"] == "Strip")
    return TokenTable(False, bytes_of, first, spaces)


def _wordpiece(backend: tokenizers.Tokenizer, decoder: dict[str, Any], origin: str) -> TokenTable:
    """The table of a WordPiece tokenizer as published, which puts a space between words, and loses others."""
    from tokenizers import decoders

    backend.decoder = decoders.WordPiece(decoder["prefix"], cleanup=False)  # no spaces are removed before punctuation
    vocab, added = _vocabulary(backend, origin)
    prefix = decoder["prefix"]
    bytes_of = {
        token: (name.removeprefix(prefix) if name.startswith(prefix) else f" {name}").encode()
        for name, token in vocab.items()
    }
    return TokenTable(False, bytes_of | added, {token: name.encode() for name, token in vocab.items()})


def _vocabulary(backend: tokenizers.Tokenizer, origin: str) -> tuple[dict[str, int], dict[int, bytes]]:
    """The ids of the model's tokens by name, without added tokens, and the bytes of the added tokens by id."""
    added = {token: entry.content.encode() for token, entry in backend.get_added_tokens_decoder().items()}
    vocab: dict[str, int] = backend.get_vocab(with_added_tokens=False)
    if len(set(vocab.values())) < len(vocab) or max(vocab.values(), default=0) >= LARGEST:
        raise _refusal(origin, f"its tokens do not have different ids below {LARGEST}")
    return {name: token for name, token in vocab.items() if token not in added}, added


def _check(backend: tokenizers.Tokenizer, table: TokenTable, origin: str) -> None:
    """Raise `TinyslmError` if decoding with the table differs from decoding with `tokenizers`."""
    for text in _PROBES:
        ids = backend.encode(text, add_special_tokens=False).ids
        expected = backend.decode(ids, skip_special_tokens=False) if backend.decoder else text
        if decode_bytes(table, ids).decode("utf-8", "replace") != expected:
            raise _refusal(origin, f"its decoding of {text!r} to {expected!r} is not supported")


def _steps(part: dict[str, Any] | None, several: str) -> list[dict[str, Any]]:
    """The steps of a part, which is None, one step, or a nested sequence."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for inner in part[several] for step in _steps(inner, several)]


def _names(steps: list[dict[str, Any]]) -> str:
    return ", ".join(step["type"] for step in steps) or "absent"


def _refusal(origin: str, why: str) -> TinyslmError:
    return TinyslmError(f"{origin} cannot be used: {why}.", SUPPORTED)
