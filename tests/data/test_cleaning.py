import pytest
from ftfy.badness import is_bad
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.data.cleaning import clean, looks_wrongly_decoded, replace_surrogates


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("a\x00b\x07c\x0cd\x7fe", "abcde"),
        ("\x1b[31mred\x1b[0m", "red"),
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
