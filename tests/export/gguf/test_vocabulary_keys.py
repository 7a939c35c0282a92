"""Tokenizers get llama.cpp's name for their split, found from their regular expressions; others are refused."""

import json

import pytest
import tokenizers
from gguf_models import TEXT, export, random_model, tokenizer_of
from test_llama_cpp import STRINGS
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from tinyslm.core.errors import TinyslmError
from tinyslm.export.gguf import GGUF
from tinyslm.export.gguf.reader import Gguf
from tinyslm.export.gguf.vocabulary import read_tokenizer
from tinyslm.export.gguf.vocabulary_keys import differences, tokenizer_keys, why_not
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import SPLIT, byte_symbols, special_tokens

BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
DIGITS = pre_tokenizers.Digits(individual_digits=True)


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(*steps, ignore_merges: bool = False, normalizer=None, words=(), extra=()) -> Tokenizer:
    """A tokenizer of 320 ids with another split; `words` become tokens that no merge makes."""
    vocab = {name: token for token, name in enumerate([*byte_symbols(), *words])}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=ignore_merges))
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True) for name in special_tokens(len(vocab))])
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(steps)) if len(steps) > 1 else steps[0]
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.add_tokens(list(extra))
    return Tokenizer(backend)


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ((WORDS,), "gpt-2"),
        ((DIGITS, WORDS), "smollm"),
        ((split(SPLIT), BYTES), "llama-bpe"),
        ((split(SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")), BYTES), "qwen2"),
    ],
)
@pytest.mark.parametrize("ignore_merges", [False, True])
def test_splits_get_their_names(steps, name: str, ignore_merges: bool, tmp_path) -> None:
    tokenizer = byte_level(*steps)
    assert tokenizer_keys(tokenizer, 320)["tokenizer.ggml.pre"] == name
    written, original = export(random_model(), tokenizer, "f32", tmp_path)
    with GGUF.open(written.path, original.source, 1) as runtime:
        assert [runtime.encode(text) for text in STRINGS] == [tokenizer.encode(text) for text in STRINGS]


def test_tokens_that_no_merge_makes_need_the_same_habit() -> None:
    unmerged = byte_level(split(SPLIT), BYTES, words=["hello"])
    assert tokenizer_keys(unmerged, 384)["tokenizer.ggml.pre"] != "llama-bpe"
    whole_first = byte_level(split(SPLIT), BYTES, words=["hello"], ignore_merges=True)
    assert tokenizer_keys(whole_first, 384)["tokenizer.ggml.pre"] == "llama-bpe"


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (lambda: byte_level(split(r"\p{L}+|\p{N}"), BYTES), "no name there"),
        (lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)), "no such step"),
        (lambda: byte_level(pre_tokenizers.Digits(individual_digits=False), WORDS), "no such step"),
        (lambda: byte_level(WORDS, normalizer=normalizers.Lowercase()), "does not change texts"),
        (lambda: byte_level(WORDS, words=["</s>"]), "ordinary token because of its name"),
        (lambda: sentencepiece(all_merges=False), "keeps apart"),
    ],
)
def test_what_llama_cpp_would_do_otherwise_is_refused(tokenizer, reason: str, tmp_path) -> None:
    made = tokenizer()
    assert reason in why_not(made, made.vocab_size)
    with pytest.raises(TinyslmError, match="cannot have this tokenizer"):
        export(random_model(vocab_size=made.vocab_size), made, "f32", tmp_path)


def test_added_tokens_that_are_not_special_are_found_in_text(tmp_path) -> None:
    tokenizer = byte_level(WORDS, extra=[AddedToken("<tool>", special=False, normalized=False)])
    written, original = export(random_model(vocab_size=384), tokenizer, "f32", tmp_path)
    with GGUF.open(written.path, original.source, 1) as runtime:
        assert runtime.encode("a<tool> b") == tokenizer.encode("a<tool> b") == [97, 320, 32, 98]


def test_small_differences_are_told() -> None:
    assert "NFC" in differences(byte_level(WORDS, normalizer=normalizers.NFC()))[0]
    loose = byte_level(WORDS, extra=[AddedToken("<tool>", lstrip=True, special=False)])
    assert "<tool>" in differences(loose)[0]
    assert tokenizer_keys(loose, 384)["tokenizer.ggml.token_type"][320] == 4


def test_ends_by_name_are_told() -> None:
    tokenizer = byte_level(WORDS, extra=[AddedToken("<|eot_id|>", special=True)])
    assert "<|eot_id|>" in differences(tokenizer)[0]
    assert differences(tokenizer_of("byte")) == []


def test_more_than_three_ends_without_a_known_name_are_refused() -> None:
    content = tokenizer_of("byte")._backend.to_str()
    several = Tokenizer(tokenizers.Tokenizer.from_str(content), stops=[260, 261])
    keys = tokenizer_keys(several, 320)
    assert {keys[f"tokenizer.ggml.{name}_token_id"] for name in ("eos", "eot", "eom")} == {256, 260, 261}
    many = Tokenizer(tokenizers.Tokenizer.from_str(content), stops=[260, 261, 262])
    assert "three tokens" in why_not(many, 320)


def sentencepiece(prefix: bool = True, all_merges: bool = True) -> Tokenizer:
    """A tokenizer as Llama 2 has one."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trained.train_from_iterator([TEXT] * 3, tokenizers.trainers.BpeTrainer(vocab_size=300, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges = [*(tuple(merge) for merge in learned["merges"]), ("be", "t")]  # and not b, et
    pieces = [name for name in learned["vocab"] if len(name) == 1] + [left + right for left, right in merges]
    vocab = {name: token for token, name in enumerate(dict.fromkeys([*names, *pieces]))}
    if all_merges:
        known = {name for name in vocab if name not in names}
        whole = dict.fromkeys(left + right for left, right in merges)
        merges = [
            (name[:cut], name[cut:])
            for name in whole
            for cut in range(1, len(name))
            if {name[:cut], name[cut:]} <= known
        ]
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    spaces = normalizers.Replace(" ", "\u2581")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces]) if prefix else spaces
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    backend.add_special_tokens([AddedToken(name, special=True) for name in names[:3]])
    single = ["<s>", "$A"]
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair=[*single, "$B"], special_tokens=[("<s>", 1)]
    )
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}"
    return Tokenizer(backend, eos="</s>", bos="<s>", chat_template=template)


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_tokenizers_are_the_same_there(prefix: bool, tmp_path) -> None:
    tokenizer = sentencepiece(prefix)
    size = tokenizer.vocab_size + 5
    keys = tokenizer_keys(tokenizer, size)
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.add_space_prefix"]) == ("llama", prefix)
    assert keys["tokenizer.ggml.add_bos_token"] is True
    written, original = export(random_model("llama", size), tokenizer, "f32", tmp_path)
    with GGUF.open(written.path, original.source, 1) as runtime:
        assert [runtime.encode(text) for text in STRINGS] == [tokenizer.encode(text) for text in STRINGS]
        ids = runtime.encode_chat([{"role": "user", "content": "Once upon a time"}])
        assert ids[0] == 1
        assert ids.count(1) == 1
    again = read_tokenizer(Gguf(written.path))
    assert [again.encode(text) for text in STRINGS] == [tokenizer.encode(text) for text in STRINGS]
