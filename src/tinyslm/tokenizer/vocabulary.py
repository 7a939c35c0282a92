"""The split of text into words, the special tokens, and the layout of ids in tokenizers trained by tinyslm.

The kinds "bpe", "char" and "byte" are byte-level BPE, so they share one encoder, one decoder and one export:

    id            token
    0 .. 255      the byte of that value
    256 ..        one token for each merge, in rank order
    last 16+      special tokens, as many as make the vocabulary a multiple of 64
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from tinyslm.tokenizer.casing import marks

if TYPE_CHECKING:
    import tokenizers

# Llama 3's split, which GGUF calls `llama-bpe`: contractions, words with one leading character that is not a letter,
# up to three digits, punctuation, line ends, spaces.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SPLIT_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

DIGITS = {"one": r"\p{N}", "two": r"\p{N}{1,2}", "three": r"\p{N}{1,3}", "free": r"\p{N}+"}
"""How many digits a token may hold, as a regular expression."""

END_OF_TEXT = "<|endoftext|>"
MESSAGE_START = "<|im_start|>"
MESSAGE_END = "<|im_end|>"
PAD = "<|pad|>"

# End-of-turn tokens of common models; they end a generation if they occur in the chat template.
ENDS_OF_TURN = (
    MESSAGE_END,
    "<|end|>",  # Phi-3
    "<|eot_id|>",  # Llama 3
    "<|eom_id|>",  # Llama 3.1, after a call of a tool
    "<|end_of_text|>",  # Granite
    "<end_of_turn>",  # Gemma
    "<end_of_utterance>",  # SmolVLM
    "<|endofturn|>",  # HyperCLOVA
    "<|end_of_turn|>",  # OpenChat
    "<|END_OF_TURN_TOKEN|>",  # Command R
    "</s>",  # Llama 2, Mistral
)

VOCAB_STEP = 64
SPECIAL_SLOTS = 16
SMALLEST = 320  # 256 bytes and 16 special tokens, rounded up


def split_of(digits: str) -> str:
    """`SPLIT` with digits in groups of this size, a key of `DIGITS`. Qwen's split has one digit in each."""
    return SPLIT.replace(DIGITS["three"], DIGITS[digits])


def round_up(size: int) -> int:
    """The smallest multiple of 64 that is at least `size`; matrix products are fastest with such sizes."""
    return -(-size // VOCAB_STEP) * VOCAB_STEP


def special_tokens(ordinary: int) -> list[str]:
    """Names of the special tokens that follow `ordinary` other ids: four with a meaning, the rest reserved."""
    named = [END_OF_TEXT, MESSAGE_START, MESSAGE_END, PAD]
    slots = round_up(ordinary + SPECIAL_SLOTS) - ordinary
    return named + [f"<|reserved_{i}|>" for i in range(slots - len(named))]


@cache
def byte_symbols() -> tuple[str, ...]:
    """The printable character for each byte in a byte-level `tokenizer.json` (GPT-2's table).

    Printable Latin-1 characters represent themselves; the characters from U+0100 on represent the other 68 bytes.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    code_of = {byte: byte for byte in printable} | {byte: 256 + i for i, byte in enumerate(others)}
    return tuple(chr(code_of[byte]) for byte in range(256))


def byte_level_backend(
    merges: Sequence[tuple[bytes, bytes]], split: str = SPLIT, *, marked: bool = False
) -> tokenizers.Tokenizer:
    """Build a `tokenizers` object with these merges in rank order; each must make a new token. marked: capitals are."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    symbols = byte_symbols()

    def spell(token: bytes) -> str:
        return "".join(symbols[byte] for byte in token)

    vocab = {symbol: byte for byte, symbol in enumerate(symbols)}
    for left, right in merges:
        vocab[spell(left + right)] = len(vocab)
    assert len(vocab) == 256 + len(merges), "two merges make the same token"
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[(spell(left), spell(right)) for left, right in merges]))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend = marks(backend) if marked else backend
    return add_special(backend, len(vocab))


def add_special(backend: tokenizers.Tokenizer, ordinary: int) -> tokenizers.Tokenizer:
    """Add tinyslm's special tokens after `ordinary` other tokens. Returns `backend`."""
    from tokenizers import AddedToken

    backend.add_special_tokens([AddedToken(name, special=True) for name in special_tokens(ordinary)])
    return backend
