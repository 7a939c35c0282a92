"""Tokenizers from GGUF files: the ids are those that llama.cpp makes of the same file."""

import json
import random
from contextlib import closing
from functools import partial
from pathlib import Path

import gguf_files
import pytest
from gguf import GGUFWriter
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.runtimes.llama_cpp import LlamaCpp
from tinyslm.export.gguf.reader import Gguf
from tinyslm.export.gguf.vocabulary import read_tokenizer
from tinyslm.export.gguf.vocabulary_splits import SPLITS
from tinyslm.export.probes import strings
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import byte_symbols

SPLIT_NAMES = {split: name for name, split in reversed(SPLITS.items())}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5


@pytest.fixture(scope="module")
def merges() -> list[tuple[str, str]]:
    """Merges that were learned on unsplit text, so that they cross every place where it could be split."""
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend = Backend(models.BPE())
    # Short pieces cut anywhere: learning takes time in the square of their length.
    cut = pre_tokenizers.Split(Regex(r"[\s\S]{1,9}"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.train_from_iterator(strings(3000), trainer)
    return [tuple(merge) for merge in json.loads(backend.to_str())["model"]["merges"]]


def byte_level(writer: GGUFWriter, merges=(("a", "b"),), pre="llama-bpe", *, more=((), ()), **keys) -> None:
    """256 bytes, one token for each merge, `more` names and types, `<|endoftext|>`, `<|im_end|>`; fillers to 1,000."""
    made = dict.fromkeys([left + right for left, right in merges])
    names = [*byte_symbols(), *made, *more[0], "<|endoftext|>", "<|im_end|>"]
    kinds = [NORMAL] * (256 + len(made)) + [*more[1], CONTROL, CONTROL]
    kinds += [UNUSED] * (1000 - len(names))
    names += [f"[PAD{token}]" for token in range(len(names), 1000)]
    writer.add_string("tokenizer.ggml.model", "gpt2")
    if pre:
        writer.add_string("tokenizer.ggml.pre", pre)
    writer.add_token_list(names)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_uint32("tokenizer.ggml.eos_token_id", names.index("<|endoftext|>"))
    for key, value in keys.items():
        (writer.add_bool if isinstance(value, bool) else writer.add_uint32)(f"tokenizer.ggml.{key}", value)


def write(path: Path, tokenizer, rows: int = 1000) -> Path:
    def widen(tensors):
        tensors["token_embd.weight"] = tensors["token_embd.weight"].repeat(4, axis=0)[:rows]

    return gguf_files.write_tiny_llama(path, tensors=widen, tokenizer=tokenizer)


def both(path: Path, texts) -> list[tuple[str, list[int], list[int]]]:
    """Texts whose ids differ: ours, llama.cpp's."""
    ours = read_tokenizer(Gguf(path))
    with closing(LlamaCpp(path, context=64, vocab_size=1000, has_template=False)) as theirs:
        found = [(text, ours.encode(text), theirs.encode(text)) for text in texts]
    return [(text, mine, other) for text, mine, other in found if mine != other]


@pytest.mark.parametrize("name", SPLIT_NAMES.values())
def test_text_is_split_as_in_llama_cpp(tmp_path: Path, merges, name: str) -> None:
    path = write(tmp_path / "split.gguf", partial(byte_level, merges=merges, pre=name))
    assert both(path, strings(400)) == []


def test_other_names_of_a_split_are_known_to_llama_cpp(tmp_path: Path) -> None:
    for name in sorted(set(SPLITS) - set(SPLIT_NAMES.values())):
        path = write(tmp_path / "named.gguf", partial(byte_level, pre=name))
        assert both(path, ["It's 12 o'clock"]) == []


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_ids_are_those_of_llama_cpp(tmp_path: Path, prefix: bool) -> None:
    """Scores in the order in which a trainer found the pieces, as SentencePiece has them."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if prefix else "never", split=True)
    trainer = trainers.BpeTrainer(vocab_size=700, limit_alphabet=150, show_progress=False, max_token_length=12)
    backend.train_from_iterator(strings(3000), trainer)
    pieces = [name for name, _ in sorted(backend.get_vocab().items(), key=lambda entry: entry[1])]

    def tokenizer(writer: GGUFWriter) -> None:
        names = ["<unk>", "<s>", "</s>", *gguf_files.BYTE_TOKENS, *pieces, "    ", "<tool>"]
        kinds = [UNKNOWN, CONTROL, CONTROL, *[6] * 256, *[NORMAL] * len(pieces), USER_DEFINED, USER_DEFINED]
        kinds += [UNUSED] * (1000 - len(names))
        names += [f"[PAD{token}]" for token in range(len(names), 1000)]
        writer.add_string("tokenizer.ggml.model", "llama")
        writer.add_token_list(names)
        writer.add_token_types(kinds)
        writer.add_token_scores([0.0] * 259 + [-float(rank) for rank in range(1000 - 259)])
        for name, token in (("bos", 1), ("eos", 2), ("unknown", 0)):
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)
        writer.add_bool("tokenizer.ggml.add_space_prefix", prefix)

    path = write(tmp_path / "pieces.gguf", tokenizer)
    texts = [*strings(800), "a <tool> b<tool><tool>", "x      y", "▁▁ ▁", "<tool>    <tool>"]
    # Where a special token's name comes together from pieces, llama.cpp takes the token; here text stays text.
    texts = [text for text in texts if not any(name in text for name in ("<s>", "</s>", "<unk>"))]
    assert both(path, texts) == []
    ours = read_tokenizer(Gguf(path))
    assert (ours.start_ids, ours.stop_ids, ours.unk) == ((1,), (2,), "<unk>")
    for text in texts:
        if "\u2581" not in text and not (prefix and ("    " in text or "<tool>" in text)):  # a space comes after these
            assert ours.decode(ours.encode(text)) == text


def test_special_tokens_and_settings_are_taken_over(tmp_path: Path) -> None:
    def settings(writer: GGUFWriter) -> None:
        more = (["<s>", "<|im_start|>", "<|eot|>", "Ġtool", "odd ☃", "<mask>"], [CONTROL] * 3 + [USER_DEFINED] + [1, 5])
        byte_level(writer, more=more, bos_token_id=257, eot_token_id=259, padding_token_id=258, add_bos_token=True)
        writer.add_string("tokenizer.chat_template", "{{ messages }}")

    tokenizer = read_tokenizer(Gguf(write(tmp_path / "settings.gguf", settings)))
    special = {"<s>": 257, "<|im_start|>": 258, "<|eot|>": 259, "odd ☃": 261, "<|endoftext|>": 263, "<|im_end|>": 264}
    assert tokenizer.special_ids == special
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (257, 263, 258)
    assert (tokenizer.start_ids, tokenizer.stop_ids) == ((257,), (259, 263, 264))
    assert tokenizer.vocab_size == 265  # without the fillers
    assert tokenizer.chat_template == "{{ messages }}"
    assert tokenizer.encode("aĠtoolb") == [*tokenizer.encode("a"), 260, *tokenizer.encode("b")]
    assert len(tokenizer.encode("<|im_start|>")) == 12  # never read from text


def test_the_tokenizer_survives_a_model_folder(tmp_path: Path, merges) -> None:
    more = (["<s>", "Ġtool"], [CONTROL, USER_DEFINED])
    path = write(
        tmp_path / "x.gguf", partial(byte_level, merges=merges, more=more, bos_token_id=900, add_bos_token=True)
    )
    tokenizer = read_tokenizer(Gguf(path))
    tokenizer.save(tmp_path / "folder")
    again = Tokenizer.load(tmp_path / "folder")
    assert (again.sha256, again.special_ids) == (tokenizer.sha256, tokenizer.special_ids)
    assert (again.start_ids, again.stop_ids, again.eos_id) == (
        tokenizer.start_ids,
        tokenizer.stop_ids,
        tokenizer.eos_id,
    )
    assert [again.encode(text) for text in strings(200)] == [tokenizer.encode(text) for text in strings(200)]


def replaced(**changed):
    """The SentencePiece vocabulary with some of its entries changed after they were added."""

    def tokenizer(writer: GGUFWriter) -> None:
        gguf_files.add_sentencepiece(writer)
        for key, change in changed.items():
            entry = writer.kv_data[0][f"tokenizer.ggml.{key}"]
            entry.value = change(entry.value)

    return tokenizer


def model_of_kind(kind: str):
    def tokenizer(writer: GGUFWriter) -> None:
        gguf_files.add_sentencepiece(writer)
        writer.kv_data[0]["tokenizer.ggml.model"].value = kind

    return tokenizer


def without_end(writer: GGUFWriter) -> None:
    gguf_files.add_sentencepiece(writer)
    del writer.kv_data[0]["tokenizer.ggml.eos_token_id"]
    writer.kv_data[0]["tokenizer.ggml.tokens"].value[2] = "<end>"


WRONG = {
    "wordpiece": (model_of_kind("bert"), 'of the kind "bert"'),
    "unigram": (model_of_kind("t5"), 'of the kind "t5"'),
    "rwkv": (model_of_kind("rwkv"), 'of the kind "rwkv"'),
    "none": (model_of_kind("none"), 'of the kind "none"'),
    "unknown split": (partial(byte_level, pre="llama-bpf"), r'"llama-bpf".*\n.*"llama-bpe"'),
    "two equal tokens": (replaced(tokens=lambda tokens: [*tokens[:-61], *["a"] * 61]), "same name"),
    "types missing": (replaced(token_type=lambda kinds: kinds[:-1]), "320 tokens have 319 types"),
    "scores missing": (replaced(scores=lambda scores: scores[:100]), "have 100 scores"),
    "a score no number": (replaced(scores=lambda scores: [float("nan"), *scores[1:]]), "no numbers"),
    "a byte missing": (replaced(tokens=lambda tokens: [*tokens[:3], "x", *tokens[4:]]), "no token <0x00>"),
    "a token too long": (replaced(tokens=lambda tokens: [*tokens[:259], "y" * 2000, *tokens[260:]]), "longer than"),
    "too many merges": (partial(byte_level, merges=[("a", "b")] * 5000), "it has 5,000 merges"),
    "an id outside": (replaced(eos_token_id=lambda _: 320), "eos token is number 320 of"),
    "no end": (without_end, "which token ends a text"),
    "a merge of nothing": (partial(byte_level, merges=[("a", "b"), ("zz", "z")]), None),
}


@pytest.mark.parametrize(("tokenizer", "told"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_rebuilt_is_refused(tmp_path: Path, tokenizer, told) -> None:
    path = write(tmp_path / "wrong.gguf", tokenizer)
    with pytest.raises(TinyslmError, match=told or "merge"):
        read_tokenizer(Gguf(path))


def test_a_file_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "none.gguf", lambda writer: None)
    with pytest.raises(TinyslmError, match=r"does not say tokenizer.ggml.model"):
        read_tokenizer(Gguf(path))


def test_odd_vocabularies_never_crash(tmp_path: Path) -> None:
    """Tokens, types, scores, merges and ids at random: a tokenizer or a refusal, nothing else."""
    chance = random.Random(3)
    odd = ["", " ", "▁", "\x00", "<0x41>", "<s>", "</s>", "<|im_end|>", "Ġ", "é", "a" * 300, "[PAD3]", "\ufffd", "ab"]
    for number in range(150):
        kind = chance.choice(("llama", "gpt2"))

        def tokenizer(writer: GGUFWriter, kind=kind) -> None:
            base = ["<unk>", "<s>", "</s>", *gguf_files.BYTE_TOKENS] if kind == "llama" else list(byte_symbols())
            names = [*base, "ab", "abc", "ca"]
            for _ in range(chance.choice((0, 1, 5))):
                names[chance.randrange(len(names))] = chance.choice(odd)
            writer.add_string("tokenizer.ggml.model", kind)
            writer.add_string("tokenizer.ggml.pre", chance.choice(("default", "gpt-2", "nothing")))
            writer.add_token_list(names)
            writer.add_token_types([chance.choice((1, 1, 1, 1, 2, 3, 4, 5, 6, 99)) for _ in names])
            writer.add_token_scores([chance.choice((0.0, -1.0, -1e9)) for _ in names])
            parts = ["a", "b", "c", "ab", "ca", "zz", " ", ""]
            writer.add_token_merges([f"{chance.choice(parts)} {chance.choice(parts)}" for _ in range(3)])
            for name in ("bos", "eos", "unknown", "padding", "eot"):
                writer.add_uint32(f"tokenizer.ggml.{name}_token_id", chance.choice((0, 1, 2, 258, 300)))

        path = write(tmp_path / f"{number}.gguf", tokenizer)
        try:
            made = read_tokenizer(Gguf(path))
        except TinyslmError:
            continue
        assert made.decode(made.encode("abc x")).strip() == "abc x"
