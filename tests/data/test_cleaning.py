import pytest
from ftfy.badness import is_bad
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.data.cleaning import clean, looks_wrongly_decoded, replace_surrogates

CONTROLS = [*map(chr, (*range(8), *range(11, 13), *range(14, 27), *range(28, 32), 127))]


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        *(
            (f"ab{control}cd {control}ef{control}{control}\n{control}gh{control}", "ab cd ef\ngh")
            for control in CONTROLS
        ),
        ("one\x0c\x0btwo\x1c\x1dthree\x00\x00four", "one two three four"),
        ("page 1\n\x0c\npage 2", "page 1\n\npage 2"),
        ("plain \x1b[31mred\x1b[0m, \x1b[1;38;5;208mor\x1b[mange\x1b[K", "plain red, orange"),
        ("un\x1b[1mbeliev\x1b[22mable\x1b[?25l\x1b[2 q\x1b[38:2::1:2:3m!", "unbelievable!"),
        ("\x1b]0;user@host: ~\x07$ ls\x1b]2;title\x1b\\ -l", "$ ls -l"),
        ("see \x1b]8;id=1;https://example.org/é\x1b\\the page\x1b]8;;\x1b\\.", "see the page."),
        ("\x1bP1$r0m\x1b\\a\x1b(Bb\x1b=c\x1b>d\x1b#8e\x1bMf\x1b7g\x1b^private\x1b\\h\x1b_app\x07i", "abcdefghi"),
        ("c1 \x9b31mred\x9b0m \x9d0;title\x9ctext", "c1 red text"),
        ("cut \x1b[31", "cut "),
        ("never ended \x1b]0;title\nnext line", "never ended 0;title\nnext line"),
        ("N\x08NA\x08A\x08AM\x08ME\x08E _\x08f_\x08i_\x08l_\x08e e\x08_ _\x08_", "NAME file e _"),
        ("é\x08é_\x08ä\x08ä a\x08b", "éä a b"),
        ("tabs\tand\nnewlines stay", "tabs\tand\nnewlines stay"),
        ("She said â€œlook!â€\x9d again", "She said “look!” again"),
        ("cafÃ© au lait", "café au lait"),
        ("sound line é\nbroken line schÃ¶n\n", "sound line é\nbroken line schön\n"),
        ("c1 \x85 control", "c1 … control"),
    ],
)
def test_what_is_broken_is_mended(dirty, expected):
    assert clean(dirty) == expected


@pytest.mark.parametrize(
    "text",
    [
        "“quotes” ‘stay’ — so do dashes…",
        "ligatures ﬁ ﬂ, full width ＡＢＣ１２３, entities &amp; &lt;b&gt; &eacute;",
        "decomposed e\u0301 and composed \u00e9, no-break\u00a0space, zero\u200bwidth, \ufeff",
        's = "\\x80\\x93 \\u2019"  # ÀÉ: "²³" × 5 ° ½',
        "Съешь же ещё этих «мягких» булок. Ελληνικά. 漢字かな交じり文。 العربية",
        "L'œuvre «complète» coûte 5 €, à Orléans.",
        "def f(x):\n\treturn {'a': x ** 2}  # ±∞ ≠ √2\n",
        "│ box │ drawing │\n└───────┘",
        "👩‍👩‍👧 🏳️‍🌈",
        "\n\n  leading and trailing space stays  \n\n",
    ],
)
def test_sound_text_comes_back_as_it_is(text):
    assert clean(text) == text


@given(
    st.text(
        alphabet=st.sampled_from(
            "aZ é à â ã Ã Â € œ ° ² Œ ‚ ™ “ ” ’ « » Ђ вВЂГ \x80\x99 ñ ß │ √ ≈ ÿ ¬ 字 �".replace(" ", "") + "   "
        ),
        max_size=12,
    )
)
@settings(deadline=None, max_examples=2000)
def test_the_quick_look_misses_nothing_that_ftfy_sees(text):
    assert looks_wrongly_decoded(text) == is_bad(text)


@given(st.text())
@settings(deadline=None)
def test_cleaning_twice_changes_nothing_more_and_leaves_no_control_characters(text):
    once = clean(replace_surrogates(text))
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in once)
    once.encode()


def test_lone_surrogates_become_replacement_characters():
    assert replace_surrogates("a\ud800b") == "a\ufffdb"
    assert replace_surrogates("\ud83d\ude00") == "😀"


@pytest.mark.parametrize(
    "part", ["\x00", "\x1b", "\x1b[", "\x1b]", "\x1b]x", "_\x08", "a\x08", "\x1b(", "\x08", " \x00"]
)
def test_the_work_is_proportional_to_the_text(part):
    """Patterns that go back over a text of 300,000 characters for each of its parts would not end."""
    for end in ("", "\n", " x", "x"):
        assert len(clean(part * (300_000 // len(part)) + end)) <= 300_000
