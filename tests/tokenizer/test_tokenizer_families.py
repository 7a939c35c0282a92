"""Tokenizers of the makes that models come with: what transformers reads from their folders is read here."""

import io
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_corpus import SCRIPTS, corpus
from tokenizer_folders import MAKES, write_folder

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer.chat import encode_chat, encode_chat_masked
from tinyslm.tokenizer.fast import SAMPLES
from tinyslm.tokenizer.tokenizer import TextStream, Tokenizer, encode_slowly

SPACES = ["", " ", " a", "  a", "a  b", "\n", "\n\n\n x", "\t\t\ty", "▁a▁", "e\u0301 x\u0301 \u212b", "\x00\x01\x7f"]
TEXTS = [text.replace("<|endoftext|><|im_start|>", "") for text in [*SAMPLES, *SCRIPTS, *corpus()]] + SPACES
BASE_MODELS = ("gpt_neox", "phi2")
TALK = [
    {"role": "user", "content": "How many legs has a beetle?\n\nThink.  "},
    {"role": "assistant", "content": "Six <b>legs</b> <"},
    {"role": "user", "content": "  Tell  more: 漢字 🇩🇪\n"},
]


@pytest.fixture(scope="module", params=MAKES)
def folder(request, tmp_path_factory):
    return write_folder(request.param, tmp_path_factory.mktemp(request.param) / "model")


@pytest.fixture(scope="module")
def ours(folder):
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def theirs(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_ids_and_texts_equal_those_of_transformers(ours, theirs):
    for text in TEXTS:
        ids = ours.encode(text)
        assert [*ours.start_ids, *ids] == theirs(text)["input_ids"], text
        assert ours.decode(ids) == theirs.decode(ids), text
        whole = [*ours.start_ids, *ids, ours.eos_id]
        assert ours.decode(whole) == theirs.decode(whole)
        assert ours.decode(whole, skip_special=True) == theirs.decode(whole, skip_special_tokens=True)


PARTS = [
    "<tool_call>",
    "</think",
    ">",
    "\u0338",
    "\u212a",
    "e\u0301",
    "  ",
    "\t\t",
    "12",
    " a",
    "don't",
    "漢",
    "\n",
    "\ud800",
]


@pytest.mark.parametrize("make", ["gpt_neox", "phi2", "qwen2"])
def test_the_fast_way_gives_the_same_ids(make, tmp_path_factory):
    tokenizer = Tokenizer.load(write_folder(make, tmp_path_factory.mktemp("fast") / make))
    assert tokenizer._fast is not None

    @settings(deadline=None, max_examples=200)
    @given(text=st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=5))).map("".join))
    def check(text):
        assert tokenizer.encode(text) == encode_slowly(tokenizer._backend, text)

    check()
    assert tokenizer.encode("word, " * 30_000) == encode_slowly(tokenizer._backend, "word, " * 30_000)


def test_tokens_with_a_meaning_equal_those_of_transformers(ours, theirs):
    assert (ours.eos_id, ours.bos_id) == (theirs.eos_token_id, theirs.bos_token_id)
    assert ours.eos_id in ours.stop_ids
    assert ours.pad_id in {theirs.pad_token_id, ours.eos_id}


@settings(deadline=None, max_examples=60)
@given(text=st.text())
def test_any_text_comes_back_as_from_tokenizers(ours, text):
    ids = ours.encode(text)
    assert not set(ids) & set(ours.special_ids.values())
    assert ours.decode(ids) == ours._backend.decode(ids, skip_special_tokens=False)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_streams_join_to_decode(ours, data):
    ids = data.draw(st.lists(st.integers(0, ours.vocab_size + 1), max_size=12))
    stream = TextStream(ours)
    assert "".join([stream.push(token) for token in ids]) + stream.flush() == ours.decode(ids)
    assert ours.decode(ids) == ours.decode_bytes(ids).decode("utf-8", "replace")


def test_a_stream_that_continues_keeps_its_first_space(ours):
    token = ours.encode("a the")[-1]
    assert ours.token_bytes(token).startswith(b" ")
    stream = TextStream(ours, continues=True)
    assert stream.push(token) == ours.token_bytes(token).decode()


@pytest.fixture(scope="module", params=[make for make in MAKES if make not in BASE_MODELS])
def chatting(request, tmp_path_factory):
    """Our tokenizer and transformers' of a make that comes with a chat template."""
    from transformers import AutoTokenizer

    folder = write_folder(request.param, tmp_path_factory.mktemp(request.param) / "model")
    return Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)


def test_base_models_have_no_conversations(tmp_path):
    for make in BASE_MODELS:
        with pytest.raises(TinyslmError):
            encode_chat(Tokenizer.load(write_folder(make, tmp_path / make)), TALK[:1])


@pytest.mark.parametrize("prompt", [False, True])
def test_conversations_equal_those_of_transformers(chatting, prompt):
    ours, theirs = chatting
    for length in (1, 2, 3):
        expected = theirs.apply_chat_template(TALK[:length], add_generation_prompt=prompt)["input_ids"]
        assert encode_chat(ours, TALK[:length], add_generation_prompt=prompt) == expected


def test_nobody_writes_special_tokens_in_a_message(chatting):
    ours, _ = chatting
    special = set(ours.special_ids.values())
    names = [*ours.special_ids, *[name[:-1] for name in ours.special_ids]]
    plain = [token for token in encode_chat(ours, TALK[:1]) if token in special]
    for content in ["".join(ours.special_ids), " x ".join(names), *names, "\U000f0000\U00100000\U00100001"]:
        ids = encode_chat(ours, [{"role": "user", "content": f"a{content}"}])
        assert [token for token in ids if token in special] == plain, content
        kept = ours.decode(ids).replace("  ", " ")
        assert f"a{content}".strip().replace("  ", " ") in kept


def test_what_the_assistant_says(chatting):
    ours, _ = chatting
    ids, said = encode_chat_masked(ours, [*TALK[:2], TALK[2], {"role": "assistant", "content": "More."}])
    text = ours.decode([token for token, mine in zip(ids, said, strict=True) if mine])
    assert text.replace("> ", ">").startswith("Six <b>legs</b>")
    assert "More." in text
    assert "beetle" not in text
    ends = [token for token, mine in zip(ids, said, strict=True) if mine and token in ours.stop_ids]
    assert len(ends) == 2


def test_saving_loses_nothing(ours, tmp_path):
    from transformers import AutoTokenizer

    ours.save(tmp_path, context=99)
    again, theirs, copy = (
        Tokenizer.load(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
        pickle.loads(pickle.dumps(ours)),
    )
    names = ["vocab_size", "special_ids", "sha256", "chat_template", "start_ids", "stop_ids", "kind"]
    for name in [*names, "eos_id", "bos_id", "pad_id", "eos", "bos", "pad", "unk"]:
        assert getattr(again, name) == getattr(copy, name) == getattr(ours, name), name
    assert (theirs.bos_token, theirs.eos_token, theirs.unk_token) == (ours.bos, ours.eos, ours.unk)
    assert theirs.pad_token_id == ours.pad_id
    assert theirs.chat_template == ours.chat_template
    for text in TEXTS:
        assert theirs(text)["input_ids"] == [*again.start_ids, *again.encode(text)]
        assert copy.encode(text) == again.encode(text)
        assert theirs.decode(again.encode(text)) == again.decode(again.encode(text))


STOPS = {
    "gpt_neox": {"<|endoftext|>"},
    "phi2": {"<|endoftext|>"},
    "qwen2": {"<|im_end|>", "<|endoftext|>"},
    "llama3": {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"},
    "smollm": {"<|im_end|>"},
    "llama2": {"</s>"},
    "mistral": {"</s>"},
    "phi3": {"<|endoftext|>", "<|assistant|>", "<|end|>"},
    "gemma": {"</s>", "<end_of_turn>"},
    "unigram": {"</s>"},
}


@pytest.mark.parametrize("make", MAKES)
def test_what_ends_a_generation(make, tmp_path):
    folder = write_folder(make, tmp_path / "model")
    tokenizer = Tokenizer.load(folder)
    names = {token: name for name, token in tokenizer.special_ids.items()}
    assert {names[token] for token in tokenizer.stop_ids} == STOPS[make]


def test_ends_of_turns_stop_where_only_the_template_has_them(tmp_path):
    folder = write_folder("gemma", tmp_path / "model")
    (folder / "generation_config.json").unlink()
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.special_ids["<end_of_turn>"] in tokenizer.stop_ids
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": None}))
    assert Tokenizer.load(folder).stop_ids == (tokenizer.eos_id,)


@pytest.mark.parametrize(
    ("value", "stops"), [(5, {5}), ([5, 7], {5, 7}), (None, set()), ([], set()), (-1, set()), ([700_000], {700_000})]
)
def test_stops_of_generation_config(tmp_path, value, stops):
    folder = write_folder("phi2", tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    tokenizer = Tokenizer.load(folder)
    assert set(tokenizer.stop_ids) == stops | {tokenizer.eos_id}


@pytest.mark.parametrize("content", ['{"eos_token_id": "x"}', '{"eos_token_id": [1.5]}', "[]", "{", "[" * 100_000])
def test_damaged_generation_config_is_named(tmp_path, content):
    folder = write_folder("phi2", tmp_path / "model")
    (folder / "generation_config.json").write_text(content)
    with pytest.raises(TinyslmError, match=r"generation_config\.json"):
        Tokenizer.load(folder)


def test_the_end_token_of_a_folder_that_names_none(tmp_path):
    folder = write_folder("gemma", tmp_path / "model")
    (folder / "tokenizer_config.json").unlink()
    assert Tokenizer.load(folder).eos == "</s>"
    (folder / "generation_config.json").unlink()
    with pytest.raises(TinyslmError, match="eos_token"):
        Tokenizer.load(folder)


@pytest.mark.parametrize("make", ["qwen2", "llama2", "gemma"])
@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("processor", [True, False])
def test_tokenizer_json_says_what_prompts_begin_with(make, adds, processor, tmp_path):
    """Not `add_bos_token`, which transformers 5 does not read beside a tokenizer.json."""
    from transformers import AutoTokenizer

    folder = write_folder(make, tmp_path / "model")
    config, content = (json.loads((folder / name).read_text()) for name in ("tokenizer_config.json", "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "add_bos_token": adds}))
    kept = content["post_processor"] if processor else None
    (folder / "tokenizer.json").write_text(json.dumps({**content, "post_processor": kept}))
    tokenizer = Tokenizer.load(folder)
    expected = AutoTokenizer.from_pretrained(folder)("the text")["input_ids"]
    assert expected == [*tokenizer.start_ids, *tokenizer.encode("the text")]
    assert tokenizer.start_ids == ((tokenizer.bos_id,) if processor and make != "qwen2" else ())


def test_older_folders_have_a_map_of_special_tokens(tmp_path):
    from transformers import AutoTokenizer

    folder = write_folder("llama2", tmp_path / "model")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    names = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    tokenizer, theirs = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos, tokenizer.eos, tokenizer.unk) == (theirs.bos_token, theirs.eos_token, theirs.unk_token)


@pytest.mark.parametrize("make", ["qwen2", "llama2"])
def test_beginning_with_bos_is_a_choice(make, tmp_path):
    from transformers import AutoTokenizer

    backend, _ = MAKES[make]()
    bos, eos = ("<|im_start|>", "<|im_end|>") if make == "qwen2" else ("<s>", "</s>")
    for adds in (True, False):
        tokenizer = Tokenizer(backend, eos=eos, bos=bos, adds_bos=adds, stops=[9])
        assert tokenizer.start_ids == ((tokenizer.bos_id,) if adds else ())
        assert tokenizer.stop_ids == tuple(sorted({9, tokenizer.eos_id}))
        tokenizer.save(tmp_path / str(adds))
        theirs = AutoTokenizer.from_pretrained(tmp_path / str(adds))
        assert theirs("the text")["input_ids"] == [*tokenizer.start_ids, *tokenizer.encode("the text")]
        assert Tokenizer.load(tmp_path / str(adds)).stop_ids == tokenizer.stop_ids


def test_merges_never_make_a_special_token(tmp_path):
    """Some conversions from SentencePiece have merges for "</s>", which would make it of text."""
    backend, _ = MAKES["llama2"]()
    content = json.loads(backend.to_str())
    vocab, merges = content["model"]["vocab"], content["model"]["merges"]
    vocab |= {name: len(vocab) + number for number, name in enumerate(["</", "</s"]) if name not in vocab}
    content["model"]["merges"] = [["<", "/"], ["</", "s"], ["</s", ">"], *merges]
    tokenizer = Tokenizer(type(backend).from_str(json.dumps(content)), eos="</s>", bos="<s>")
    assert tokenizer._backend.encode("a</s>", add_special_tokens=False).ids[-1] == tokenizer.eos_id
    ids = tokenizer.encode("a</s>")
    assert tokenizer.eos_id not in ids
    assert tokenizer.decode(ids) == "a</s>"
    assert tokenizer.encode("other text") == tokenizer._backend.encode("other text", add_special_tokens=False).ids


def test_sentencepiece_itself_gives_the_same_ids(tmp_path):
    """The makes with byte fallback stand for models that SentencePiece trained; here is one."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers

    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in corpus() for line in text.splitlines()]),
        model_writer=model,
        model_type="bpe",
        vocab_size=800,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.98,
        minloglevel=2,
        num_threads=1,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocab = {processor.id_to_piece(token): token for token in range(processor.vocab_size())}
    pairs = [(name[:cut], name[cut:]) for name in vocab for cut in range(1, len(name))]
    known = [pair for pair in pairs if pair[0] in vocab and pair[1] in vocab]
    known.sort(key=lambda pair: -processor.get_score(vocab["".join(pair)]))
    backend = Backend(models.BPE(vocab=vocab, merges=known, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    tokenizer = Tokenizer(backend, eos="</s>", bos="<s>", adds_bos=True)
    for text in [text.replace("▁", "_").replace("\x00", "") for text in TEXTS]:
        assert tokenizer.encode(text) == processor.encode(text), text
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.start_ids == (processor.bos_id(),)


def test_a_tokenizer_for_a_new_model_puts_nothing_before_prompts(ours, tmp_path) -> None:
    bare = ours.without_start()
    assert bare.start_ids == ()
    assert bare.encode("Once upon a time") == ours.encode("Once upon a time")
    assert (bare.bos_id, bare.stop_ids) == (ours.bos_id, ours.stop_ids)
    bare.save(tmp_path)
    assert Tokenizer.load(tmp_path).start_ids == ()
