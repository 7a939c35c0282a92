"""A GGUF file's vocabulary as a `Tokenizer`.

Two kinds are read, as llama.cpp reads them (`llama-vocab.cpp`):

- "gpt2": byte-level BPE. Tokens, merges, and the name of the split before them.
- "llama": SentencePiece's BPE with byte fallback. Tokens with scores, from which merges are rebuilt as transformers'
  converter does it: every pair of tokens that makes a third one, best score first.

Ids are llama.cpp's, with its exceptions: a token whose name looks like an end of a message is special whatever its type
says, and ends a generation. What a special token is written with stays text, always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.printable import one_line
from tinyslm.export.gguf.reader import Gguf, Strings, shown
from tinyslm.export.gguf.vocabulary_splits import SPLITS, pre_tokenizer
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import byte_symbols

if TYPE_CHECKING:
    import tokenizers

SPACE = "\u2581"  # what SentencePiece writes a space as

# Names that llama.cpp takes for the end of a message or text, whatever their type.
ENDS = frozenset(
    """
    <|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> </s> <|eom_id|>
    <EOT> _<EOT> [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> <｜end▁of▁sentence｜>
    """.split()  # noqa: SIM905
)


MEANINGS = ("bos", "eos", "eot", "eom", "unknown", "padding")
"""`tokenizer.ggml.{}_token_id`: tokens that are special whatever their type says."""

LONGEST_PIECE = 1000  # characters of a SentencePiece token: finding its merges takes time in the square of that
MOST_MERGES = 16  # for each token; real vocabularies have one to three


class Kind(IntEnum):
    """What `tokenizer.ggml.token_type` says of a token."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Listing:
    """The tokens in id order, and the kind of each."""

    names: Sequence[str]
    kinds: Sequence[int]

    def of(self, *kinds: Kind) -> Iterator[tuple[int, str]]:
        """Id and name of every token of these kinds."""
        return ((token, self.names[token]) for token, kind in enumerate(self.kinds) if kind in kinds)


def read_tokenizer(file: Gguf) -> Tokenizer:
    """The tokenizer of a GGUF file.

    Raises `TinyslmError` when there is none, when it is damaged, or of a kind that is not supported.
    """
    model = file.need("tokenizer.ggml.model", str)
    if model not in _KINDS:
        raise TinyslmError(
            f'{file.path} has a tokenizer of the kind "{one_line(model, 40)}", which tinyslm cannot rebuild.',
            'Import a model with a tokenizer of the kind "gpt2" (byte-level BPE) or "llama" (SentencePiece BPE).',
        )
    listing = _listing(file)
    with _refusing(file):
        backend, usually_adds_bos = _KINDS[model](file, listing)
        _add_special(backend, file, listing)
        eos, stops = _ends(file, listing)
        adds_bos = file.get("tokenizer.ggml.add_bos_token", bool)
        bos = _name(file, listing, "bos")
        tokenizer = Tokenizer(
            backend,
            eos=eos,
            pad=_name(file, listing, "padding"),
            bos=bos,
            adds_bos=bos is not None and (usually_adds_bos if adds_bos is None else adds_bos),
            stops=stops,
            chat_template=file.get("tokenizer.chat_template", str),
        )
        tokenizer.unk = _name(file, listing, "unknown")
    return tokenizer


@contextmanager
def _refusing(file: Gguf) -> Iterator[None]:
    """Tell what `tokenizers` finds wrong; it raises the class `Exception` itself, and panics for some mistakes."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise _damaged(file, one_line(str(error), 200)) from None


def _listing(file: Gguf) -> Listing:
    """The tokens, with what llama.cpp changes about them, without the fillers at the end."""
    tokens, embeddings = file.need("tokenizer.ggml.tokens", Strings), file.tensors.get("token_embd.weight")
    if embeddings is not None and len(tokens) > embeddings.shape[0]:
        raise _damaged(file, f"it has {len(tokens):,} tokens for {embeddings.shape[0]:,} rows of embeddings")
    names = list(tokens)
    kinds = file.get("tokenizer.ggml.token_type", np.ndarray)
    if kinds is not None and len(kinds) != len(names):
        raise _damaged(file, f"{len(names):,} tokens have {len(kinds):,} types")
    if kinds is not None and kinds.dtype.kind not in "iu":
        raise _damaged(file, f"the types of its tokens are not whole numbers: {shown(kinds)}")
    listed = [int(Kind.NORMAL)] * len(names) if kinds is None else [int(kind) for kind in kinds]
    while names and listed[-1] == Kind.UNUSED and names[-1] == f"[PAD{len(names) - 1}]":
        names.pop()  # converters fill up to the number of rows of the embedding
        listed.pop()
    names = [name or f"[EMPTY_{token}]" for token, name in enumerate(names)]
    if len(set(names)) != len(names):
        raise _damaged(file, "two tokens have the same name")
    if not names:
        raise _damaged(file, "it has no tokens")
    for token, name in enumerate(names):
        if name in ENDS and listed[token] != Kind.UNKNOWN:
            listed[token] = Kind.CONTROL
    return Listing(names, listed)


def _byte_level(file: Gguf, listing: Listing) -> tuple[tokenizers.Tokenizer, bool]:
    """Byte-level BPE, and whether its split says that prompts begin with the beginning token."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, processors

    name = file.get("tokenizer.ggml.pre", str) or "default"
    if name not in SPLITS:
        raise TinyslmError(
            f'{file.path} splits text in the way "{one_line(name, 40)}" (tokenizer.ggml.pre), which is not supported.',
            did_you_mean(name[:40], SPLITS),
        )
    split = SPLITS[name]
    vocab = {name: token for token, name in enumerate(listing.names)}
    written = file.need("tokenizer.ggml.merges", Strings)
    _check_count(file, len(written), len(vocab))
    merges = [_pair(file, merge, vocab) for merge in written]
    backend = Backend(models.BPE(vocab=vocab, merges=merges, ignore_merges=split.ignore_merges))
    backend.pre_tokenizer = pre_tokenizer(split)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return backend, split.adds_bos


def _sentencepiece(file: Gguf, listing: Listing) -> tuple[tokenizers.Tokenizer, bool]:
    """SentencePiece's BPE with byte fallback; prompts begin with the beginning token unless the file says otherwise."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers

    vocab = {name: token for token, name in enumerate(listing.names)}
    if missing := [name for name in (f"<0x{byte:02X}>" for byte in range(256)) if name not in vocab]:
        raise _damaged(file, f"it has no token {missing[0]} for that byte")
    model = models.BPE(
        vocab=vocab,
        merges=_rebuilt_merges(file, listing),
        unk_token=_name(file, listing, "unknown", 0),
        fuse_unk=True,
        byte_fallback=True,
    )
    backend = Backend(model)
    prefix = file.get("tokenizer.ggml.add_space_prefix", bool) is not False
    spaces = normalizers.Replace(" ", SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return backend, True


_KINDS = {"gpt2": _byte_level, "llama": _sentencepiece}


def _rebuilt_merges(file: Gguf, listing: Listing) -> list[tuple[str, str]]:
    """Every pair of tokens that makes a third one, by the third one's score, then the longer left part first."""
    scores = file.need("tokenizer.ggml.scores", np.ndarray)
    if len(scores) < len(listing.names) or not np.isfinite(scores).all():
        raise _damaged(file, f"{len(listing.names):,} tokens have {len(scores):,} scores, or some that are no numbers")
    pieces = {name: float(scores[token]) for token, name in listing.of(Kind.NORMAL, Kind.UNUSED)}
    if max(map(len, pieces), default=0) > LONGEST_PIECE:
        raise _damaged(file, f"a token is longer than {LONGEST_PIECE} characters")
    found: list[tuple[float, int, int, str]] = []
    for name, score in pieces.items():
        cuts = (cut for cut in range(1, len(name)) if name[:cut] in pieces and name[cut:] in pieces)
        found += [(score, cut, len(name) - cut, name) for cut in cuts]
        _check_count(file, len(found), len(listing.names))
    found.sort(key=lambda merge: merge[:3], reverse=True)
    return [(name[:cut], name[cut:]) for _, cut, _, name in found]


def _check_count(file: Gguf, merges: int, tokens: int) -> None:
    if merges > MOST_MERGES * tokens:
        raise _damaged(file, f"it has {merges:,} merges or more for {tokens:,} tokens")


def _pair(file: Gguf, merge: str, vocab: Mapping[str, int]) -> tuple[str, str]:
    """The two tokens of a merge, which are written with a space between them."""
    left, _, right = merge.partition(" ")
    if not (left in vocab and right in vocab and left + right in vocab):
        raise _damaged(file, f'the merge "{one_line(merge, 60)}" is of tokens that the vocabulary does not have')
    return left, right


def _add_special(backend: tokenizers.Tokenizer, file: Gguf, listing: Listing) -> None:
    """Tell the backend which tokens are special, and which texts are always one token. Ids stay as they are."""
    from tokenizers import AddedToken, decoders

    texts = {token for token, _ in listing.of(Kind.USER_DEFINED)}
    special = {token for token, _ in listing.of(Kind.CONTROL, Kind.UNKNOWN)}
    special |= {token for what in MEANINGS if (token := _id(file, listing, what)) is not None}
    if isinstance(backend.decoder, decoders.ByteLevel):
        # Names in another spelling are not bytes, so no text contains them.
        symbols = set(byte_symbols())
        special |= {
            token for token, name in enumerate(listing.names) if token not in texts and not symbols >= set(name)
        }
    backend.add_tokens(
        [
            AddedToken(listing.names[token], special=token in special, normalized=False)
            for token in sorted(special | texts)
        ]
    )


def _ends(file: Gguf, listing: Listing) -> tuple[str, list[int]]:
    """Name of the token that ends a text, and the ids of all that end a generation."""
    declared = [token for what in ("eos", "eot", "eom") if (token := _id(file, listing, what)) is not None]
    ends = [*declared, *[token for token, name in enumerate(listing.names) if name in ENDS]]
    if not ends:
        raise TinyslmError(
            f"{file.path} does not say which token ends a text (tokenizer.ggml.eos_token_id).",
            "Make the GGUF file again with a current tool.",
        )
    return listing.names[ends[0]], sorted(set(ends))


def _name(file: Gguf, listing: Listing, what: str, default: int | None = None) -> str | None:
    """Name of the token with a meaning such as "eos"."""
    token = _id(file, listing, what, default)
    return None if token is None else listing.names[token]


def _id(file: Gguf, listing: Listing, what: str, default: int | None = None) -> int | None:
    token = file.get(f"tokenizer.ggml.{what}_token_id", int)
    if token is None:
        return default
    if not 0 <= token < len(listing.names):
        raise _damaged(file, f"its {what} token is number {token:,} of {len(listing.names):,}")
    return token


def _damaged(file: Gguf, how: str) -> TinyslmError:
    return TinyslmError(
        f"The tokenizer in {file.path} is damaged: {how}.", "Get the file again, or make it again from the model."
    )
