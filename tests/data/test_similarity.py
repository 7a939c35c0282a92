import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.data.similarity import SLOTS, _sequences, signatures


def sequences_in_plain_python(text):
    words = re.findall(rb"[\xe0-\xff]?[A-Za-z0-9_\x80-\xdf]+|[^\s\x00-\x1f\x7f]", text)
    return [tuple(words[place : place + 5]) for place in range(max(len(words) - 4, min(len(words), 1)))]


@given(st.lists(st.text(alphabet="ab Zé_0.,!字\n-", max_size=40), max_size=5))
@settings(deadline=None, max_examples=300)
def test_one_hash_for_each_sequence_of_five_words_of_each_text(texts):
    encoded = [text.encode() for text in texts]
    if not encoded:
        return
    hashes, offsets = _sequences(encoded)
    expected = [sequences_in_plain_python(text) for text in encoded]
    found = [hashes[start:end].tolist() for start, end in pairwise(offsets)]
    assert [len(part) for part in found] == [len(part) for part in expected]
    names = {}
    for ours, theirs in zip(found, expected, strict=True):
        for value, sequence in zip(ours, theirs, strict=True):
            assert names.setdefault(value, sequence) == sequence  # equal hashes only for equal sequences
    assert len(names) == len({sequence for part in expected for sequence in part})


@pytest.mark.parametrize("changed", [0, 3, 10, 40])
def test_signatures_estimate_the_jaccard_similarity(changed):
    words = [f"w{number}" for number in range(1000)]
    other = [f"x{number}" if number < changed * 20 and number % 20 == 0 else word for number, word in enumerate(words)]
    a, b = " ".join(words).encode(), " ".join(other).encode()
    left, right = set(sequences_in_plain_python(a)), set(sequences_in_plain_python(b))
    rows = signatures([a, b])
    assert rows.shape == (2, SLOTS)
    assert np.mean(rows[0] == rows[1]) == pytest.approx(len(left & right) / len(left | right), abs=0.15)


def test_the_signature_of_a_whole_is_the_minimum_of_its_parts(stories):
    parts = [text.encode() for text in stories(3, words=40)]
    # Cut between words, with the four words before repeated, so that parts and whole have the same sequences.
    joined = b" ".join(parts)
    words = joined.split()
    halves = [b" ".join(words[:60]), b" ".join(words[56:])]
    whole, first, second = signatures([joined, *halves])
    assert (np.minimum(first, second) == whole).all()


def test_space_does_not_count_but_marks_and_case_do():
    same = signatures([b"a b c d e f g", b"a  b\nc d\te f g "])
    assert (same[0] == same[1]).all()
    other = signatures([b"=SUM(A1:A3)", b"=SUM(A1,A3)", b"=sum(A1:A3)"])
    assert np.mean(other[0] == other[1]) < 0.8
    assert np.mean(other[0] == other[2]) < 0.8
