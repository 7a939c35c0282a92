"""From text to tokens: bytes, merges, the kinds of tokenizers, and what a vocabulary costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.page import Block, Folded, Paragraph, Section, Table
from tinyslm.core.printable import printable
from tinyslm.core.quantities import count
from tinyslm.course.blocks import Formula, Widget
from tinyslm.course.chapter import Chapter
from tinyslm.course.subject import Subject
from tinyslm.inspection.merging import learn_merges, merging, rules_of
from tinyslm.inspection.pieces import KindLegend, KindPieces
from tinyslm.model.sizing import table_parameters
from tinyslm.tokenizer.kinds import KINDS
from tinyslm.tokenizer.shown import Token, face, show_token
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer, train_tokenizers
from tinyslm.tokenizer.vocabulary import split_of

LEARNED, SHOWN = 30, 8
"""Merges that the page learns, and pairs that it lists for each."""
SMALL, LEAST = 1024, 576
"""Tokens of the tokenizers that are trained for a comparison; LEAST: those of the smallest WordPiece."""
SIZES = (320, 512, 1024, 2048, 4096)
MOST_RULES = 20_000
"""Merges that a page can hold for texts that the reader types."""
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPELLED = "'(?:[sSſ]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
"""The same for browsers, of which older ones have no (?i:...)."""
EVERY = 5
"""Every fifth text is held out to measure the tokenizers; they are trained on the others."""


def _blocks(subject: Subject) -> Iterator[Block]:
    yield KindLegend()
    yield Section("A text is a list of numbers", tuple(_ids(subject)))
    yield Section("Merges, one by one", tuple(_merges(subject)))
    yield Section("Where the merges come from", tuple(_learning(subject)))
    yield Section("Five kinds of tokenizers", tuple(_kinds(subject)))
    yield Section("What a vocabulary costs", tuple(_costs(subject)))
    yield Section("Small changes to a word", tuple(_changes(subject)))


def _ids(subject: Subject) -> Iterator[Block]:
    tokens, text = subject.tokens, subject.text
    size = len(text.encode("utf-8", "replace"))
    yield Paragraph(
        "A model computes with numbers. A tokenizer therefore splits a text into pieces from a fixed list, the "
        "vocabulary, and replaces each piece by its index in that list, the id. The vocabulary of your model has "
        f"{subject.tokenizer.vocab_size:,} pieces, called tokens. Your sentence has {len(text):,} characters, which "
        f"are {size:,} bytes in UTF-8, and {len(tokens)} tokens. A dot stands for a space."
    )
    yield KindPieces(tokens)
    first = ", ".join(map(str, subject.ids[:8])) + (", ..." if len(tokens) > 8 else "")
    yield Formula(((f"ids = encode(text) = [{first}]", f"whole numbers, shape [t] = [{len(tokens)}]"),))
    rows = [(str(place), face(one), str(one.id), _bytes(subject, one)) for place, one in enumerate(tokens, 1)]
    yield Folded("All tokens of the sentence", (Table(rows, ("position", "token", "id", "bytes")),))
    if subject.tokenizer.start_ids:
        yield Paragraph(
            "The first token is not part of your text: the model expects it at the beginning of every text."
        )


def _merges(subject: Subject) -> Iterator[Block]:
    steps, tokenizer = merging(subject.tokenizer, subject.text), subject.tokenizer
    if steps is None:
        kind = tokenizer.kind
        yield Paragraph(
            f"The tokenizer of your model is of the kind {kind}"
            + (f" ({KINDS[kind].about})." if kind in KINDS else ".")
            + " Merges alone do not make its tokens. The most common kind, byte-pair encoding (BPE), begins with single"
            " bytes and merges neighbours. Here, one is trained on "
            f"{count(sum(map(len, subject.texts)))} characters of {_source(subject)}."
        )
        tokenizer = _trained("bpe", subject.texts, SMALL)
        steps = merging(tokenizer, subject.text)
    else:
        begin = (
            "single bytes: 256 tokens are enough for every text."
            if tokenizer.table.byte_level
            else "single characters; one that the vocabulary lacks is spelled in bytes."
        )
        yield Paragraph(
            f"Your model's tokenizer is of the most common kind, byte-pair encoding (BPE). It begins with {begin} Then "
            "it applies merges, each of which makes one token of two neighbours."
        )
    assert steps is not None, "BPE has merges"
    yield Paragraph(
        f"The tokenizer has a list of {steps.known:,} merges, in the order in which they were learned. For your "
        f"sentence, {len(steps.merges)} of them are needed. "
        + (
            "The sentence is first split into words, with the space before each; no merge crosses a word boundary. "
            if len(steps.words) > 1
            else ""
        )
        + "Move the slider to apply the merges one after another."
    )
    used = {one for word in steps.words for one in word} | {one.token for one in steps.merges}
    rules = _rules(tokenizer)
    if rules:
        yield Paragraph("Or type another text: the page tokenizes it with the same list of merges.")
        used |= {*rules["bytes"], *(one[2] for one in rules["merges"])}
    data = {
        "words": steps.words,
        "merges": [(one.rank, one.left, one.right, one.token, one.places) for one in steps.merges],
        "faces": {str(one): face(show_token(tokenizer, one)) for one in used},
        "known": steps.known,
        "rules": rules,
    }
    yield Widget("merges", data, "The merges of your sentence")


def _rules(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """The tokenizer's rules for a script; `None` if it has others than merges, or too many for a page."""
    rules = rules_of(tokenizer)
    if rules is None or len(rules.merges) > MOST_RULES:
        return None
    split = rules.split.replace(CONTRACTIONS, SPELLED)
    for name, same in ((r"\s", r"\p{White_Space}"), (r"\S", r"\P{White_Space}")):
        split = split.replace(name, same)
    return {"split": split, "bytes": rules.bytes, "merges": rules.merges}


def _learning(subject: Subject) -> Iterator[Block]:
    steps = learn_merges(subject.texts, split_of("three"), LEARNED, SHOWN)
    yield Paragraph(
        "The list of merges is learned from a text before the model is trained. Count all pairs of neighbours in the "
        "text; merge the most frequent pair everywhere; count again; and so on until the vocabulary has the desired "
        f"size. Here are the first {len(steps)} merges learned from {count(sum(map(len, subject.texts)))} characters "
        f"of {_source(subject)}."
    )
    if not steps:
        return
    first = steps[0][0]
    yield Formula(
        (
            ("merge = the pair (a, b) with the largest count(a b)", "counted over all words of the text"),
            (
                f"count({_written(first.left)} {_written(first.right)}) = {first.count:,}",
                f"the largest count: {_written(first.left + first.right)} becomes the first new token, with id 256",
            ),
        )
    )
    data = [[(_written(one.left), _written(one.right), one.count) for one in pairs] for pairs in steps]
    yield Widget("learning", data, "The most frequent pairs at each step")


def _kinds(subject: Subject) -> Iterator[Block]:
    yield Paragraph(
        "Byte-pair encoding is one of the five kinds of tokenizers that tinyslm trains. WordPiece takes the longest "
        "known piece from the left; Unigram chooses the most probable of all segmentations of a word; char and byte "
        "have one token for each character or byte. This is your sentence in all five: "
        f"{'your own tokenizer, and the others' if subject.tokenizer.kind in KINDS else 'each'} "
        f"trained on {_source(subject)}."
    )
    train, measured = _halves(subject.texts)
    measured_bytes = sum(len(text.encode("utf-8", "replace")) for text in measured)
    dim, rows, cuts = subject.model.config.dim, [], []
    for kind in KINDS:
        own = kind == subject.tokenizer.kind
        made = subject.tokenizer if own else _trained(kind, train, _small(subject))
        ids = made.encode(subject.text)
        length = measured_bytes / max(1, sum(map(len, made.encode_batch(measured))))
        name = f"{kind} (yours)" if own else kind
        rows.append(
            (
                name,
                f"{made.vocab_size:,}",
                str(len(ids)),
                f"{length:.2f}",
                count(made.vocab_size * dim),
            )
        )
        cuts.append(
            KindPieces([show_token(made, one) for one in ids], f"{name}, {KINDS[kind].about}: {len(ids)} tokens")
        )
    yield from cuts
    header = ("kind", "vocabulary", "tokens of the sentence", "bytes per token", "parameters of the table")
    yield Table(rows, header)
    yield Paragraph(
        "Bytes per token are measured on text that the small tokenizers were not trained on. More bytes per token mean "
        f"shorter sequences. The table has one row of {dim} numbers, the width of your model, for each token."
    )


def _costs(subject: Subject) -> Iterator[Block]:
    config, tokens = subject.model.config, len(subject.ids)
    table, total = table_parameters(config), sum(one.numel() for one in subject.model.parameters())
    size = len(subject.text.encode("utf-8", "replace"))
    each = "one table, read at the input and at the output" if config.tied else "two tables, input and output"
    yield Paragraph(
        "A large vocabulary gives short sequences and a large embedding table; a small vocabulary gives the opposite. "
        "Both have a cost: parameters in the table are not available for the layers, and a long sequence takes time, "
        "because every token passes through all layers and is compared with all tokens before it."
    )
    yield Formula(
        (
            (
                f"table = vocabulary x dim{'' if config.tied else ' x 2'} = {config.vocab_size:,} x {config.dim}"
                f"{'' if config.tied else ' x 2'} = {table:,}",
                f"{each}: {100 * table / total:.1f} % of your model's {count(total)} parameters",
            ),
            (
                f"pairs = t (t + 1) / 2 = {tokens} x {tokens + 1} / 2 = {tokens * (tokens + 1) // 2:,}",
                f"compared by each head of each layer for your sentence; with one token for each byte, it would be "
                f"{size * (size + 1) // 2:,}",
            ),
        )
    )
    yield Widget("vocabularies", _vocabularies(subject, total - table), "The size of the vocabulary")


def _vocabularies(subject: Subject, blocks: int) -> dict[str, Any]:
    """Your sentence and the costs for vocabularies of several sizes, in a model with `blocks` parameters in layers."""
    config, (train, measured) = subject.model.config, _halves(subject.texts)
    size = sum(len(text.encode("utf-8", "replace")) for text in measured)
    rows = []
    for made in train_tokenizers(train, SIZES).values():
        ids = made.encode(subject.text)
        rows.append(
            {
                "size": made.vocab_size,
                "faces": [face(show_token(made, one)) for one in ids],
                "length": size / max(1, sum(map(len, made.encode_batch(measured)))),
                "table": table_parameters(config.model_copy(update={"vocab_size": made.vocab_size})),
            }
        )
    return {"rows": rows, "blocks": blocks, "context": config.context}


def _changes(subject: Subject) -> Iterator[Block]:
    """The longest word of the sentence, written in other ways."""
    words = [word for word in subject.text.split() if word.isalpha()] or ["word"]
    word = max(words, key=len).lower()
    forms = (
        ("within a text", f" {word}"),
        ("at the beginning", word),
        ("capitalized", f" {word.capitalize()}"),
        ("in upper case", f" {word.upper()}"),
        ("in quotes", f' "{word}"'),
        ("misspelled", f" {word[0]}{word[2:3]}{word[1:2]}{word[3:]}"),
    )
    rows = []
    for name, form in forms:
        ids = subject.tokenizer.encode(form)
        faces = " | ".join(face(show_token(subject.tokenizer, one)) for one in ids)
        rows.append((name, faces, str(len(ids)), ", ".join(map(str, ids[:12])) + (", ..." if len(ids) > 12 else "")))
    yield Paragraph(
        "The model does not see letters. Two spellings of a word have different ids, and the model must learn from "
        "text that they are related. This is how your tokenizer splits a word of your sentence:"
    )
    yield Table(rows, (f'"{word}"', "tokens", "count", "ids"))


def _halves(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The texts to train a tokenizer on, and those to measure."""
    measured = list(texts[::EVERY])
    return [text for number, text in enumerate(texts) if number % EVERY] or measured, measured


def _trained(kind: str, texts: Sequence[str], size: int) -> Tokenizer:
    """A tokenizer of this size, or of what the texts support."""
    try:
        return train_tokenizer(texts, kind=kind, vocab_size=size)
    except TinyslmError:
        return train_tokenizer(texts, kind=kind)


def _small(subject: Subject) -> int:
    return min(SMALL, max(LEAST, subject.tokenizer.vocab_size))


def _source(subject: Subject) -> str:
    return "the text that your model learned from" if subject.has_data else "the Python standard library"


def _bytes(subject: Subject, token: Token) -> str:
    piece = subject.tokenizer.token_bytes(token.id)
    return piece.hex(" ").upper() if token.kind != "special" else "none: a special token"


def _written(piece: bytes) -> str:
    """Some bytes as the pages write a token."""
    try:
        return face(Token(0, printable(piece.decode("utf-8")), "text"))
    except UnicodeDecodeError:
        return face(Token(0, piece.hex(" ").upper(), "bytes"))


TOKENS = Chapter(
    "Text to tokens",
    "How your sentence becomes a list of numbers, merge by merge, and what a vocabulary costs.",
    lambda subject: list(_blocks(subject)),
    ("tokens.js",),
    ("tokens.css",),
)
