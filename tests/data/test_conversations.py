"""Rows as conversations: the forms that people's data has, and rows that cannot be used."""

import json
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import conversation_of, read_conversations

ASKED = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]
CALL = {"name": "add", "arguments": {"a": 1}}

ROWS = {
    "messages": {"messages": ASKED},
    "ShareGPT": {"conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hi."}]},
    "Alpaca": {"instruction": "Hello?", "input": "", "output": "Hi."},
    "completion": {"prompt": "Hello?", "completion": "Hi."},
    "question": {"question": "Hello?", "answer": "Hi.", "id": 3},
    "what comes after the last answer": {"messages": [*ASKED, {"role": "user", "content": "Bye."}]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello?"}]}, ASKED[1]]},
}


@pytest.mark.parametrize("form", ROWS)
def test_forms_are_recognised(form: str) -> None:
    assert conversation_of(ROWS[form], "row 1").messages == ASKED


def test_a_question_has_its_context_below_it() -> None:
    row = {"instruction": "Extract.", "input": "A price: 3.", "output": "3", "system": "Be short."}
    system, user, assistant = conversation_of(row, "row 1").messages
    assert (system["content"], user["content"], assistant["content"]) == ("Be short.", "Extract.\n\nA price: 3.", "3")


def test_tool_calls_and_their_results() -> None:
    row = {
        "tools": json.dumps([{"name": "add", "parameters": {"type": "object"}}]),
        "messages": [
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {**CALL, "arguments": '{"a": 1}'}}]},
            {"role": "tool", "content": "2", "tool_call_id": "x", "name": "add"},
            {"role": "assistant", "content": "2."},
        ],
    }
    found = conversation_of(row, "row 1")
    assert found.messages[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": CALL}],
    }
    assert found.messages[2] == {"role": "tool", "content": "2", "name": "add", "tool_call_id": "x"}
    assert found.tools == [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hello?", "chosen": "Hi.", "rejected": "No."},
        {"chosen": ASKED, "rejected": [ASKED[0], {"role": "assistant", "content": "No."}]},
        {"prompt": ASKED[:1], "chosen": ASKED[1:], "rejected": [{"role": "assistant", "content": "No."}]},
    ],
)
def test_preferences(row) -> None:
    found = conversation_of(row, "row 1")
    assert found.messages == ASKED
    assert found.rejected == {"role": "assistant", "content": "No."}


def test_preferences_keep_what_belongs_to_the_prompt() -> None:
    row = {"system": "Be brief.", "instruction": "Add.", "input": "2, 3", "chosen": "5", "rejected": "6"}
    system, user, answer = conversation_of(row, "row 1").messages
    assert (system["content"], user["content"], answer["content"]) == ("Be brief.", "Add.\n\n2, 3", "5")
    named = {"Q": "Add.\n\n2, 3", "good": "5", "bad": "6", "Role": "Be brief."}
    fields = {"prompt": "Q", "chosen": "good", "rejected": "bad", "system": "Role"}
    again = conversation_of(named, "row 1", fields)
    assert again.messages == [system, user, answer]
    assert (again.rejected, again.row) == ({"role": "assistant", "content": "6"}, named)


def test_fields_are_known_in_any_case() -> None:
    row = {"No.": 1, "Question ": "Hello?", "ANSWER": "Hi."}
    found = conversation_of(row, "row 1")
    assert [one["content"] for one in found.messages] == ["Hello?", "Hi."]
    assert found.row == row
    with pytest.raises(TinyslmError, match=r"unknown; its fields are: Ask, Say"):
        conversation_of({"Ask": "Hello?", "Say": "Hi."}, "row 1")


def test_fields_can_be_named() -> None:
    row = {"Request": "Sum of A", "Formula": "=SUM(A:A)", "Table": "A 1", "Role": "You write formulas."}
    fields = {"prompt": "Request", "answer": "Formula", "context": "Table", "system": "Role"}
    system, user, assistant = conversation_of(row, "row 1", fields).messages
    assert [system["content"], user["content"], assistant["content"]] == [row["Role"], "Sum of A\n\nA 1", "=SUM(A:A)"]
    with pytest.raises(TinyslmError, match=r'row 1 has no field "Formel"') as error:
        conversation_of(row, "row 1", {"prompt": "Request", "answer": "Formel"})
    assert 'Did you mean "Formula"?' in error.value.remedy


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "Hello"}, "its format is unknown; its fields are: text"),
        ({"messages": []}, "no assistant message"),
        ({"messages": ASKED[:1]}, "no assistant message"),
        ({"messages": ASKED[1:]}, "first message is the assistant"),
        ({"messages": [ASKED[0], {"role": "assistant", "content": " "}]}, "an answer is empty"),
        ({"messages": [{"role": "judge", "content": "x"}]}, "the unknown role 'judge'"),
        ({"messages": ["Hello"]}, "a message is not an object"),
        ({"messages": [{"role": "user", "content": 3}]}, "a message with the role user has no text"),
        ({"question": "Hello?", "answer": None}, 'its "answer" is not a text'),
        ({"question": "", "answer": "Hi."}, 'its "question" is empty'),
        ({"messages": ASKED, "tools": "{"}, 'its "tools" are not JSON'),
        ({"prompt": "x", "chosen": "y", "rejected": 3}, 'its "rejected" is neither'),
        ({"chosen": "y", "rejected": "z"}, 'it has no "prompt"'),
        ({"chosen": ASKED, "rejected": [{"role": "user", "content": "Bye."}, ASKED[1]]}, "different conversations"),
        (
            {
                "messages": [
                    ASKED[0],
                    {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
                ]
            },
            "not JSON",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named(row, words: str) -> None:
    with pytest.raises(TinyslmError, match=r"^rows\.jsonl, row 3 cannot be used: ") as error:
        conversation_of(row, "rows.jsonl, row 3")
    assert words in error.value.problem


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS["messages"]) + "\n")
    (tmp_path / "a.json").write_text(json.dumps([ROWS["Alpaca"], ROWS["question"]]))
    (tmp_path / "a.csv").write_text('question,answer\nHello?,"Hi."\n')
    (tmp_path / "a.txt").write_text("Instruction: Hello?\nFormula: Hi.\n\nInstruction:\nHello?\nFormula: Hi.\n")
    for name, count in (("a.jsonl", 1), ("a.json", 2), ("a.csv", 1), ("a.txt", 2)):
        found = list(read_conversations([tmp_path / name]))
        assert [list(one.messages) for one in found] == [ASKED] * count, name
    assert [one.place for one in read_conversations([tmp_path / "a.txt"])] == ["a.txt, line 1", "a.txt, line 4"]


def test_broken_files_and_rows_that_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS["messages"]) + '\n{"text": 1}\n' + json.dumps(ROWS["question"]) + "\n")
    with pytest.raises(TinyslmError, match=r"rows\.jsonl, row 2 cannot be used"):
        list(read_conversations([path]))
    left_out: list[str] = []
    assert len(list(read_conversations([path], skip=lambda place, why: left_out.append(place)))) == 2
    assert left_out == ["rows.jsonl, row 2"]
    path.write_text("{")
    with pytest.raises(TinyslmError, match=r"rows\.jsonl, row 1 cannot be read"):
        list(read_conversations([path]))
    (tmp_path / "a.txt").write_text("Only: one label\n")
    with pytest.raises(TinyslmError, match="no blocks with two labels"):
        list(read_conversations([tmp_path / "a.txt"]))
