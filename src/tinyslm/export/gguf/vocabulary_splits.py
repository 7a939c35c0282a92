r"""How text is split before byte-level BPE: GGUF's names for it (`tokenizer.ggml.pre`), and how `tokenizers` does it.

Each name stands for regular expressions that are applied one after another, each to the pieces that the ones before
left; a match is a piece, and so is what stands between two matches. They are llama.cpp's (`llama-vocab.cpp`), written
for another engine, with one exception: the contractions of `llama-bpe` and `qwen2` are those of the original
tokenizers, `(?i:'s|...)`, which differ from llama.cpp's only after an apostrophe in "ſ".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyslm.tokenizer.vocabulary import SPLIT, SPLIT_GPT2

if TYPE_CHECKING:
    import tokenizers

DIGIT = r"\p{N}"


@dataclass(frozen=True)
class Split:
    """How a byte-level BPE tokenizer splits text, and what else its name implies.

    patterns: regular expressions, applied one after another. ignore_merges: a piece that is a token is that token,
    whatever the merges make of it. adds_bos: prompts begin with the beginning token, unless the file says otherwise.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    adds_bos: bool = False


def pre_tokenizer(split: Split) -> tokenizers.pre_tokenizers.PreTokenizer:
    """The split as a part of a `tokenizer.json`, in the form that tokenizers of that kind have it there."""
    from tokenizers import Regex, pre_tokenizers

    *before, last = split.patterns
    ends_in_gpt2 = last == SPLIT_GPT2
    steps: list[pre_tokenizers.PreTokenizer] = [
        pre_tokenizers.Digits(individual_digits=True)
        if pattern == DIGIT
        else pre_tokenizers.Split(Regex(pattern), "isolated")
        for pattern in (before if ends_in_gpt2 else split.patterns)
    ]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=ends_in_gpt2))
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


_CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_UPPER = r"((?=[\p{L}])([^a-z]))"
_LOWER = r"((?=[\p{L}])([^A-Z]))"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_DIGIT_BY_DIGIT = SPLIT.replace(r"\p{N}{1,3}", DIGIT)

_GPT2 = Split((SPLIT_GPT2,))
_STARCODER = Split((DIGIT, SPLIT_GPT2))
_QWEN2 = Split((_DIGIT_BY_DIGIT,))
_LLAMA3 = Split((SPLIT,), ignore_merges=True, adds_bos=True)
_DEFAULT = Split((r"[\p{P}\$\+<=>\^~\|]+", SPLIT_GPT2, r"\p{N}+", "[0-9][0-9][0-9]"))
_TEKKEN = Split(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
        rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
    ),
    ignore_merges=True,
    adds_bos=True,
)
_GPT4O = Split(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
        rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
    )
)
_DEEPSEEK3 = Split(
    (
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
    )
)
_FALCON = Split((r"[\p{P}\$\+<=>\^~\|`]+", SPLIT_GPT2, "[0-9][0-9][0-9]"))

SPLITS: dict[str, Split] = {
    "default": _DEFAULT,
    **dict.fromkeys(("gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "gigachat", "exaone4", "a.x-4.0"), _GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _STARCODER),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"), _LLAMA3),
    **dict.fromkeys(("smaug-bpe", "dbrx", "glm4", "chatglm-bpe"), Split((SPLIT,))),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"), _QWEN2),
    **dict.fromkeys(("gpt-4o", "llama4"), _GPT4O),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense"), _DEEPSEEK3),
    "tekken": _TEKKEN,
    "falcon": _FALCON,
}
"""Name in `tokenizer.ggml.pre` -> how text is split."""
