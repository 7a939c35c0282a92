"""The pack `excel`: formulas are graded by what they compute; its requests, its grammar, its demo."""

import json
from itertools import islice
from pathlib import Path

import pytest
from openpyxl import Workbook, load_workbook

from tinyslm.core.errors import TinyslmError
from tinyslm.packs import EXCEL
from tinyslm.packs.answering import evaluate_baseline
from tinyslm.packs.excel.demo import demo, read_sheet
from tinyslm.packs.excel.formulas import differences, formula_in, functions_of, with_commas, with_semicolons
from tinyslm.packs.excel.grading import grade_formula, grade_value
from tinyslm.packs.excel.grammar import formula_grammar, numbers_to
from tinyslm.packs.excel.requests import intents
from tinyslm.packs.excel.sheets import Sheet, altered, context, letter_of, serial_of
from tinyslm.packs.pack import as_asked, question_of, unique_rows
from tinyslm.tokenizer.tokenizer import Tokenizer

SHEET = {
    "headers": ["Date", "Region", "Units", "Price", "Note"],
    "rows": [
        [{"date": "2026-03-14"}, "North", 12, 3.5, "'7"],
        [{"date": "2026-04-02"}, "South", 7, 2.25, None],
        [{"date": "2026-02-20"}, "North", 30, 9.99, "late"],
        [{"date": "2026-03-30"}, "West", 5, 12.5, "ok"],
        [{"date": "2026-01-09"}, "South", 16, 4.0, "ok"],
    ],
}


def example(answer: str, **fields: object) -> dict:
    return {"sheet": SHEET, "answer": answer, **fields}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("skill", [skill.name for skill in EXCEL.skills])
def test_answers_of_generated_rows_are_right(skill: str, split: str) -> None:
    rows = list(islice(unique_rows(EXCEL.skill(skill), split, 3), 24))
    assert rows == list(islice(unique_rows(EXCEL.skill(skill), split, 3), 24))
    for row in rows:
        assert EXCEL.grade(row, row["messages"][-1]["content"]).score == 1, row["answer"]
        assert EXCEL.grade(row, "").score == 0


def test_conversations_to_learn_from_ask_several_things_of_one_sheet() -> None:
    for skill in ("formula", "repair"):
        rows = list(islice(unique_rows(EXCEL.skill(skill), "train", 5), 40))
        assert {len(row["messages"]) // 2 for row in rows} == {1, 4, 8}
        for row in rows:
            asked = [one["content"] for one in row["messages"] if one["role"] == "user"]
            assert asked[0].startswith(context(Sheet.from_json(row["sheet"])))
            assert not any("rows 2 to" in text for text in asked[1:])
            assert as_asked(row)["messages"] == row["messages"][:-1]
        assert all(len(row["messages"]) == 2 for row in islice(unique_rows(EXCEL.skill(skill), "test", 5), 20))


def test_written_requests_have_right_answers_and_are_not_learned() -> None:
    asked = [row for _, row in EXCEL.written_requests()]
    assert len(asked) == 200
    for row in asked[::9]:
        assert EXCEL.grade(row, row["messages"][-1]["content"]).score == 1, row["answer"]
    learned = {question_of(row) for row in islice(unique_rows(EXCEL.skill("formula"), "train", 1), 2000)}
    assert learned.isdisjoint(question_of(row) for row in asked)


def test_sixty_functions_are_asked_for() -> None:
    assert len(set().union(*(functions_of(intent.formula) for intent in intents()))) >= 60


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        ('=SUMIF(B2:B6,"North",C2:C6)',
         ['=SUMIFS(C:C,B:B,"north")', '=SUMPRODUCT((B2:B6="North")*C2:C6)', '`=SUM(FILTER(C2:C6,B2:B6="North"))`']),
        ("=C2*D2", ["=PRODUCT(C2,D2)", "= $C2 * D2"]),
        ("=COUNTA(UNIQUE(B2:B6))", ["=SUMPRODUCT(1/COUNTIF(B2:B6,B2:B6))", "=ROWS(UNIQUE(B2:B6))"]),
        ('=TEXT(A2,"mmm")', ['=PROPER(TEXT(A2,"MMM"))']),
    ],
)  # fmt: skip
def test_any_spelling_that_behaves_right_passes(answer: str, same: list[str]) -> None:
    fill = "2:" not in answer
    for other in same:
        assert grade_formula(example(answer, fill=fill), f"{other}\n").score == 1, other


@pytest.mark.parametrize(
    ("answer", "wrong", "fault"),
    [
        ('=SUMIF(B2:B6,"North",C2:C6)', "=42", "wrong_function"),  # right by luck on the given sheet
        ('=SUMIF(B2:B6,"North",C2:C6)', '=SUMIF(B2:B6,"South",C2:C6)', "wrong_condition"),
        ('=COUNTIF(C2:C6,">10")', '=COUNTIF(C2:C6,">=10")', "wrong_condition"),
        ("=SUM(C2:C6)", "=SUM(C2:C5)", "off_by_one_row"),
        ("=SUM(C2:C6)", "=SUM(D2:D6)", "wrong_range"),
        ("=MAX(C2:C6)", "=LARGE(C2:C6,1", "wrong_function"),
        ("=SUM(C2:C6)", "The total is 70.", "not_a_formula"),
        ("=SUM(C2:C6)", "=SUM(C2:C6) + FOO(1)", "wrong_function"),
        ("CANNOT", "=SUM(C2:C6)", "should_refuse"),
        ("=SUM(C2:C6)", "CANNOT", "not_a_formula"),
    ],
)
def test_wrong_formulas_fail_and_say_how(answer: str, wrong: str, fault: str) -> None:
    grade = grade_formula(example(answer), wrong)
    if wrong.startswith("=COUNTIF"):  # no sheet has a 10: the same everywhere, so this one may pass
        assert differences(answer, wrong)[fault] == 1
        return
    assert grade.score == 0
    assert grade.parts[fault] == 1


def test_formulas_of_a_row_have_to_survive_filling_down() -> None:
    right, wrong = "=C2/SUM(C$2:C$6)", "=C2/SUM(C2:C6)"
    assert grade_formula(example(right), wrong).score == 1  # in row 2 they are equal
    grade = grade_formula(example(right, fill=True), wrong)
    assert grade.score == 0
    assert grade.parts["wrong_anchor"] == 1


def test_modes() -> None:
    semicolons = example("=ROUND(C2*1,5;2)", mode="semicolons", fill=True)
    assert grade_formula(semicolons, "=ROUND(1,5*C2;2)").score == 1
    assert grade_formula(semicolons, "=ROUND(C2*1.5,2)").score == 0
    old = example('=INDEX(C2:C6,MATCH("West",B2:B6,0))', mode="2016")
    assert grade_formula(old, '=VLOOKUP("West",B2:C6,2,FALSE)').score == 1
    newer = grade_formula(old, '=XLOOKUP("West",B2:B6,C2:C6)')
    assert (newer.score, newer.parts) == (0, {"too_new": 1.0})
    for text in ('=IF(A2>1.5,"a,b",2)', "=SUM(A1:A3)", '=TEXT(A2,"0.0")'):
        assert with_commas(with_semicolons(text)) == text


def test_hostile_formulas_are_failed_items() -> None:
    for formula in ('=REPT("x",2000000000)', "=SUM(SEQUENCE(1000000,1000))", "=" + "(" * 900, "=" + "1+" * 2000 + "1"):
        assert grade_formula(example("=SUM(C2:C6)"), formula).score == 0
    assert grade_formula(example("=SUM(C2:C6)"), "=SUM(C2:C6)").score == 1


def test_a_stated_value_picks_the_sheet() -> None:
    given = {"values": ["42", "17", "99.5"]}
    assert grade_value(given, "It adds the units.\nvalue: 42.0").score == 1
    assert grade_value(given, "value: 17").parts == {"other_sheet": 1.0}
    assert grade_value(given, "42 or 17").score == 0
    assert grade_value({"values": ["North", "West", "South"]}, "value: north").score == 1


def test_sheets_as_a_model_reads_them() -> None:
    sheet = Sheet.from_json(SHEET)
    assert context(sheet).splitlines() == [
        "Date A: date",
        "Region B: North | South | West",
        "Units C: 12",
        "Price D: 3.5",
        "Note E: '7 | late | ok | (blank)",
        "rows 2 to 6",
    ]
    other = altered(sheet, 1)
    assert [len(row) for row in other.rows] == [5] * 5
    assert {sheet.kind(n) for n in range(5)} == {other.kind(n) for n in range(5)} == {"date", "text", "number"}
    assert other.column(2) != sheet.column(2)
    assert [letter_of(n) for n in (0, 25, 26, 701)] == ["A", "Z", "AA", "ZZ"]
    assert serial_of("2026-03-14") == 46095


@pytest.mark.parametrize("last", [1, 9, 10, 16, 100, 207, 99999])
def test_rows_of_the_grammar(last: int) -> None:
    import re

    pattern = re.compile(numbers_to(last))
    for number in {1, 2, 9, 10, last - 1, last}:
        assert bool(pattern.fullmatch(str(number))) == (1 <= number <= last)
    for number in ("0", "01", str(last + 1), str(last * 10)):
        assert not pattern.fullmatch(number)


def test_the_grammar_takes_right_answers_and_no_impossible_ones(byte_tokenizer: Tokenizer) -> None:
    def takes(row: dict, text: str) -> bool:
        grammar = formula_grammar(row).compile(byte_tokenizer)
        matcher, ids = grammar.matcher(), byte_tokenizer.encode(text)
        return matcher.take(ids) == len(ids) and matcher.accepts

    rows = list(islice(unique_rows(EXCEL.skill("formula"), "test", 3), 20))
    written = [row for _, row in EXCEL.written_requests() if row["skill"] != "explain"]
    for row in rows + written[::3]:
        assert takes(row, row["answer"]), row["answer"]
    row = example("")
    for wrong in ("=SUM(C2:C6", "=SUM(F2:F6)", "=SUM(C2:C7)", "=FOO(C2)", "=ROUND(C2)", "=ABS(C2,1)", "hello", "="):
        assert not takes(row, wrong), wrong
    assert takes(row, "=XLOOKUP(5,C2:C6,B2:B6)")
    assert takes(row, '=SUMPRODUCT(--(B2:B6="North"))')
    assert takes(row, '=MATCH(B2,{"North","South"},0)')
    assert not takes({**row, "mode": "2016"}, "=XLOOKUP(5,C2:C6,B2:B6)")
    assert takes({**row, "mode": "semicolons"}, "=ROUND(C2*1,5;2)")


def test_a_right_formula_stands_while_there_is_room(byte_tokenizer: Tokenizer) -> None:
    rows = list(islice(unique_rows(EXCEL.skill("formula"), "test", 4), 8))
    for row in rows:
        matcher = formula_grammar(row).compile(byte_tokenizer).matcher()
        for place, token in enumerate(byte_tokenizer.encode(row["answer"])):
            assert matcher.settle(token, 400 - place) == token, row["answer"]
            matcher.take([token])


def test_answers_are_found_in_text() -> None:
    assert formula_in("Sure:\n`=SUM(A1:A2)`\nThis adds.") == "=SUM(A1:A2)"
    assert formula_in("cannot.") == "CANNOT"
    assert formula_in("a = b") == formula_in("") == formula_in("=") == ""


def test_published_blocks_are_imported(tmp_path: Path) -> None:
    row = {"instruction": "add the first two values of column A", "formula": "=A2+A3"}
    converted = EXCEL.convert(row)
    assert converted is not None
    assert EXCEL.grade(converted, "=SUM(A2:A3)").score == 1
    assert converted["messages"][-1] == {"role": "assistant", "content": "=A2+A3"}
    assert EXCEL.convert({"instruction": "say hello", "formula": "hello"}) is None
    assert EXCEL.convert({"question": "?"}) is None


def test_the_baseline_answers_every_row() -> None:
    scores = {score.task: score for score in evaluate_baseline(EXCEL, limit=12)}
    assert set(scores) == set(EXCEL.tasks)
    assert 0 < scores["excel_formula"].value < 1


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    book = Workbook()
    for row in (["Region", "Units", "Total"], ["North", 3, "=B2*2"], ["South", 4, "=B3*2"], ["North", 5, None]):
        book.active.append(row)
    book.active.merge_cells("A5:B5")
    path = tmp_path / "sheet.xlsx"
    book.save(path)
    return path


def test_demo(sheet: Path, tmp_path: Path) -> None:
    seen = []

    def answer(rows: list) -> list[str]:
        seen.extend(rows)
        return ['=SUMIF(A2:A4,"North",B2:B4)']

    shown = demo(sheet, "total units for north", answer, tmp_path / "out.xlsx")
    assert shown.data == {"formula": '=SUMIF(A2:A4,"North",B2:B4)', "value": "8"}
    assert seen[0]["messages"][0]["content"].endswith("total units for north")
    written = load_workbook(tmp_path / "out.xlsx").active
    assert written["E2"].value == '=SUMIF(A2:A4,"North",B2:B4)'
    assert written["C2"].value == "=B2*2"
    assert demo(sheet, "profit", lambda _: ["CANNOT"], None).lines == [
        "The model says that this sheet cannot answer this."
    ]


def test_sheets_of_users(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "Tag;Menge;Preis\n2026-01-02;3;1.5\n2026-01-03;x;\n" + "2026-02-01;1;2\n" * 5000, encoding="utf-8-sig"
    )
    sheet, last = read_sheet(path)
    assert (list(sheet.headers), sheet.rows[0], sheet.rows[1]) == (
        ["Tag", "Menge", "Preis"],
        [{"date": "2026-01-02"}, 3, 1.5],
        [{"date": "2026-01-03"}, "x", None],
    )
    assert (len(sheet.rows), last) == (2000, 5003)
    assert json.dumps(sheet.json())
    wide = tmp_path / "wide.csv"
    wide.write_text(",".join(f"c{n}" for n in range(200)) + "\n" + ",".join("1" * 200) + "\n")
    shown = demo(wide, "sum of c3", lambda rows: ["=SUM(D2:D2)"], None)
    assert "24 of 200 columns" in shown.lines[-1]
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bad.xlsx").write_bytes(b"no zip")
    for name, said in (
        ("empty.csv", "no table"),
        ("bad.xlsx", "Could not read"),
        ("no.csv", "not exist"),
        ("t.ods", "not exist"),
    ):
        with pytest.raises(TinyslmError, match=said):
            read_sheet(tmp_path / name)
