"""Checks of examples: each kind of fault is found where it was put, and sound data of several kinds raises nothing."""

import json
import random
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from tinyslm.core.errors import TinyslmError
from tinyslm.data.lint import CHECKS
from tinyslm.data.lint.linting import encode, read_examples, run_checks
from tinyslm.data.lint.page import lint_page, shown_examples, styled
from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.tokenizer import Tokenizer

Row = dict[str, Any]
NAMES = ("Mara", "Ilya", "Tomas", "Noor", "Wen", "Astrid", "Kofi", "Lucia", "Oren", "Priya")
THINGS = ("lantern", "kettle", "bicycle", "violin", "compass", "umbrella", "telescope", "ladder", "hammock", "anvil")
ACTS = ("repaired", "painted", "borrowed", "sold", "measured", "hid", "cleaned", "described", "weighed", "carried")
TOWNS = ("Lisbon", "Osaka", "Tartu", "Quito", "Accra", "Bergen", "Leeds", "Turin", "Perth", "Cusco")


def sentence(draw: random.Random) -> str:
    name, thing, act, town = map(draw.choice, (NAMES, THINGS, ACTS, TOWNS))
    return f"{name} {act} the {thing} of a friend in {town} {draw.choice(('before dawn', 'at noon', 'last week'))}"


def questions(count: int = 60) -> list[Row]:
    draw = random.Random(1)
    return [
        {"question": f"{number}. What happened to {sentence(draw)}?", "answer": f"It is said that {sentence(draw)}."}
        for number in range(count)
    ]


def extraction() -> list[Row]:
    """Reading: the prompt contains the answer in every row."""
    draw = random.Random(2)
    made = []
    for _ in range(60):
        facts = [sentence(draw) for _ in range(4)]
        made.append(
            {
                "question": f"Which sentence names {facts[2].split()[0]}?",
                "context": ". ".join(facts),
                "answer": facts[2],
            }
        )
    return made


def records() -> list[Row]:
    draw = random.Random(3)
    return [
        {
            "instruction": f"Write number {n} as JSON.",
            "output": json.dumps({"id": n, "of": [sentence(draw), {"x": []}]}),
        }
        for n in range(60)
    ]


def commands() -> list[Row]:
    made = [
        "grep '(' notes{}.txt",
        "awk '{{print $1}}' log{}",
        "tldr [",
        "echo user@example.com > mail{}",
        "ls -l [a-{}]*",
    ]
    return [{"prompt": f"Command {n}, part {n % 5}", "completion": made[n % 5].format(n)} for n in range(60)]


def labels() -> list[Row]:
    draw = random.Random(4)
    return [{"input": f"{n}: {sentence(draw)}", "output": ("spam", "ham", "unsure")[n % 3]} for n in range(60)]


def german() -> list[Row]:
    draw = random.Random(5)
    return [
        {
            "question": f"Was weiß man über {sentence(draw)} ({n})?",
            "answer": f"Das ist nicht ganz klar, und es gibt {n} Gründe für die Größe der Lücke.",
        }
        for n in range(60)
    ]


def pairs(count: int = 60) -> list[Row]:
    draw = random.Random(6)
    made = []
    for number in range(count):
        sides = sorted(
            (sentence(draw), f"{sentence(draw)}, and then {sentence(draw)}"), key=len, reverse=number % 2 == 0
        )
        made.append({"prompt": f"{number}. {sentence(draw)}?", "chosen": sides[0], "rejected": sides[1]})
    return made


CLEAN = {make.__name__: make for make in (questions, extraction, records, commands, labels, german, pairs)}


def written(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def found(
    folder: Path, rows: list[Any], tokenizer: Any = None, context: int = 4096, **more: Any
) -> dict[str, list[str]]:
    """The places of each finding, by the check."""
    examples = read_examples([written(folder, rows)], **more)
    if tokenizer is not None:
        examples = replace(examples, encoding=encode(examples.conversations, tokenizer, context))
    return {one.check: [str(hit) for hit in one.places] for one in run_checks(examples).findings}


@pytest.mark.parametrize("kind", CLEAN)
def test_sound_data_raises_nothing(kind: str, tmp_path: Path, byte_tokenizer) -> None:
    rows = CLEAN[kind]()
    held_out = written(
        tmp_path,
        [
            {
                "question": "How high is a tower of ten blocks of wood, each three hands high, on a hill?",
                "answer": "Thirty hands.",
            }
        ],
        "valid.jsonl",
    )
    assert found(tmp_path, rows, byte_tokenizer.with_template(CHATML), valid=[held_out], against=[held_out]) == {}


def answered(text: str, number: int = 7) -> Row:
    return {"question": f"Question {number} about a thing?", "answer": text}


KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq2mVdYt0aPq3Xc9ZsRkLwNfGhJ\n-----END RSA PRIVATE KEY-----"
FAULTS: dict[str, list[tuple[Any, str]]] = {
    "unreadable": [
        ('{"question": "cut', "not valid JSON"),
        ({"text": "no fields"}, "its format is unknown"),
        ({"question": "What?", "answer": " "}, 'its "answer" is empty'),
    ],
    "garbled": [
        (answered("The cafÃ© is closed â€œtodayâ€\x9d."), "wrongly decoded"),
        (answered("The caf\ufffd is closed."), "U+FFFD"),
    ],
    "control-characters": [(answered("It is \x1b[1mbold\x1b[0m."), "U+001B"), (answered("It \x00ends."), "U+0000")],
    "languages": [
        (answered("Das ist nicht wahr, und die Frau geht mit dem Hund auf den Markt."), "language de"),
        (answered("Это не так, и он не знает, что это было для всех."), "language ru"),
        (answered("これはとても良い本ですから、みんなに読んでほしいと思います。"), "language ja"),
    ],
    "empty": [
        ({"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "Yes."}]}, "of the user")
    ],
    "giant": [(answered("A very long story about the sea and ships. " * 2000 + "End."), "86,0")],
    "cut-off": [
        (answered("Write it like this:\n```python\nprint(1)"), "a code block is not closed"),
        (answered("Wen carried the telescope from the harbour to the"), "ends in mid-sentence"),
        (answered("Noor measured the violin and the kettle before she repaired the telesc"), "ends in mid-word"),
    ],
    "given-away": [
        ({"prompt": "Capital of Peru?\nAnswer: Lima", "completion": "Lima"}, "ends with its answer"),
        ({"prompt": "A tall ship sails", "completion": "A tall ship sails"}, "the answer is the prompt"),
        (
            {
                "prompt": "Say: the old man feeds nine grey geese by the river. Then stop.",
                "completion": "the old man feeds nine grey geese by the river",
            },
            "the prompt contains the answer",
        ),
    ],
    "echoed": [
        (
            {
                "prompt": "Turn the old lamp off at noon, my friend.",
                "completion": "Turn the old lamp off at noon, my friend. Done.",
            },
            "the answer contains",
        )
    ],
    "identity": [
        (answered("I am ChatGPT, and I can help."), "I am ChatGPT"),
        (answered("As an AI language model, I cannot eat."), "As an AI language model"),
        (answered("I was developed by OpenAI."), "developed by OpenAI"),
        (answered("作为一个人工智能语言模型,我没有个人观点。"), "作为一个人工智能"),
    ],
    "duplicates": [(questions()[3], "equals rows.jsonl, row 4")],
    "near-duplicates": [
        (
            {**questions()[5], "question": questions()[5]["question"].replace("What happened", "What then happened")},
            "row 6",
        )
    ],
    "other-answers": [({**questions()[8], "answer": "Nobody knows."}, "row 9")],
    "secrets": [
        (answered("Use AKIAQ3EGR7TZX2LMNV5K for it."), '"AKIA…"'),
        (answered("export TOKEN=ghp_a8Kd93LmQx72ZpWvT5rYc1NbG6hJ4sEfUo0i"), '"ghp_…"'),
        (answered("sk-proj-Zk39dLmq82XvTn5RwYc1NbG6hJ4sEfUo0iPa7"), '"sk-p…"'),
        (answered(KEY), "a private key"),
    ],
    "passwords": [
        (answered("The password: hT7!kq92Lm is for the router."), "a password"),
        (answered("postgres://mara:hT7kq92Lm@db.tartu.ee/shop"), "in an address"),
    ],
    "personal-data": [
        (answered("Write to astrid.berg@fjordmail.no for it."), "an e-mail address"),
        (answered("Call +49 30 2093 7712 at noon."), "a phone number"),
        (answered("Paid with 4539 1488 0343 6467."), "a card number"),
        (answered("Transfer it to DE44 5001 0517 5407 3249 31."), "an IBAN"),
        (answered("Her SSN is 536-22-8724."), "a social security number"),
    ],
}
CASES = [(check, row, words) for check, cases in FAULTS.items() for row, words in cases]


@pytest.mark.parametrize(("check", "row", "words"), CASES, ids=[f"{check}-{words}" for check, _, words in CASES])
def test_a_fault_is_found_where_it_is(check: str, row: Any, words: str, tmp_path: Path) -> None:
    findings = found(tmp_path, [*questions(), row])
    assert list(findings) == [check]
    (place,) = findings[check]
    assert place.startswith("rows.jsonl, row 61: ")
    assert words in place


def test_secrets_are_not_repeated(tmp_path: Path) -> None:
    for check in ("secrets", "passwords", "personal-data"):
        for row, _ in FAULTS[check]:
            (place,) = found(tmp_path, [*questions(), row])[check]
            assert not any(len(word) > 12 and word in place for word in row["answer"].split()), place


@pytest.mark.parametrize(
    "text",
    [
        "Set the password: CHANGE_ME and api_key=YOUR_API_KEY, or password = os.environ['X'].",
        "AKIAIOSFODNN7EXAMPLE is in every guide; so is postgres://user:password@localhost/db.",
        "Mail name@example.com, support@fjordmail.no or git@github.com:org/repo.git about it.",
        "Call 555-0123, or see 2024-10-12 and 192.168.10.200; the part number is 1234-5678-9012.",
        "Test with 4111 1111 1111 1111 and with GB82 WEST 1234 5698 7654 32.",
        "A model of the bridge was made by Google Maps users, and trained engineers like an AI textbook.",
        "Naïve café owners say “déjà vu” — ½ of them, at 20 °C.",
    ],
)
def test_what_only_looks_like_a_fault(text: str, tmp_path: Path) -> None:
    assert found(tmp_path, [*questions(), answered(text)]) == {}


def test_faults_of_all_rows_together(tmp_path: Path) -> None:
    refusals = [answered("I am sorry, but I cannot help with that.", number) for number in range(100, 112)]
    assert "17 % of all answers" in found(tmp_path, [*questions(), *refusals])["same-answer"][0]
    cut = [answered(f"{name}{' carried it' * 20}"[:120], 200 + number) for number, name in enumerate(NAMES)]
    assert "it ends after 120 characters, as others do" in found(tmp_path, [*questions(), *cut])["cut-off"][0]
    broken = {**records()[4], "output": records()[4]["output"][:40], "instruction": "Write another."}
    assert "a bracket is not closed" in found(tmp_path, [*records(), broken])["cut-off"][0]
    mixed = [answered(unicodedata.normalize("NFD", "Größe")), answered("Die Länge", 8)]
    assert "'ö' is written as two characters" in found(tmp_path, [*questions(), *mixed])["mixed-forms"][0]


def test_preferences_that_teach_nothing_or_only_a_length(tmp_path: Path) -> None:
    equal = {"prompt": "Which one?", "chosen": "This  one.", "rejected": "This one."}
    assert "white space" in found(tmp_path, [*pairs(), equal])["equal-pairs"][0]
    longer = [
        {
            **row,
            "chosen": max(row["chosen"], row["rejected"], key=len),
            "rejected": min(row["chosen"], row["rejected"], key=len),
        }
        for row in pairs()
    ]
    assert "the chosen answer is the longer one" in found(tmp_path, longer)["length-pairs"][0]
    assert "length-pairs" not in found(tmp_path, longer[:12])


def test_rows_in_validation_and_evaluation(tmp_path: Path) -> None:
    rows = [
        {
            **row,
            "instruction": f"You answer questions about people briefly and politely. {row.pop('question')}",
            "output": row.pop("answer"),
        }
        for row in questions()
    ]
    known = rows[7]["output"]
    held_out = written(tmp_path, [rows[9], {"question": "New?", "answer": "Yes."}], "valid.jsonl")
    asked = written(tmp_path, [{"text": f"Once, {known} And so it was."}, {"choices": ["Not", "known"]}], "task.jsonl")
    findings = found(tmp_path, rows, valid=[held_out], against=[asked])
    assert findings == {"in-validation": ["valid.jsonl, row 1: equals rows.jsonl, row 10"]}
    long = {
        **rows[7],
        "output": f"{known} Nobody had expected anything like it after so many quiet years by the harbour.",
    }
    asked = written(tmp_path, [{"text": f"Once, {long['output']} And so it was."}], "task.jsonl")
    findings = found(tmp_path, [*rows, long], against=[asked])
    assert findings["in-evaluation"] == ["task.jsonl, row 1: shares 13 words or more with rows.jsonl, row 61"]


SILENT = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
NO_SYSTEM = CHATML.replace(
    "{%- for message in messages -%}", "{%- for message in messages if message['role'] != 'system' -%}"
)
FOREIGN = CHATML.replace("<|im_start|>", "<|turn_start|>")
CALL = [
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
    {"role": "tool", "content": "2"},
    {"role": "assistant", "content": "It is 2."},
]
MUTE = CHATML.replace("message['content']", "(message['content'] if message['role'] != 'assistant' else '')")
FORBIDS = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
SYSTEM = {"system": "Answer as a pirate.", **answered("Aye.")}


@pytest.mark.parametrize(
    ("check", "template", "row", "words"),
    [
        ("endless-answers", SILENT, answered("Yes."), "an answer ends with '\\n'"),
        ("unknown-markers", FOREIGN, None, "<|turn_start|> is read as"),
        ("left-out", NO_SYSTEM, SYSTEM, "lacks the system message"),
        ("nothing-to-learn", MUTE, None, "no learned token but the one that ends it"),
        ("template-error", FORBIDS, SYSTEM, "no system"),
        ("too-long", CHATML, answered("A bit longer. " * 90), "tokens, of at most 1,000"),
    ],
)
def test_faults_of_what_the_model_is_given(check, template, row, words, tmp_path: Path, byte_tokenizer) -> None:
    findings = found(tmp_path, [*questions(30), *([row] if row else [])], byte_tokenizer.with_template(template), 1_000)
    assert check in findings
    assert words in findings[check][-1]
    assert set(findings) == {check}


def test_two_start_tokens(tmp_path: Path, byte_tokenizer) -> None:
    backend = tokenizers.Tokenizer.from_str(json.dumps(byte_tokenizer.content))
    tokenizer = Tokenizer(backend, bos="<|endoftext|>", chat_template="{{ bos_token * 2 }}" + CHATML)
    findings = found(tmp_path, questions(), tokenizer)
    assert list(findings) == ["started-twice"]
    assert not found(tmp_path, questions(), tokenizer.with_template("{{ bos_token }}" + CHATML))


def test_every_check_is_tried_here() -> None:
    source = Path(__file__).read_text()
    assert not [name for name in CHECKS if f'"{name}"' not in source]


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.learned, self.names, self._bold = "", set(), False

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self._bold = tag == "b"
        assert not {name for name, _ in attrs} & {"src", "href", "onload", "onerror"}

    def handle_data(self, data):
        self.learned += data if self._bold else ""

    def handle_endtag(self, tag):
        self._bold = False


def test_what_is_shown(tmp_path: Path, byte_tokenizer) -> None:
    rows = [answered("<script>alert(1)</script> & <img src=x>"), answered("I am ChatGPT <b>.", 8)]
    examples = read_examples([written(tmp_path, rows)])
    encoding = encode(examples.conversations, byte_tokenizer.with_template(CHATML), 4096)
    report = run_checks(replace(examples, encoding=encoding))
    (place, tokens), _ = shown_examples(report, 2)
    assert place == "rows.jsonl, row 1"
    strong = "".join(text for text, style in styled(tokens) if style == "strong")
    assert strong == f"{rows[0]['answer']}<|im_end|>"
    page = lint_page(report, "rows.jsonl")
    parsed = _Elements()
    parsed.feed(page)
    assert "script" not in parsed.names
    assert "img" not in parsed.names
    assert rows[0]["answer"].replace(" ", "·") + "<|im_end|>" in parsed.learned
    assert "I am ChatGPT" in page


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match="No such file"):
        read_examples([tmp_path / "none.jsonl"])
