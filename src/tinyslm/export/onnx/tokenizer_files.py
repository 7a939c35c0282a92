"""The tokenizer's files, so that onnxruntime-genai's own reading of them gives the same ids.

It knows less of `tokenizer.json` than the `tokenizers` library does. Where its ids differ and the same cuts can be
written in words that it does know, the exported file has these; what still differs is reported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyslm.core.files import read_json, write_json
from tinyslm.export.probes import strings
from tinyslm.tokenizer.tokenizer import Tokenizer

FILE = "tokenizer.json"
TRIED = 500
GPT2_CUTS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel with `use_regex` cuts by."""


def write_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> list[str]:
    """Write the tokenizer's files; returns what onnxruntime-genai reads otherwise, if anything."""
    tokenizer.save(folder, context=context)
    texts = _texts(tokenizer)
    other = _differing(folder, tokenizer, texts)
    if other:
        content = read_json(folder / FILE)
        write_json(folder / FILE, {**content, "pre_tokenizer": spelt_out(content.get("pre_tokenizer"))})
        still = _differing(folder, tokenizer, texts)
        if len(still) < len(other) and _reads_alike(folder, tokenizer, texts):
            other = still
        else:
            write_json(folder / FILE, content)
    if not other:
        return []
    return [
        f"onnxruntime-genai's tokenizer gives other ids than tokenizer.json for {len(other)} of {len(texts)} strings, "
        f"such as {other[0][:40]!a}: encode with the `tokenizers` library instead"
    ]


def spelt_out(pre_tokenizer: Any) -> Any:
    """The same cuts, with ByteLevel's own and those of Digits as regular expressions."""
    if not isinstance(pre_tokenizer, dict):
        return pre_tokenizer
    kind = pre_tokenizer.get("type")
    if kind == "Sequence":
        parts = [spelt_out(part) for part in pre_tokenizer["pretokenizers"]]
        flat = [each for part in parts for each in (part["pretokenizers"] if part["type"] == "Sequence" else [part])]
        return {"type": "Sequence", "pretokenizers": flat}
    if kind == "Digits" and pre_tokenizer.get("individual_digits"):
        return _split(r"\p{N}")
    if kind == "ByteLevel" and pre_tokenizer.get("use_regex") and not pre_tokenizer.get("add_prefix_space"):
        return {"type": "Sequence", "pretokenizers": [_split(GPT2_CUTS), {**pre_tokenizer, "use_regex": False}]}
    return pre_tokenizer


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _texts(tokenizer: Tokenizer) -> list[str]:
    """Strings to try; left out is what onnxruntime-genai takes as ordinary text in no model: names of special tokens,
    and what follows a NUL."""
    marks = ("\0", *tokenizer.special_ids)
    return [text for text in strings(TRIED) if not any(mark in text for mark in marks)]


def _differing(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    import onnxruntime_genai

    reader = onnxruntime_genai.Tokenizer(str(folder))
    return [text for text in texts if reader.encode(text).tolist() != tokenizer.encode(text)]


def _reads_alike(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> bool:
    again = Tokenizer.load(folder)
    return all(again.encode(text) == tokenizer.encode(text) for text in texts)
