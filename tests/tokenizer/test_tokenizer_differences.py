"""Tokenizers are compared by the ids that they give, and the first difference is named."""

import json

import pytest
from chat_template_styles import STYLES
from tokenizer_corpus import corpus

from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.comparing import first_difference, template_difference
from tinyslm.tokenizer.tokenizer import Tokenizer, _from_json
from tinyslm.tokenizer.training import train_tokenizer


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_tokenizer(corpus(), vocab_size=700)


def changed(tokenizer: Tokenizer, change) -> Tokenizer:
    content = tokenizer.content
    change(content)
    return _from_json(json.dumps(content), tokenizer.unk, tokenizer._settings)


def swap_merges(content: dict) -> None:
    """Equal vocabularies, and other ids: later merges come first."""
    content["model"]["merges"].reverse()


def swap_tokens(content: dict) -> None:
    vocab = content["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]


def rename_special(content: dict) -> None:
    token = next(one for one in content["added_tokens"] if one["content"] == "<|im_start|>")
    token["content"] = "<|im_begin|>"
    content["model"]["vocab"].pop("<|im_start|>", None)


def test_tokenizers_with_equal_ids_do_not_differ(trained: Tokenizer) -> None:
    other = changed(trained, lambda content: content["decoder"].update(trim_offsets=False))
    assert other.sha256 != trained.sha256
    assert first_difference(trained, trained) == first_difference(trained, other) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swap_merges, "the ids of 'the' are"),
        (swap_tokens, "the id 97 is 'a' and 'b'"),
        (rename_special, "the special token <|im_begin|> has the ids None and"),
    ],
)
def test_the_first_difference_is_named(trained: Tokenizer, change, said: str) -> None:
    assert said in first_difference(trained, changed(trained, change))


def test_templates_are_compared_by_what_they_render(trained: Tokenizer) -> None:
    chatml = trained.with_template(CHATML)
    other = trained.with_template(CHATML + "{# a comment #}")
    assert template_difference(trained, chatml) == template_difference(chatml, other) == ""
    difference = template_difference(chatml, trained.with_template(STYLES["Zephyr"]))
    assert "their chat templates render a conversation as '<|im_start|>user" in difference
