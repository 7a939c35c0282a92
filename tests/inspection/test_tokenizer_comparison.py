"""Tokenizers measured on a text."""

import json
import re
from pathlib import Path

import pytest

from sentences import sentences
from tinyslm import TinyslmError, Tokenizer, compare_tokenizers
from tinyslm.data.text_kinds import paragraphs, text_kind
from tinyslm.inspection.tokenizers import TokenizerComparison
from tinyslm.inspection.tokenizers_page import faults, tokenizers_page

CODE = "def f(x):\n    return {'a': x[0] + 1, 'b': (x)}\n\n\nclass A(B):\n    y = f([1])\n"
NUMBERS = "2026-01-02 12.50 13.75 1204\n"
OTHER = "Жили-были старик со старухой у самого синего моря. <|endoftext|>\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Documents of every kind of text, many of them."""
    file = tmp_path_factory.mktemp("compared") / "texts.jsonl"
    parts = [text * 20 for text in (CODE, NUMBERS, OTHER)]
    texts = [f"{number} {part}" for number in range(4) for part in (*parts, sentences(30, number))]
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return str(file)


@pytest.fixture(scope="module")
def compared(text: str, byte_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TokenizerComparison:
    folder = tmp_path_factory.mktemp("tokenizers") / "bytes"
    byte_tokenizer.save(folder)
    return compare_tokenizers([text], [folder, "bpe:384", byte_tokenizer], parameters=1_000_000, samples=["1 <b>"])


@pytest.mark.parametrize(
    ("text", "kind"),
    [("Once upon a time (long ago).", "prose"), (CODE, "code"), (NUMBERS, "numbers"), (OTHER, "other scripts")],
)
def test_kinds_of_text(text: str, kind: str) -> None:
    assert text_kind(text) == kind


def test_paragraphs_are_the_text() -> None:
    text = "\n\na\nb\n\n\n  \nc d\n\ne"
    assert "".join(paragraphs(text)) == text
    assert list(paragraphs(text))[1:] == ["a\nb\n\n\n  \n", "c d\n\n", "e"]


def test_what_is_known_of_bytes(compared: TokenizerComparison) -> None:
    folder, _, given = compared.reports
    assert folder.by_kind == dict.fromkeys(compared.by_kind, 1.0) == given.by_kind
    assert (folder.bytes_per_token, folder.tokens) == (1.0, compared.utf8_bytes)
    assert (folder.ordinary, folder.vocab_size) == (256, 320)
    assert folder.whole_words < 0.1
    assert folder.embedding_share == pytest.approx(2 * 320 * (folder.dim or 0) / 1_000_000, rel=0.02)
    assert [token.text for token in folder.cuts[2].tokens] == list(folder.cuts[2].text)
    assert given.name == "byte, 320 tokens"


def test_a_kind_is_trained_on_other_parts(compared: TokenizerComparison) -> None:
    bpe = compared.reports[1]
    assert (bpe.name, bpe.kind, bpe.vocab_size, bpe.trained) == ("bpe:384", "bpe", 384, True)
    assert compared.train_bytes > compared.utf8_bytes > 0
    assert bpe.bytes_per_token > 1.1
    assert bpe.tokens_per_word < compared.reports[0].tokens_per_word


def test_special_tokens_inside_texts_are_text(compared: TokenizerComparison) -> None:
    assert [(one.lost.changed, one.specials) for one in compared.reports] == [(0, 0)] * 3


def test_the_page_is_one_file(compared: TokenizerComparison) -> None:
    html = tokenizers_page(compared)
    assert "<script" not in html
    assert not re.search(r"(?:src|href)=|url\(", html)
    assert html.count('class="cut"') == 4 * 3
    assert "1 &lt;b&gt;" in html
    assert "k-digits" in html


def test_json_holds_everything(compared: TokenizerComparison) -> None:
    value = json.loads(json.dumps(compared.as_json()))
    assert value["reports"][0]["cuts"][3]["tokens"] == ["1", " ", "<", "b", ">"]


def test_one_line_is_cut_and_one_tokenizer_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "line.txt"
    file.write_text("".join(f"word {number} " for number in range(20_000)))
    comparison = compare_tokenizers([str(file)], ["byte"])
    assert comparison.utf8_bytes + comparison.train_bytes == file.stat().st_size
    assert comparison.reports[0].lost.changed == 0


def test_a_lost_text_is_reported(tmp_path: Path, byte_tokenizer: Tokenizer) -> None:
    byte_tokenizer.save(tmp_path / "lower")
    content = byte_tokenizer.content | {"normalizer": {"type": "Lowercase"}}
    (tmp_path / "lower" / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "text.txt").write_text("it rained on Monday\n")
    comparison = compare_tokenizers([str(tmp_path / "text.txt")], [tmp_path / "lower"])
    assert comparison.reports[0].lost.changed == 1
    (said,) = faults(comparison)
    assert "of the characters do not come back, in 1 of 1 texts" in said
    assert "Monday" in said


@pytest.mark.parametrize(
    ("tokenizers", "problem"),
    [
        ([], "No tokenizer was given"),
        (["bpa"], "bpa is neither a folder nor a kind"),
        (["bpe:many"], "bpe:many is neither"),
        (["bpe:512,digit=one"], 'there is no setting "digit"'),
        (["bpe:60000"], "too large for this text"),
        (["byte"] * 21, "21 tokenizers are too many"),
    ],
)
def test_mistakes(text: str, tokenizers: list[str], problem: str) -> None:
    with pytest.raises(TinyslmError, match=problem):
        compare_tokenizers([text], tokenizers)


def test_too_little_text(tmp_path: Path) -> None:
    file = tmp_path / "short.txt"
    file.write_text("Once upon a time")
    with pytest.raises(TinyslmError, match="too little text to train"):
        compare_tokenizers([str(file)], ["byte"])
    file.write_text("")
    with pytest.raises(TinyslmError, match="No text was found"):
        compare_tokenizers([str(file)], ["byte"])
