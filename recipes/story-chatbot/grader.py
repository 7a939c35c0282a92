"""How good an answer about a story is: the words that it shares with the reference answer."""

import re
from collections import Counter

ARTICLES = {"a", "an", "the"}


def grade(example: dict, answer: str) -> dict:
    """The F1 of words; several reference answers may be given. Part: whether the answer's words stand in the story."""
    said, story = words(answer), set(words(example.get("context", "")))
    references = [example[name] for name in ("answer", "answer_b") if example.get(name)]
    best = max((overlap(said, words(text)) for text in references), default=0.0)
    return {"score": best, "parts": {"in_story": sum(word in story for word in said) / max(1, len(said))}}


def words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.casefold()) if word not in ARTICLES]


def overlap(said: list[str], wanted: list[str]) -> float:
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0
