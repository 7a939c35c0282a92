"""The tokenizer's files, so that onnxruntime-genai's own reading of them gives the same ids.

It knows less of `tokenizer.json` than the `tokenizers` library does. Where its ids differ and the same cuts can be
written in words that it does know, the exported file has these; what still differs is reported.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyslm.core.files import write_json
from tinyslm.core.json_files import read_json
from tinyslm.export.probes import strings
from tinyslm.tokenizer.backend import LARGEST_FILE
from tinyslm.tokenizer.tokenizer import Tokenizer

FILE = "tokenizer.json"
TRIED = 500
GPT2_CUTS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel with `use_regex` cuts by."""


def write_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> list[str]:
    """Write the tokenizer's files; returns what onnxruntime-genai reads otherwise, if anything.

    `genai_config.json` must be there already: onnxruntime-genai opens no folder without it.
    """
    tokenizer.save(folder, context=context)
    wanted = _read(folder)
    try:
        other = _differing(folder, wanted)
    except RuntimeError as error:
        return [f"onnxruntime-genai cannot read this tokenizer ({error}): encode with the `tokenizers` library instead"]
    if other:
        content = read_json(folder / FILE, limit=LARGEST_FILE)
        write_json(folder / FILE, {**content, "pre_tokenizer": spelt_out(content.get("pre_tokenizer"))})
        still = _differing(folder, wanted)
        if len(still) < len(other) and _read(folder) == wanted:
            other = still
        else:
            write_json(folder / FILE, content)
    if not other:
        return []
    return [
        f"onnxruntime-genai's tokenizer gives other ids than tokenizer.json for {len(other)} of {len(wanted)} strings, "
        f"such as {other[0][:40]!a}: encode with the `tokenizers` library instead"
    ]


def open_tokenizer(folder: Path, *, special: bool) -> Any:
    """The folder's tokenizer in the `tokenizers` library; `special`: names of special tokens in a text are tokens."""
    import tokenizers

    backend = tokenizers.Tokenizer.from_file(str(folder / FILE))
    backend.encode_special_tokens = not special
    return backend


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


def _read(folder: Path) -> dict[str, list[int]]:
    """Varied strings, and their ids as onnxruntime-genai should give them: names of special tokens are tokens to it.

    Without those that hold a NUL, which it takes for the end of a text.
    """
    backend = open_tokenizer(folder, special=True)
    return {text: backend.encode(text, add_special_tokens=False).ids for text in strings(TRIED) if "\0" not in text}


def _differing(folder: Path, wanted: Mapping[str, list[int]]) -> list[str]:
    import onnxruntime_genai

    reader = onnxruntime_genai.Tokenizer(str(folder))
    return [text for text, ids in wanted.items() if reader.encode(text).tolist() != ids]
