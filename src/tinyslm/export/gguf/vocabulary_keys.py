"""A `Tokenizer` as llama.cpp reads one: the keys under `tokenizer.` of a GGUF file.

How text is split before merging is found from the tokenizer's own regular expressions, never from a name. What
llama.cpp would do otherwise is refused, so that no file is written whose ids differ.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.export.gguf.vocabulary import ENDS, Kind
from tinyslm.export.gguf.vocabulary_splits import DIGIT, SPLITS
from tinyslm.tokenizer.fast import SPLITS as OURS
from tinyslm.tokenizer.kinds import KINDS
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import SPLIT_GPT2

Steps = Sequence[dict[str, Any]]

# Of several names for the same split, the one that most programs know.
BEST_KNOWN = ("gpt-2", "llama-bpe", "qwen2", "smollm")

COMPOSED = {"type": "NFC"}


def tokenizer_keys(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """The keys and their values: texts, truth values, whole numbers and lists.

    vocab_size: of the model; ids beyond the tokenizer's are filled up. Raises `TinyslmError` for a tokenizer that
    llama.cpp does not have.
    """
    content = tokenizer.content
    if tokenizer.kind in KINDS and (why := KINDS[tokenizer.kind].no_gguf):
        raise TinyslmError(
            f"llama.cpp cannot have this tokenizer of the kind {tokenizer.kind}: {why}.",
            "Export to another format, or train a model with --tokenizer.kind bpe.",
        )
    if tokenizer.table.marked:
        raise TinyslmError(
            "llama.cpp cannot have this tokenizer: it does not mark capitals (--tokenizer.case marked).",
            "Export to another format, or train a model with --tokenizer.case kept.",
        )
    kinds, names = _listing(tokenizer, content, vocab_size)
    keys: dict[str, Any] = {"tokenizer.ggml.tokens": names, "tokenizer.ggml.token_type": [int(kind) for kind in kinds]}
    keys |= _byte_level_keys(content) if tokenizer.table.byte_level else _sentencepiece_keys(content, names)
    special = {
        "bos": tokenizer.bos_id,
        "eos": tokenizer.eos_id,
        "padding": tokenizer.pad_id,
        "unknown": content["model"]["vocab"].get(content["model"].get("unk_token") or tokenizer.unk),
    }
    special |= dict(zip(("eot", "eom"), _other_ends(tokenizer), strict=False))
    keys |= {f"tokenizer.ggml.{name}_token_id": token for name, token in special.items() if token is not None}
    keys["tokenizer.ggml.add_bos_token"] = tokenizer.start_ids != ()
    keys["tokenizer.ggml.add_eos_token"] = False
    if tokenizer.chat_template is not None:
        keys["tokenizer.chat_template"] = tokenizer.chat_template
    return keys


def why_not(tokenizer: Tokenizer, vocab_size: int) -> str:
    """Why llama.cpp cannot have such a tokenizer, or ""."""
    try:
        tokenizer_keys(tokenizer, vocab_size)
    except TinyslmError as error:
        return error.problem
    return ""


def differences(tokenizer: Tokenizer) -> list[str]:
    """Notes on what llama.cpp does otherwise in texts that are rare enough to live with it."""
    content, notes = tokenizer.content, []
    if _steps(content["normalizer"], "normalizers") == [COMPOSED]:
        notes.append("llama.cpp does not compose characters (NFC): letters with separate accents get other ids")
    added = [token for token in content["added_tokens"] if not token["special"]]
    if loose := [token["content"] for token in added if token["lstrip"] or token["rstrip"] or token["single_word"]]:
        notes.append(f"llama.cpp keeps the spaces around {', '.join(loose)} in texts")
    named = [token["content"] for token in content["added_tokens"] if token["content"] in ENDS]
    known = {name for name, token in tokenizer.special_ids.items() if token in tokenizer.stop_ids}
    if ends := [name for name in named if name not in known]:
        notes.append(f"llama.cpp also ends a text at {', '.join(ends)}, because of the name")
    return notes


def split_name(content: dict[str, Any]) -> str:
    """llama.cpp's name for the way in which a byte-level `tokenizer.json` splits text.

    Raises `TinyslmError` if it has none.
    """
    patterns = tuple(_patterns(_steps(content["pre_tokenizer"], "pretokenizers")))
    names = [name for name, split in SPLITS.items() if split.patterns == patterns]
    whole_first = bool(content["model"].get("ignore_merges"))
    if whole_first or not all_encode_to_themselves(content):
        names = [name for name in names if SPLITS[name].ignore_merges == whole_first]
    if not names:
        digits = "; of tinyslm's settings of digits, it has one and three" if {*patterns} & {*OURS} else ""
        raise _refusal(f"it splits texts in a way that has no name there{digits}", str(patterns)[:200])
    return next((name for name in BEST_KNOWN if name in names), names[0])


def all_encode_to_themselves(content: dict[str, Any]) -> bool:
    """Whether the merges make every token from its own bytes: then taking whole tokens first changes nothing."""
    from tokenizers import models

    model = content["model"]
    added = {token["content"] for token in content["added_tokens"]}
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    merging = models.BPE(vocab=model["vocab"], merges=merges)
    return all(
        [part.id for part in merging.tokenize(name)] == [token]
        for name, token in model["vocab"].items()
        if name not in added
    )


def _listing(tokenizer: Tokenizer, content: dict[str, Any], vocab_size: int) -> tuple[list[Kind], list[str]]:
    """The kind and the name of every id, in order."""
    special = {token["id"]: bool(token["special"]) for token in content["added_tokens"]}
    names = {token: name for name, token in content["model"]["vocab"].items()}
    names |= {token["id"]: token["content"] for token in content["added_tokens"]}
    kinds = []
    for token in range(vocab_size):
        kinds.append(_kind(tokenizer, names.get(token), special.get(token)))
        names.setdefault(token, f"[PAD{token}]")
    return kinds, [names[token] for token in range(vocab_size)]


def _kind(tokenizer: Tokenizer, name: str | None, special: bool | None) -> Kind:
    """special: of an added token, whether it is; `None` for others."""
    if name is None:
        return Kind.UNUSED
    if special is None and name in ENDS:
        raise _refusal("it would end a text at an ordinary token because of its name", name)
    if name == tokenizer.unk and not tokenizer.table.byte_level:
        return Kind.UNKNOWN
    if special is not None:
        return Kind.CONTROL if special else Kind.USER_DEFINED
    is_byte = not tokenizer.table.byte_level and len(name) == 6 and name.startswith("<0x") and name.endswith(">")
    return Kind.BYTE if is_byte else Kind.NORMAL


def _byte_level_keys(content: dict[str, Any]) -> dict[str, Any]:
    if _steps(content["normalizer"], "normalizers") not in ([], [COMPOSED]):
        raise _refusal("it does not change texts before splitting them", json.dumps(content["normalizer"])[:200])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": split_name(content),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.add_space_prefix": False,
    }


def _sentencepiece_keys(content: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Scores say which merge comes first: a token's is minus the place of the first merge that makes it."""
    prefix = _adds_space(content)
    merges = [
        tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in content["model"]["merges"]
    ]
    _check_merges(content, set(merges))
    place: dict[str, int] = {}
    for index, (left, right) in enumerate(merges):
        place.setdefault(left + right, index)
    scores = [-float(place.get(name, 0)) for name in names]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.add_space_prefix": prefix,
    }


def _check_merges(content: dict[str, Any], merges: set[tuple[str, ...]]) -> None:
    """llama.cpp joins any two tokens that make a third one; SentencePiece, too, but not every BPE."""
    added = {token["content"] for token in content["added_tokens"]}
    whole = {left + right for left, right in merges}
    pieces = (whole | {name for name in content["model"]["vocab"] if len(name) == 1}) - added
    for name in whole:
        for cut in range(1, len(name)):
            pair = name[:cut], name[cut:]
            if pair not in merges and pieces.issuperset(pair):
                raise _refusal("it would join two tokens that this one keeps apart", " and ".join(pair))


def _adds_space(content: dict[str, Any]) -> bool:
    """Whether a space is put before every text; refuses any other change of it."""
    steps = [*_steps(content["normalizer"], "normalizers"), *_steps(content["pre_tokenizer"], "pretokenizers")]
    prefix = False
    for step in steps:
        match step:
            case {"type": "Prepend", "prepend": "\u2581"}:
                prefix = True
            case {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}:
                pass
            case {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always" | "first" | "never" as when}:
                prefix = when != "never"
            case {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}:
                pass  # spaces are "\u2581" by then: nothing is split
            case _:
                raise _refusal("it knows no such step before merging", json.dumps(step)[:200])
    return prefix


def _patterns(steps: Steps) -> Iterator[str]:
    """The regular expressions that steps apply, one after another."""
    for step in steps:
        match step:
            case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
                yield pattern
            case {"type": "Digits", "individual_digits": True}:
                yield DIGIT
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
                yield SPLIT_GPT2
            case {"type": "ByteLevel", "add_prefix_space": False}:
                pass
            case _:
                raise _refusal("it knows no such step before merging", json.dumps(step)[:200])


def _steps(part: dict[str, Any] | None, several: str) -> Steps:
    """The steps of a part of `tokenizer.json`, which may be none, one, or a sequence."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    return [step for inner in part[several] for step in _steps(inner, several)]


def _other_ends(tokenizer: Tokenizer) -> list[int]:
    """The tokens besides the end of a text that end a generation; two have keys, others are known by their names."""
    others = [token for token in tokenizer.stop_ids if token != tokenizer.eos_id]
    names = {token: name for name, token in tokenizer.special_ids.items()}
    others.sort(key=lambda token: names.get(token) in ENDS)
    if len(others) > 2 and names.get(others[2]) not in ENDS:
        raise _refusal("it knows no more than three tokens that end a text", names.get(others[2], str(others[2])))
    return others[:2]


def _refusal(what: str, given: str) -> TinyslmError:
    return TinyslmError(
        f"llama.cpp cannot have this tokenizer: {what} ({given}).",
        "Export to another format, or train a model with a tokenizer made by tinyslm.",
    )
