"""The pack `security`: its requests, generated rows, graders, imports, baseline and demo."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.data.ngrams import overlapping
from tinyslm.packs.pack import question_of, unique_rows
from tinyslm.packs.rows import make_rows
from tinyslm.packs.security import SECURITY
from tinyslm.packs.security.attack import techniques
from tinyslm.packs.security.behaviours import PLAYBOOK, behaviours, entities_of
from tinyslm.packs.security.log_demo import LONGEST_LINE, MOST_KINDS, triage_log
from tinyslm.packs.security.rules import run_rule

SKILLS = [skill.name for skill in SECURITY.skills]
EVENT = r"C:\Windows\System32\whoami.exe | whoami /all | C:\Windows\explorer.exe | CORP\a.kim"
RULE = r"""logsource:
    category: process_creation
detection:
    s:
        Image|endswith: '\whoami.exe'
    condition: s"""


def rows_of(skill: str, split: str, count: int = 60) -> list[dict]:
    return list(islice(unique_rows(SECURITY.skill(skill), split, 3), count))


def answer_of(row: dict) -> str:
    return row["messages"][-1]["content"]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("skill", SKILLS)
def test_rows_are_right_different_and_repeatable(skill, split):
    rows = rows_of(skill, split)
    assert rows == rows_of(skill, split)
    for row in rows:
        assert SECURITY.grade(row, answer_of(row)).score == 1
        assert SECURITY.grade(row, "").score == 0


@pytest.mark.parametrize("skill", SKILLS)
def test_no_test_question_overlaps_with_what_is_learned(skill):
    train, test = ([question_of(row) for row in rows_of(skill, split, 300)] for split in ("train", "test"))
    found, _ = overlapping(test, train)
    assert found.sum() <= 3


def test_the_requests_have_right_answers_and_are_not_learned():
    rows = [row for _, row in SECURITY.written_requests()]
    assert Counter(row["skill"] for row in rows) == {"technique": 36, "rule": 32, "triage": 32}
    assert not [row for row in rows if SECURITY.grade(row, answer_of(row)).score < 1]
    asked = [question_of(row) for row in rows]
    assert len(set(asked)) == 100
    learned = [question_of(row) for row in SECURITY.generate("train", 3000, 1)]
    assert not overlapping(asked, learned)[0].any()
    assert not set(asked) & set(learned)


@pytest.mark.parametrize("skill", SKILLS)
def test_constraints_allow_right_answers(skill, byte_tokenizer):
    rows = [*rows_of(skill, "test", 15), *(row for _, row in SECURITY.written_requests() if row["skill"] == skill)]
    if skill == "rule":
        rows.append({**rows[0], "source": ""})
    made = {}
    for row in rows:
        constraint = SECURITY.constraint(row)
        if constraint.key not in made:
            made[constraint.key] = constraint.compile(byte_tokenizer)
        ids = byte_tokenizer.encode(answer_of(row))
        matcher = made[constraint.key].matcher()
        assert (matcher.take(ids), matcher.accepts) == (len(ids), True), answer_of(row)


@pytest.mark.parametrize(
    ("wanted", "answer", "score"),
    [
        ("T1110.001", "T1110.001 Password Guessing", 1),
        ("T1110.001", "I think it is T1110.", 0.5),
        ("T1110", "T1110.003", 0.5),
        ("T1110.001", "T1110.003", 0),
        ("T1110.001", "T1110.999", 0),
        ("T1110.001", "none", 0),
        ("none", "None of them: this is normal.", 1),
        ("none", "T1110", 0),
    ],
)
def test_techniques_are_scored_against_the_matrix(wanted, answer, score):
    grade = SECURITY.grade({"skill": "technique", "answer": [wanted]}, answer)
    assert grade.score == score
    assert grade.parts["exists"] == (answer != "T1110.999")


def test_behaviours_name_techniques_of_the_matrix_and_cases_of_the_playbook():
    assert len(techniques()) == 665
    assert {one.technique for one in behaviours()} <= {"none", *techniques()}
    assert {one.case for one in behaviours()} == {"", *PLAYBOOK}
    assert all(one.words["train"] and one.words["test"] for one in behaviours())


def test_triage_is_scored_by_parts():
    answer = {"severity": "high", "next_step": "isolate_host", "entities": {"users": ["ann"], "hosts": ["ws1"]}}
    row = {"skill": "triage", "answer": answer}
    said = {**answer, "entities": {"hosts": ["WS1"], "users": ["ann"]}}
    assert SECURITY.grade(row, f"Here: {json.dumps(said)}").parts["all"] == 1
    assert SECURITY.grade(row, json.dumps({**answer, "severity": "low"})).score == pytest.approx(2 / 3)
    assert SECURITY.grade(row, json.dumps({**answer, "entities": {"users": ["ann"]}})).parts["entities"] == 0
    assert SECURITY.grade(row, json.dumps({**answer, "entities": [1]})).parts["entities"] == 0
    assert entities_of("192.0.2.9:22, b2.c.example http://2001:db8::5 1.2") == {
        "ips": ["192.0.2.9", "2001:db8::5"],
        "domains": ["b2.c.example"],
    }


def test_a_rule_that_fires_too_often_or_for_other_logs_is_wrong():
    row = {"skill": "rule", "source": "windows", "hostile": [EVENT], "benign": [EVENT.replace("whoami", "calc")]}
    assert SECURITY.grade(row, f"```yaml\n{RULE}\n```").score == 1
    assert SECURITY.grade(row, RULE.replace("'\\whoami.exe'", "'.exe'")).parts["quiet"] == 0
    assert SECURITY.grade(row, RULE.replace("whoami", "other")).parts["hits"] == 0
    wrong = SECURITY.grade(row, RULE.replace("category: process_creation", "product: linux"))
    assert (wrong.score, wrong.parts["hits"], wrong.why) == (0, 1, "another logsource")
    keyword = RULE.replace("        Image|endswith: '\\whoami.exe'", "        - whoami")
    assert SECURITY.grade(row, keyword).score == 1
    assert SECURITY.grade(row, RULE.replace("Image|endswith: '\\who", "NoSuchField|contains: 'who")).parts["hits"] == 0
    with pytest.raises(TinyslmError, match="has the source"):
        SECURITY.grade({**row, "source": "toaster"}, RULE)


BOMB = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n" + RULE


@pytest.mark.parametrize(
    "text",
    ["", "no rule", "- 1\n- 2", "a: [", "title: x", "logsource: 5\ndetection: 7", BOMB, "[" * 5000, "x" * 30_000,
     "logsource: {category: a}\ndetection: {condition: s}", RULE.replace("condition: s", "condition: s and"),
     RULE.replace("'\\whoami.exe'", "{a: 1}"), RULE.replace("Image|endswith", "Image|re").replace("'\\who", "'(who")],
)  # fmt: skip
def test_what_is_no_rule_scores_zero(text):
    found = run_rule(text, "windows", [EVENT])
    assert found.get("why"), found


def test_published_rows_are_imported(tmp_path: Path):
    rows = [
        {"instruction": "Which technique?", "input": "They guess passwords.", "output": "T1110.001 Password Guessing"},
        {"instruction": "What is T1110?", "input": "", "output": "T1110 is Brute Force. They try passwords."},
        {"instruction": "Tactic of T1110?", "input": "", "output": "Tactic: credential-access. Platforms: Linux."},
        {"instruction": "Write a rule", "input": "Someone runs whoami.", "output": RULE},
        {"instruction": "Write a rule", "input": "Broken.", "output": RULE.replace("condition: s", "")},
        {"instruction": "Unknown", "input": "x", "output": "T9999 Nothing"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = make_rows(SECURITY, 3, files=[path])
    assert (made.imported, made.unused) == (4, 2)
    converted = [found for row in rows if (found := SECURITY.convert(row))]
    assert [SECURITY.grade(row, answer_of(row)).score for row in converted] == [1, 1, 1, 1]
    assert SECURITY.grade(converted[1], "T1110").score < 1
    assert 0 < SECURITY.grade(converted[3], RULE.replace("whoami", "other")).score < 1


def test_the_baseline_answers_every_skill():
    rows = [row for _, row in SECURITY.written_requests()]
    answers = SECURITY.baseline(list(SECURITY.generate("train", 300, 1)))(rows)
    scores = [SECURITY.grade(row, text).score for row, text in zip(rows, answers, strict=True)]
    assert 30 < sum(scores) < 70


def by_keyword(rows):
    """Answers as a model would."""
    hostile = ["whoami" in question_of(row) for row in rows]
    if rows[0]["skill"] == "triage":
        return ['{"severity": "medium", "next_step": "ask_user", "entities": {}}'] * len(rows)
    return ["T1033 System Owner/User Discovery" if one else "none" for one in hostile]


def test_the_demo_reads_logs_of_any_size_line_by_line(tmp_path: Path):
    log, out = tmp_path / "app.log", tmp_path / "found.jsonl"
    parts = [
        "10:00 pc1 ok\n",
        "\n",
        "10:01 pc1 started whoami\n" * 3,
        "x" * 3 * LONGEST_LINE + "\n",
        "10:07 pc2 whoami\n",
    ]
    log.write_text("".join(parts), encoding="utf-16")
    shown = triage_log(log, "", by_keyword, out)
    assert shown.data["lines"] == 6
    assert [(one["line"], one["lines"]) for one in shown.data["suspicious"]] == [(2, 3), (6, 1)]
    assert shown.data["suspicious"][0]["technique"].startswith("T1033")
    assert [json.loads(line)["next_step"] for line in out.read_text().splitlines()] == ["ask_user"] * 2
    assert "severity medium" in shown.lines[0]
    log.write_text("".join(f"ok {'a' * n}\n" for n in range(1, MOST_KINDS // 2)) * 2 + "".join(
        f"ok {'b' * (n % 900)}{'c' * (n // 900)}\n" for n in range(MOST_KINDS)))  # fmt: skip
    assert triage_log(log, "", by_keyword, None).data["not_looked_at"] == MOST_KINDS // 2 - 1


@pytest.mark.parametrize("content", [b"", b"\n \n", b"PK\0\1\2\n"])
def test_what_is_no_log_is_an_error(tmp_path: Path, content):
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(TinyslmError, match="log"):
        triage_log(tmp_path / "log", "", by_keyword, None)
    with pytest.raises(TinyslmError, match="Could not read"):
        triage_log(tmp_path / "none", "", by_keyword, None)
    with pytest.raises(TinyslmError, match="takes no request"):
        triage_log(tmp_path / "log", "find all", by_keyword, None)
