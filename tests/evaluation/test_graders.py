"""Graders: right answers get 1, wrong ones 0, and what an answer or a user's grader does ends with it."""

import json
import os
import textwrap
import time
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.core.worker import Limits, Worker
from tinyslm.data.languages import LANGUAGES, language_of
from tinyslm.evaluation import graders
from tinyslm.evaluation.graders import GRADERS, Grade, field_f1, find_grader, first_json, last_number, python_code
from tinyslm.evaluation.instructions import INSTRUCTIONS, count_sentences

OVER = {"keyword": "a", "relation": "over", "frequency": 1}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("grader", "example", "right", "wrong"),
    [
        ("exact", {"answer": "Paris"}, [" Paris\n"], ["paris", "Paris.", ""]),
        ("exact", {"answer": ["4", "four"]}, ["four", "4"], ["5"]),
        ("normalized", {"answer": "New York"}, ["new  york.", '"New York"'], ["York"]),
        ("contains", {"answer": "art"}, ["It is art.", "ART"], ["It is a party."]),
        ("regex", {"pattern": r"^\d+ km$"}, ["12 km"], ["12 km away", "km"]),
        (
            "numeric",
            {"answer": "1,234.5"},
            ["It is 1234.5", "1 + 2 = 1,234.50.", "#### 1234.5 (not 7)"],
            ["1,234", "x"],
        ),
        ("numeric", {"answer": -3}, ["5 - 8 = -3", "−3"], ["8-3", "3", "-30"]),
        ("numeric", {"answer": 10, "tolerance": 0.5}, ["10.4", "9.5"], ["10.6"]),
        ("json", {"schema": SCHEMA}, ['{"n": 1}', 'Here {is} it: {"n": 2} Done.'], ['{"n": "1"}', "{n: 1}", "n"]),
        ("json", {"answer": {"n": 1, "s": "A b"}}, ['```json\n{"s": "a  B", "n": 1.0}\n```'], ['{"m": 1}', "[1]"]),
        ("json", {"answer": '{"ok": true}'}, ['{"ok": true}'], ['{"ok": 1}', '{"ok": "true"}', '{"ok": null}']),
        ("python", {"test": "assert f(2) == 4"}, ["def f(x):\n    return 2 * x"], ["f = 3", "def f(x:", "", "exit()"]),
        (
            "python",
            {"entry": "def f(x):\n", "test": "assert f(2) == 4"},
            ["    return x + x\n", "Sure:\n```python\n    return 2 * x\n```\nDone."],
            ["    return x\n"],
        ),
    ],
)
def test_right_answers_get_one_and_wrong_ones_zero(grader, example, right, wrong) -> None:
    for answer in right:
        assert GRADERS[grader](example, answer).score == 1, answer
    for answer in wrong:
        assert GRADERS[grader](example, answer).score == 0, answer


def test_fields_that_are_right_count() -> None:
    assert field_f1({"a": 1, "b": [1, 2]}, {"a": 1, "b": [2, 3]}) == pytest.approx(2 / 3)
    assert field_f1({"a": {"b": None}}, {"a": {"b": None}, "c": []}) == pytest.approx(2 / 3)
    assert field_f1([1, 1], [1]) == pytest.approx(2 / 3)
    assert field_f1({}, {}) == 1
    grade = GRADERS["json"]({"answer": {"a": 1, "b": 2}}, '{"a": 1, "b": 3}')
    assert (grade.score, grade.parts) == (0.5, {"valid": 1.0, "equal": 0.0})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3, 4 and 5", 5),
        ("12-5=7 and -2.5e3", -2500),
        ("The answer is 8, since 4 + 4 = 8 < 9.", 8),
        ("Answer: 5\nQuestion 7: 6. Answer: .5", 0.5),
        ("$1,000,000", 1e6),
        ("1,2,3", 3),
        ("none", None),
        ("1e999", None),
    ],
)
def test_the_number_that_a_text_comes_to(text: str, number: float | None) -> None:
    assert last_number(text) == number


def test_code_and_json_in_answers() -> None:
    assert python_code("Text\n```py\na = 1\n```\n```\nb\n```") == "a = 1\n"
    assert python_code("a = 1") == "a = 1"
    assert first_json('{{"a": {"b": 1}} x') == '{"a": {"b": 1}}'
    assert first_json("[1]") == "[1]"


@pytest.mark.parametrize(
    ("grader", "example", "answer", "problem"),
    [
        ("exact", {}, "x", 'no field "answer"'),
        ("regex", {"pattern": "("}, "x", "not a regular expression"),
        ("numeric", {"answer": "many"}, "3", "no number"),
        ("json", {"answer": "{"}, "{}", "not JSON"),
        ("json", {"schema": {"type": "objekt"}}, "{}", "schema is not valid"),
        ("python", {"test": "assert ("}, "x", "not valid Python"),
        ("instructions", {"instructions": ["punctuation:no_comma"], "kwargs": []}, "x", "the same length"),
        ("instructions", {"instructions": ["startend:quote"], "kwargs": [{}]}, "x", "startend:quote"),
        ("instructions", {"instructions": ["startend:end_checker"], "kwargs": [{}]}, "x", "startend:end_checker"),
        ("instructions", {"instructions": ["keywords:frequency"], "kwargs": [OVER]}, "x", "the relation 'over'"),
    ],
)  # fmt: skip
def test_mistakes_of_examples_are_named(grader, example, answer, problem) -> None:
    with pytest.raises(TinyslmError, match=problem):
        GRADERS[grader](example, answer)


def test_unknown_graders() -> None:
    with pytest.raises(TinyslmError) as caught:
        find_grader("numerik")
    assert 'Did you mean "numeric"?' in caught.value.remedy
    for name in ("mine.py", "mine.py:grade"):
        with pytest.raises(TinyslmError, match=r"mine\.py"):
            find_grader(name, Path("/nowhere"))
    with pytest.raises(TinyslmError, match="score 2"):
        Grade(2)


# Executed answers.

HOSTILE = {
    "memory": "x = [0] * (1 << 40)",
    "exit": "import os; os._exit(0)",
    "signal": "import os; os.kill(os.getpid(), 9)",
    "the worker": "import os; os.kill(os.getppid(), 9)",
    "recursion": "def f(x): return f(x)\nf(1)",
    "file": "import tempfile\nfile = tempfile.TemporaryFile()\nfile.write(b'x')\nfile.flush()",
    "replies": """
import os
for fd in range(3, 30):
    try:
        os.write(fd, (13).to_bytes(8, "big") + b'{"score": 1.0}')
    except OSError:
        pass
os._exit(0)
""",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_are_failed_items(name: str) -> None:
    grade = GRADERS["python"]({"test": "pass"}, HOSTILE[name])
    assert grade.score == 0
    assert grade.why
    assert GRADERS["python"]({"test": "assert x == 1"}, "x = 1").score == 1, "the next answer is graded as always"


def test_an_answer_that_loops_for_ever_is_stopped(monkeypatch) -> None:
    worker = Worker("tinyslm.evaluation.grading:answer", Limits(cpu_seconds=0, memory=1 << 30, wait_seconds=20))
    monkeypatch.setattr(graders, "_worker", worker)
    begun = time.monotonic()
    assert GRADERS["python"]({"test": "pass"}, "while True: pass").score == 0
    assert GRADERS["regex"]({"pattern": "(a+)+$"}, "a" * 40 + "b") == Grade(0.0, why="it took too long")
    assert GRADERS["python"]({"test": "assert x"}, "x = 1").score == 1
    assert time.monotonic() - begun < 60
    worker.close()


def test_what_an_answer_changes_ends_with_it() -> None:
    tamper = "import builtins, json, os\nbuiltins.len = lambda x: 3\njson.loads = None\nos.environ['A'] = 'b'\nx = 1"
    test = "import os\nassert 'A' not in os.environ\nassert len([1]) == 1\nassert 'x' not in globals()"
    assert GRADERS["python"]({"test": "assert x"}, tamper).score == 1
    assert GRADERS["python"]({"test": test}, "y = 1").score == 1


def test_what_an_answer_starts_ends_with_it() -> None:
    fork = """
import os, time
child = os.fork()
if not child:
    os.setsid()
    time.sleep(60)
time.sleep(0.2)
raise OSError(child)
"""
    child = int(GRADERS["python"]({"test": "pass"}, fork).why.rpartition(" ")[2])
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_an_answer_may_print() -> None:
    assert GRADERS["python"]({"test": "assert x"}, "print('no' * 100_000)\nx = 1").score == 1


# Users' graders.


def written(tmp_path: Path, body: str, name: str = "mine.py") -> Path:
    path = tmp_path / name
    path.write_text(textwrap.dedent(body), encoding="utf-8")
    return path


def test_a_users_grader_runs_in_the_worker(tmp_path: Path) -> None:
    written(
        tmp_path,
        """
        import os
        PID = os.getpid()
        def number(example, answer):
            print("this goes nowhere")
            return answer == example["answer"]
        def parts(example, answer):
            return {"score": 0.5, "parts": {"short": len(answer) < 5}, "why": "half"}
        def process(example, answer):
            return PID != int(answer)
        """,
    )
    assert find_grader("mine.py:number", tmp_path)({"answer": "a"}, "a").score == 1
    assert find_grader("mine.py:number", tmp_path)({"answer": "a"}, "b").score == 0
    assert find_grader("mine.py:parts", tmp_path)({}, "abc") == Grade(0.5, {"short": True}, "half")
    assert find_grader("mine.py:process", tmp_path)({}, str(os.getpid())).score == 1


def test_a_users_grader_that_fails_is_a_failed_item_that_is_seen(tmp_path: Path) -> None:
    written(tmp_path, "def grade(example, answer): return 1 / len(answer)", "fails.py")
    grader = find_grader("fails.py:grade", tmp_path)
    assert grader({}, "a") == Grade(1.0)
    grade = grader({}, "")
    assert (grade.score, grade.parts) == (0.0, {"grader_failed": 1.0})
    assert "ZeroDivisionError" in grade.why


@pytest.mark.parametrize("value", ["2", "-0.1", "float('nan')", "'1'", "None", "{'points': 1}"])
def test_a_users_grader_must_return_a_score(tmp_path: Path, value: str) -> None:
    written(tmp_path, f"def grade(example, answer): return {value}")
    with pytest.raises(TinyslmError, match="a score is a number from 0 to 1"):
        find_grader("mine.py:grade", tmp_path)({}, "a")


def test_a_users_grader_that_is_edited_is_read_again(tmp_path: Path) -> None:
    written(tmp_path, "def grade(example, answer): return 0")
    grader = find_grader("mine.py:grade", tmp_path)
    assert grader({}, "a").score == 0
    path = written(tmp_path, "def grade(example, answer): return 1")
    assert grader({}, "a").score == 1
    path.unlink()
    with pytest.raises(TinyslmError, match=r"Could not read .*mine\.py"):
        grader({}, "a")


def test_a_users_file_that_cannot_be_imported(tmp_path: Path) -> None:
    written(tmp_path, "import nothing_like_this", "broken.py")
    with pytest.raises(TinyslmError, match=r"broken\.py cannot be used as a grader: ModuleNotFoundError"):
        find_grader("broken.py:grade", tmp_path)({}, "a")
    written(tmp_path, "x = 1", "empty.py")
    with pytest.raises(TinyslmError, match=r'empty\.py cannot be used as a grader: it has no function "grade"'):
        find_grader("empty.py:grade", tmp_path)
    with pytest.raises(TinyslmError, match=r'its "x" is no function'):
        find_grader("empty.py:x", tmp_path)
    written(tmp_path, "def grade(example, answer)\n", "syntax.py")
    with pytest.raises(TinyslmError, match=r"syntax\.py cannot be used as a grader: SyntaxError"):
        find_grader("syntax.py:grade", tmp_path)
    written(tmp_path, "import os\nos._exit(0)\n", "ends.py")
    with pytest.raises(TinyslmError, match=r"ends\.py cannot be used as a grader: it ended the process"):
        find_grader("ends.py:grade", tmp_path)


# Instructions.

AT_LEAST, LESS = {"relation": "at least"}, {"relation": "less than"}
CHECKED = [
    ("keywords:existence", {"keywords": ["tree", "C++"]}, "Trees, and c++.", "Trees, and C."),
    ("keywords:frequency", {"keyword": "ha", "frequency": 2, **AT_LEAST}, "Ha, ha", "Ha"),
    ("keywords:frequency", {"keyword": "ha", "frequency": 2, **LESS}, "Ha", "Haha"),
    ("keywords:forbidden_words", {"forbidden_words": ["rain"]}, "Trains run.", "Rain falls."),
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 2, "let_relation": "at least"}, "Eel", "El"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 1, "let_relation": "less than"}, "a", "#"),
    ("language:response_language", {"language": "de"}, "Das ist nicht der Hund.", "This is not the dog."),
    ("length_constraints:number_sentences", {"num_sentences": 2, **AT_LEAST}, "One. Two!", "One, e.g. two."),
    ("length_constraints:number_sentences", {"num_sentences": 2, **LESS}, "Mr. Fox costs 3.50.", "Yes. But b?"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a\n***\n***\nb"),
    ("length_constraints:number_words", {"num_words": 3, **AT_LEAST}, "one two-three", "one two"),
    ("length_constraints:number_words", {"num_words": 3, **LESS}, "one two", "one two three"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        'One.\n\n"Then" two.',
        "One.\n\nAnd then.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b c]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. Hi", "Bye. PS Hi"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S Hi", "Bye. P.S. Hi"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b", "* a\n**b**"),
    ("detectable_format:constrained_response", {}, "Well. My answer is no.", "My answer is perhaps."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and ** **"),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day 1 x Day 2 y", "Day 1"),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "<<A day>>\nText", "<< >>\nText"),
    ("combination:two_responses", {}, "a\n******\nb", "a\n******\na"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Why me?"}, "why me? Because.", "Because. Why me?"),
    ("startend:end_checker", {"end_phrase": "The end."}, '"So. the end."\n', "The end. Or not."),
    ("startend:quotation", {}, ' "Yes." ', '"Yes" or no'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "A BIG pig", "A"),
    ("change_case:english_capital", {}, "THE DOG IS OLD", "The DOG IS OLD"),
    ("change_case:english_capital", {}, "YES", "DER HUND IST NICHT ALT"),
    ("change_case:english_lowercase", {}, "the dog is old.", "I am old."),
    ("punctuation:no_comma", {}, "a; b", "a, b"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "right", "wrong"), CHECKED)
def test_instructions(name: str, given: dict, right: str, wrong: str) -> None:
    grade = GRADERS["instructions"]
    assert grade({"instructions": [name], "kwargs": [given]}, right) == Grade(1.0, {"instruction": 1.0})
    assert grade({"instructions": [name], "kwargs": [given]}, wrong) == Grade(0.0, {"instruction": 0.0})


def test_every_instruction_is_tested() -> None:
    assert {name for name, *_ in CHECKED} == set(INSTRUCTIONS)
    assert len(set(INSTRUCTIONS)) == 25, "as many as are published"


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("One", 1), ("One.", 1), ("One... two! (Three?) Four", 4), ("Dr. No is 3.5 m", 1), ("“So.” He left.", 2)],
)  # fmt: skip
def test_sentences(text: str, count: int) -> None:
    assert count_sentences(text) == count


SAMPLES = {
    "en": "It is not far from here to the sea.",
    "de": "Der Weg von hier zum Meer ist nicht weit.",
    "fr": "La mer n'est pas loin, dit le garçon.",
    "es": "El mar no está lejos de la casa.",
    "pt": "O mar não fica longe da casa.",
    "it": "Il mare non è lontano dalla casa.",
    "nl": "De zee is niet ver van het huis.",
    "pl": "Morze nie jest daleko od domu.",
    "vi": "Biển không xa nhà của tôi.",
    "fi": "Meri ei ole kaukana, ja se on kaunis.",
    "sw": "Bahari si mbali na nyumba yetu ya zamani.",
    "tr": "Deniz evden çok uzak değil ama bir gün gideriz.",
    "ru": "Море не так далеко от дома, и мы идём.",
    "bg": "Морето не е далеч от къщата и ние ще отидем.",
    "uk": "Море не дуже далеко від дому, і ми йдемо.",
    "ar": "البحر ليس بعيدا عن البيت في هذا المكان",
    "fa": "دریا از خانه دور نیست و این خوب است",
    "ur": "سمندر گھر سے دور نہیں ہے اور یہ اچھا ہے",
    "hi": "समुद्र घर से दूर नहीं है और यह अच्छा है",
    "mr": "समुद्र घरापासून दूर नाही आणि ते छान आहे",
    "ne": "समुद्र घर बाट टाढा छैन र यो राम्रो छ",
    "ja": "海は家から遠くないです。",
    "zh": "海离我家不远。",
    "ko": "바다는 집에서 멀지 않습니다.",
    "th": "ทะเลอยู่ไม่ไกลจากบ้าน",
    "ta": "கடல் வீட்டிலிருந்து தொலைவில் இல்லை",
    "te": "సముద్రం ఇంటికి దూరం కాదు",
    "bn": "সমুদ্র বাড়ি থেকে দূরে নয়",
    "kn": "ಸಮುದ್ರ ಮನೆಯಿಂದ ದೂರವಿಲ್ಲ",
    "gu": "દરિયો ઘરથી દૂર નથી",
    "pa": "ਸਮੁੰਦਰ ਘਰ ਤੋਂ ਦੂਰ ਨਹੀਂ ਹੈ",
    "ml": "കടൽ വീട്ടിൽ നിന്ന് ദൂരെയല്ല",
    "el": "Η θάλασσα δεν είναι μακριά.",
    "he": "הים לא רחוק מהבית",
}


def test_languages_are_told_apart() -> None:
    assert {name: language_of(text) for name, text in SAMPLES.items()} == {name: name for name in SAMPLES}
    assert set(SAMPLES) == LANGUAGES
    assert language_of("123 !?") is language_of("Xyzzy") is None


def test_instructions_of_json_are_read_as_json() -> None:
    row = json.loads('{"instructions": ["punctuation:no_comma"], "kwargs": [null]}')
    assert GRADERS["instructions"](row, "yes").score == 1
