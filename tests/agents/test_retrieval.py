"""Finding passages in notes."""

import pytest

from tinyslm.agents.retrieval import CHARACTERS, LINES, Notes, passages, retrieve_tool, words
from tinyslm.core.errors import TinyslmError

TEXTS = {
    "garden.md": "# Garden\n\nTomatoes need sun.\n\n# Tools\n\nThe spade stands in the shed.\n",
    "prices.txt": "Spades cost 30 euros.\nA rake costs 20 euros.\n",
    "cafe.md": "# Café\n\nOpen from nine.\n",
}


@pytest.fixture
def notes_folder(tmp_path):
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_best_passage_comes_first_with_its_place(notes_folder):
    notes = Notes.read(notes_folder)
    best, *_ = notes.search("Where does the spade stand?")
    assert (best.file, best.line) == ("garden.md", 7)
    assert best.text == "# Tools\nThe spade stands in the shed."
    assert [one.file for one in notes.search("what does a rake cost")] == ["prices.txt"]


def test_plurals_accents_and_file_names_are_found():
    notes = Notes.of(TEXTS)
    assert notes.search("tomato's garden")[0].file == "garden.md"
    assert notes.search("the cafe opening")[0].file == "cafe.md"
    assert notes.search("price")[0].file == "prices.txt"
    assert words("Prices of glass, CAFÉS") == ["price", "of", "glass", "cafe"]


def test_nothing_is_made_up():
    notes = Notes.of(TEXTS)
    assert notes.search("submarine") == []
    assert notes.search("") == []
    assert Notes.of({}).search("spade") == Notes.of({"x": "--"}).search("spade") == []
    assert len(notes.search("the a spade cost open", 2)) == 2


def test_rare_words_weigh_more_than_frequent_ones():
    texts = {f"{number}": f"common word number {number}" for number in range(20)} | {"x": "rare thing"}
    assert Notes.of(texts).search("common rare")[0].file == "x"


def test_scores_are_BM25():
    """By hand, for two passages of the same length: ln(1 + 1.5 / 1.5) / 2.2 for a word in one of them."""
    notes = Notes.of({"1": "apple pear", "2": "plum cherry"})
    assert notes.search("apple")[0].score == pytest.approx(0.6931 / 2.2, abs=1e-4)


def test_passages_cover_every_line_and_stay_short():
    text = "# Head\n" + "\n".join(f"line {number} of many" for number in range(100)) + "\n\n## Empty\n"
    pieces = list(passages("f", text))
    found = "\n".join(piece.text for piece in pieces)
    assert all(f"line {number} of many" in found for number in range(100))
    assert "## Empty" in found
    assert all(len(piece.text.splitlines()) <= LINES + 1 and len(piece.text) <= CHARACTERS + 50 for piece in pieces)
    lines = text.splitlines()
    for piece in pieces:
        assert lines[piece.line - 1].strip() in piece.text


def test_what_is_not_read(notes_folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.md").write_text("spade SECRET")
    (notes_folder / "link.md").symlink_to(outside / "secret.md")
    (notes_folder / "linked").symlink_to(outside)
    (notes_folder / ".git").mkdir()
    (notes_folder / ".git/x.txt").write_text("spade")
    (notes_folder / "image.png").write_bytes(b"spade")
    (notes_folder / "binary.txt").write_bytes(b"spade\0")
    files = {one.file for one in Notes.read(notes_folder).passages}
    assert files == set(TEXTS)


def test_the_tool(notes_folder):
    tool = retrieve_tool(notes_folder)
    assert tool("spade in the shed", count=1) == "[garden.md:7]\n# Tools\nThe spade stands in the shed."
    assert tool("submarine") == "Nothing found."


def test_a_folder_without_notes(tmp_path):
    with pytest.raises(TinyslmError, match="no notes"):
        Notes.read(tmp_path)
    with pytest.raises(TinyslmError, match="no folder"):
        Notes.read(tmp_path / "missing")
