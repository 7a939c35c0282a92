"""Folders that transformers reads and writes mean the same here."""

import pytest
from tokenizer_corpus import SCRIPTS, corpus

from tinyslm.tokenizer.fast import SAMPLES
from tinyslm.tokenizer.tokenizer import Tokenizer, encode_slowly

TEXTS = [text.replace("<|endoftext|><|im_start|>", "") for text in [*SAMPLES, *SCRIPTS, *corpus()]]


def test_transformers_loads_what_we_save(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path, context=256)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == tokenizer.vocab_size
    assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.eos_id, tokenizer.pad_id)
    assert theirs.bos_token is None
    assert theirs.model_max_length == 256
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert theirs(text, truncation=False, verbose=False)["input_ids"] == ids
        assert theirs.decode(ids) == tokenizer.decode(ids) == text
    assert theirs.decode([tokenizer.eos_id, 104, 105], skip_special_tokens=True) == "hi"


def test_what_transformers_saves_again_loads_here(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path / "ours")
    AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    again = Tokenizer.load(tmp_path / "theirs")
    assert again.chat_template == tokenizer.chat_template
    assert (again.eos_id, again.pad_id, again.stop_ids) == (tokenizer.eos_id, tokenizer.pad_id, tokenizer.stop_ids)
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


@pytest.fixture
def gpt2_folder(tmp_path):
    """A tokenizer of GPT-2's class and make, trained and saved by transformers."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(corpus(), trainer=trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    ).save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


def test_a_gpt2_tokenizer_loads_with_equal_ids(gpt2_folder):
    from transformers import AutoTokenizer

    theirs, ours = AutoTokenizer.from_pretrained(gpt2_folder), Tokenizer.load(gpt2_folder)
    assert ours.kind == "bpe"
    assert ours.pad_id == ours.eos_id == theirs.eos_token_id == 0
    assert ours.vocab_size == len(theirs)
    assert ours._fast is not None
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"] == encode_slowly(ours._backend, text)
        assert ours.decode(ours.encode(text)) == text
