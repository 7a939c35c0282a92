"""The tokenizer: text to ids and back, and the files it travels in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import read_json, sha256_json, write_atomic, write_json
from tinyslm.tokenizer.fast import LONG_TEXT, cut, fast_encoding, is_safe
from tinyslm.tokenizer.vocabulary import END_OF_TEXT, MESSAGE_END, PAD, byte_symbols

if TYPE_CHECKING:
    import tiktoken
    import tokenizers

DAMAGED = "Restore the folder from a copy, or make the tokenizer again."


class Tokenizer:
    """Byte-level BPE: any text to ids and back without loss.

    Special tokens are never read from text: "<|endoftext|>" in a document is the thirteen characters it is written
    with. Whoever wants the special token puts in its id.

    Attributes:
        vocab_size: how many ids there are; a multiple of 64 for tokenizers trained here.
        special_ids: special tokens, name to id.
        eos_id: the id that ends a document.
        pad_id: the id that fills batches; never predicted.
        stop_ids: the ids that end a generation.
        chat_template: Jinja, as transformers reads it, or None.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        eos: str = END_OF_TEXT,
        pad: str = PAD,
        chat_template: str | None = None,
    ) -> None:
        """Wrap a byte-level `tokenizers` object; `eos` and `pad` name two of its special tokens."""
        backend.encode_special_tokens = True  # as the ordinary text that they are written with
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.chat_template = chat_template
        added = sorted(backend.get_added_tokens_decoder().items())
        self.special_ids: Mapping[str, int] = {token.content: place for place, token in added if token.special}
        self.eos_id = self.special_ids[eos]
        self.pad_id = self.special_ids[pad]
        self.stop_ids = tuple(sorted({self.eos_id, self.special_ids.get(MESSAGE_END, self.eos_id)}))
        self.vocab_size: int = max(backend.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read a tokenizer or a model folder, written here or by transformers.

        Raises `TinyslmError` when its files are missing or damaged, or when it is no byte-level BPE.
        """
        folder = Path(folder)
        backend = _read_backend(folder / "tokenizer.json")
        config = read_json(folder / "tokenizer_config.json")
        if not isinstance(config, dict):
            raise TinyslmError(f"{folder / 'tokenizer_config.json'} holds no settings.", DAMAGED)
        eos, pad = _end_and_pad(config, backend, folder)
        return cls(backend, eos=eos, pad=pad, chat_template=_chat_template(config, folder))

    def save(self, folder: Path, *, context: int | None = None) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` as transformers reads them.

        context: how many tokens the model can read, for `model_max_length`.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        eos, pad = self._end_and_pad
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": eos,
            "pad_token": pad,
            "unk_token": None,
            "clean_up_tokenization_spaces": False,
        }
        length = {} if context is None else {"model_max_length": context}
        write_json(folder / "tokenizer.json", self._content)
        write_json(folder / "tokenizer_config.json", config | length)
        if self.chat_template is not None:
            write_atomic(folder / "chat_template.jinja", self.chat_template)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens. A lone surrogate, which is no character, becomes U+FFFD."""
        if len(text) <= LONG_TEXT:
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
        bytes_of = self._bytes_of
        return b"".join([bytes_of.get(token, b"") for token in ids])

    def token_bytes(self, token: int) -> bytes:
        """The bytes that one token stands for; none if there is no such token, as in models with spare ids."""
        return self._bytes_of.get(token, b"")

    @cached_property
    def kind(self) -> str:
        """What the merges are: "byte" if there are none, "char" if each stays within one character, else "bpe"."""
        special = set(self.special_ids.values())
        merged = [piece for token, piece in self._bytes_of.items() if len(piece) > 1 and token not in special]
        if not merged:
            return "byte"
        return "char" if all(_begins_character(piece) for piece in merged) else "bpe"

    @cached_property
    def sha256(self) -> str:
        """Hash of the content of `tokenizer.json`, however it is laid out: equal hashes mean equal ids."""
        return sha256_json(self._content)

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross a process boundary as JSON."""
        return _from_json, (self._backend.to_str(), *self._end_and_pad, self.chat_template)

    @property
    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._backend.to_str())
        return content

    @property
    def _end_and_pad(self) -> tuple[str, str]:
        names = {token: name for name, token in self.special_ids.items()}
        return names[self.eos_id], names[self.pad_id]

    @cached_property
    def _bytes_of(self) -> dict[int, bytes]:
        byte_of = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
        added = self._backend.get_added_tokens_decoder()
        vocab = self._backend.get_vocab(with_added_tokens=False)
        ordinary = {
            token: bytes(byte_of[symbol] for symbol in name) for name, token in vocab.items() if token not in added
        }
        return ordinary | {token: special.content.encode() for token, special in added.items()}

    @cached_property
    def _fast(self) -> tiktoken.Encoding | None:
        return fast_encoding(self._backend)

    def _encode_part(self, text: str) -> list[int]:
        if self._fast is not None and is_safe(text):
            return self._fast.encode_ordinary(text)
        return encode_slowly(self._backend, text)


def encode_slowly(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    """Ids of `text` by `tokenizers`, which takes no lone surrogates: they become U+FFFD first, as in tiktoken."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    ids: list[int] = backend.encode(text, add_special_tokens=False).ids
    return ids


def _begins_character(token: bytes) -> bool:
    """Whether the bytes are one UTF-8 character or the first part of one."""
    return token[0] >= 0xC0 and all(0x80 <= byte < 0xC0 for byte in token[1:])


def _read_backend(file: Path) -> tokenizers.Tokenizer:
    import tokenizers

    content = read_json(file)
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # `tokenizers` raises this very class
        raise TinyslmError(f"{file} is no tokenizer ({error}).", DAMAGED) from None
    added = backend.get_added_tokens_decoder()
    vocab = backend.get_vocab(with_added_tokens=False)
    ordinary = "".join(name for name, token in vocab.items() if token not in added)
    if not isinstance(backend.model, tokenizers.models.BPE) or set(ordinary) != set(byte_symbols()):
        raise TinyslmError(
            f"{file} is no byte-level BPE tokenizer: it does not have a token for each of the 256 bytes.",
            "Use a model with a byte-level BPE tokenizer, such as those of GPT-2, Llama 3, SmolLM and Qwen.",
        )
    return backend


def _end_and_pad(config: Mapping[str, Any], backend: tokenizers.Tokenizer, folder: Path) -> tuple[str, str]:
    """Names of the tokens that end a document and fill batches, from `tokenizer_config.json`."""
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}

    def named(key: str) -> str | None:
        value = config.get(key)
        name = value.get("content") if isinstance(value, dict) else value
        return name if name in special else None

    eos = named("eos_token") or (END_OF_TEXT if END_OF_TEXT in special else None)
    if eos is None:
        raise TinyslmError(
            f"{folder / 'tokenizer_config.json'} names no special token as eos_token, the end of a text.",
            f'Add "eos_token" there; tokenizer.json has: {", ".join(sorted(special)[:8]) or "no special tokens"}.',
        )
    return eos, named("pad_token") or eos


def _chat_template(config: Mapping[str, Any], folder: Path) -> str | None:
    """The template in its own file, or in `tokenizer_config.json` as older folders have it."""
    file = folder / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")
    return template if isinstance(template, str) else None


def _from_json(content: str, eos: str, pad: str, chat_template: str | None) -> Tokenizer:
    import tokenizers

    return Tokenizer(tokenizers.Tokenizer.from_str(content), eos=eos, pad=pad, chat_template=chat_template)
