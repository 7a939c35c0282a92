"""The chapter on tokens: its merges end in the ids of the model's tokenizer, whatever its kind."""

from dataclasses import replace

from course_pages import PAGES, SENTENCE, data_of

from tinyslm.course.subject import Subject
from tinyslm.course.writing import chapter_page
from tinyslm.tokenizer.shown import face, show_token
from tinyslm.tokenizer.training import train_tokenizer


def test_the_merges_end_in_the_tokens_of_the_sentence(reader, subject: Subject) -> None:
    page = reader.open(PAGES["tokens"])
    widget = page.locator('[data-widget="merges"]')
    assert widget.locator(".said").text_content().endswith("tokens.")
    widget.get_by_label("merges").press("Home")
    assert widget.locator(".token").count() == len(SENTENCE)
    widget.get_by_label("merges").press("End")
    assert widget.locator(".token").all_text_contents() == [face(one) for one in subject.tokens]
    assert f"{len(subject.ids)} tokens." in widget.locator(".said").text_content()


def test_a_typed_text_is_cut_as_the_tokenizer_cuts_it(reader, subject: Subject) -> None:
    page = reader.open(PAGES["tokens"])
    texts = [
        "We'll see: IT'S 12345 naïve 日本 \U0001f600!\n\n  x",
        "aaaaaaa the the",
        " \t ",
        "d'accord ſ 'ſ \ufeffa\u0085b",
    ]
    rules = data_of(page, "merges")["rules"]
    code = """([texts, rules]) => texts.map((text) => {
        const words = wordsOf(text, rules);
        return mergesOf(words, ranksOf(rules)).reduce(merged, words).flat();
    })"""
    assert page.evaluate(code, [texts, rules]) == [subject.tokenizer.encode(text) for text in texts]
    page.get_by_label("another text").fill("a statement")
    tokens = [face(show_token(subject.tokenizer, one)) for one in subject.tokenizer.encode("a statement")]
    assert page.locator('[data-widget="merges"] .token').all_text_contents() == tokens
    page.get_by_label("another text").fill("")
    assert page.locator('[data-widget="merges"] input[type="range"]').input_value() == "1"


def test_vocabularies_cost_what_they_say(reader, subject: Subject) -> None:
    page = reader.open(PAGES["tokens"])
    data = data_of(page, "vocabularies")
    lengths = [row["length"] for row in data["rows"]]
    assert lengths == sorted(lengths)
    config = subject.model.config
    assert [row["table"] for row in data["rows"]] == [
        row["size"] * config.dim * (1 if config.tied else 2) for row in data["rows"]
    ]
    total = sum(one.numel() for one in subject.model.parameters())
    assert data["blocks"] == total - config.vocab_size * config.dim * (1 if config.tied else 2)


def test_a_slider_shows_what_is_learned_next(reader) -> None:
    page = reader.open(PAGES["tokens"])
    widget = page.locator('[data-widget="learning"]')
    widget.get_by_label("merge").press("ArrowRight")
    pairs = data_of(page, "learning")[1]
    assert f"{pairs[0][0]} and {pairs[0][1]} are merged" in widget.locator(".said").text_content()
    assert widget.locator(".token").count() == 2


def test_a_model_without_merges_is_told_so(subject: Subject) -> None:
    tokenizer = train_tokenizer((), kind="byte")
    other = replace(subject, run=None, tokenizer=tokenizer, ids=tokenizer.encode(subject.text))
    page = chapter_page(other, "tokens")
    assert "is of the kind byte" in page
    assert "Here, one is trained on" in page
    assert "byte (yours)" in page
    assert face(show_token(tokenizer, other.ids[0])) == "T"
