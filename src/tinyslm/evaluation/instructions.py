"""Verifiable instructions of IFEval (Zhou et al., 2023, arXiv 2311.07911), and their grader.

Names, arguments and rules follow the paper's strict accuracy. Sentence splitting and language detection use our own
rules, so number_sentences and response_language can differ from the paper's in rare cases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.registry import Registry
from tinyslm.data.languages import language_of
from tinyslm.evaluation.graders import GRADERS, Example, Grade

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]

INSTRUCTIONS: Registry[Check] = Registry("instruction")
"""By the instruction's published name: a function that returns whether an answer follows it with these arguments."""

CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_ABBREVIATIONS = re.compile(r"\b(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|fig|jr|sr|[a-z])\.$", re.IGNORECASE)


@GRADERS.register("instructions")
def instructions(example: Example, answer: str) -> Grade:
    """The answer follows all of the example's "instructions"; "kwargs" lists their arguments in the same order.

    The part "instruction" is the share of instructions that the answer follows.
    """
    names, given = example.get("instructions"), example.get("kwargs")
    if not isinstance(names, list) or not isinstance(given, list) or len(names) != len(given) or not names:
        raise TinyslmError(
            'An example\'s "instructions" and "kwargs" are not lists of the same length.',
            "Give one object of arguments for each instruction.",
        )
    followed = []
    for name, arguments in zip(names, given, strict=True):
        check = INSTRUCTIONS[str(name)]
        try:
            followed.append(bool(answer.strip()) and check(answer, arguments or {}))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TinyslmError(
                f"The arguments of {name} are not valid: {arguments!r:.100} ({error}).", "Correct the example."
            ) from None
    return Grade(float(all(followed)), {"instruction": sum(followed) / len(followed)})


def _related(count: int, relation: str, wanted: int) -> bool:
    if relation not in ("less than", "at least"):
        raise ValueError(f"the relation {relation!r}")
    return count < wanted if relation == "less than" else count >= wanted


@INSTRUCTIONS.register("keywords:existence")
def _existence(answer: str, given: Arguments) -> bool:
    return all(re.search(re.escape(word), answer, re.IGNORECASE) for word in given["keywords"])


@INSTRUCTIONS.register("keywords:frequency")
def _frequency(answer: str, given: Arguments) -> bool:
    count = len(re.findall(re.escape(given["keyword"].strip()), answer, re.IGNORECASE))
    return _related(count, given["relation"], given["frequency"])


@INSTRUCTIONS.register("keywords:forbidden_words")
def _forbidden(answer: str, given: Arguments) -> bool:
    words = given["forbidden_words"]
    return not any(re.search(rf"\b{re.escape(word)}\b", answer, re.IGNORECASE) for word in words)


@INSTRUCTIONS.register("keywords:letter_frequency")
def _letters(answer: str, given: Arguments) -> bool:
    count = answer.lower().count(given["letter"].lower())
    return _related(count, given["let_relation"], given["let_frequency"])


@INSTRUCTIONS.register("language:response_language")
def _language(answer: str, given: Arguments) -> bool:
    return language_of(answer) in (given["language"], None)


@INSTRUCTIONS.register("length_constraints:number_sentences")
def _sentences(answer: str, given: Arguments) -> bool:
    return _related(count_sentences(answer), given["relation"], given["num_sentences"])


@INSTRUCTIONS.register("length_constraints:number_paragraphs")
def _paragraphs(answer: str, given: Arguments) -> bool:
    """Paragraphs are separated by ***; a separator may also precede the first and follow the last one."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", answer)]
    inner = parts[1 if not parts[0] else 0 : len(parts) - (not parts[-1])]
    return all(inner) and len(inner) == int(given["num_paragraphs"])


@INSTRUCTIONS.register("length_constraints:number_words")
def _words(answer: str, given: Arguments) -> bool:
    return _related(len(re.findall(r"\w+", answer)), given["relation"], given["num_words"])


@INSTRUCTIONS.register("length_constraints:nth_paragraph_first_word")
def _first_word(answer: str, given: Arguments) -> bool:
    """Empty lines separate paragraphs. As published, nth_paragraph counts empty ones, num_paragraphs does not."""
    parts = [part.strip() for part in answer.split("\n\n")]
    place = int(given["nth_paragraph"])
    count = sum(bool(part) for part in parts)
    if count != int(given["num_paragraphs"]) or not 1 <= place <= count or not parts[place - 1]:
        return False
    word = re.split(r"[.,?!'\"]", parts[place - 1].split()[0].lstrip("'").lstrip('"'), maxsplit=1)[0]
    return word.lower() == str(given["first_word"]).lower()


@INSTRUCTIONS.register("detectable_content:number_placeholders")
def _placeholders(answer: str, given: Arguments) -> bool:
    return len(re.findall(r"\[.*?\]", answer)) >= int(given["num_placeholders"])


@INSTRUCTIONS.register("detectable_content:postscript")
def _postscript(answer: str, given: Arguments) -> bool:
    marker = given["postscript_marker"]
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return bool(re.search(known.get(marker, re.escape(marker.lower())), answer.lower()))


@INSTRUCTIONS.register("detectable_format:number_bullet_lists")
def _bullets(answer: str, given: Arguments) -> bool:
    stars = re.findall(r"^\s*\*[^*].*$", answer, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", answer, re.MULTILINE)
    return len(stars) + len(dashes) == int(given["num_bullets"])


@INSTRUCTIONS.register("detectable_format:constrained_response")
def _constrained(answer: str, _given: Arguments) -> bool:
    return any(text in answer for text in CONSTRAINED)


@INSTRUCTIONS.register("detectable_format:number_highlighted_sections")
def _highlights(answer: str, given: Arguments) -> bool:
    single = [text for text in re.findall(r"\*([^\n*]*)\*", answer) if text.strip()]
    double = [text for text in re.findall(r"\*\*([^\n*]*)\*\*", answer) if text.strip()]
    return len(single) + len(double) >= int(given["num_highlights"])


@INSTRUCTIONS.register("detectable_format:multiple_sections")
def _sections(answer: str, given: Arguments) -> bool:
    marks = re.findall(rf"\s?{re.escape(given['section_spliter'].strip())}\s?\d+\s?", answer)
    return len(marks) >= int(given["num_sections"])


@INSTRUCTIONS.register("detectable_format:json_format")
def _json(answer: str, _given: Arguments) -> bool:
    inner = re.sub(r"^```(?:json)?|```$", "", answer.strip(), flags=re.IGNORECASE)
    try:
        json.loads(inner.strip())
    except (ValueError, RecursionError):
        return False
    return True


@INSTRUCTIONS.register("detectable_format:title")
def _title(answer: str, _given: Arguments) -> bool:
    return any(text.strip("<> ") for text in re.findall(r"<<[^\n]+>>", answer))


@INSTRUCTIONS.register("combination:two_responses")
def _two_responses(answer: str, _given: Arguments) -> bool:
    """Two different answers with six asterisks between them."""
    parts = [part.strip() for part in answer.split("******")]
    inner = parts[1 if not parts[0] else 0 : len(parts) - (not parts[-1])]
    return len(inner) == 2 and all(inner) and inner[0] != inner[1]


@INSTRUCTIONS.register("combination:repeat_prompt")
def _repeat(answer: str, given: Arguments) -> bool:
    return answer.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


@INSTRUCTIONS.register("startend:end_checker")
def _end(answer: str, given: Arguments) -> bool:
    return answer.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


@INSTRUCTIONS.register("startend:quotation")
def _quotation(answer: str, _given: Arguments) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


@INSTRUCTIONS.register("change_case:capital_word_frequency")
def _capital_words(answer: str, given: Arguments) -> bool:
    count = sum(word.isupper() for word in re.findall(r"\w+(?:[-'’]\w+)*", answer))
    return _related(count, given["capital_relation"], given["capital_frequency"])


@INSTRUCTIONS.register("change_case:english_capital")
def _all_capital(answer: str, _given: Arguments) -> bool:
    return answer.isupper() and language_of(answer) in ("en", None)


@INSTRUCTIONS.register("change_case:english_lowercase")
def _all_lowercase(answer: str, _given: Arguments) -> bool:
    return answer.islower() and language_of(answer) in ("en", None)


@INSTRUCTIONS.register("punctuation:no_comma")
def _no_comma(answer: str, _given: Arguments) -> bool:
    return "," not in answer


def count_sentences(text: str) -> int:
    """Count sentences: each ends at the end of the text, or at ".", "?" or "!" before white space."""
    count = start = 0
    for mark in re.finditer(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]", text):
        if not _ABBREVIATIONS.search(text[start : mark.end()]):
            count += bool(re.search(r"\w", text[start : mark.end()]))
            start = mark.end()
    return count + bool(re.search(r"\w", text[start:]))
