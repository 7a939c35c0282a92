"""Grammars that would end the process or keep it busy are refused: by their size, else by a worker process."""

import json
import threading
from contextlib import suppress

import numpy as np
import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.core.worker import NO_REPLY, Limits, Worker, WorkerError
from tinyslm.inference import grammar_limits, json_schema, schema_rewriting, vetting
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.grammar_limits import longest_chain


def chained(count: int, name: str = "r") -> str:
    rules = [f"{name}{number}: {name}{number + 1}" for number in range(count)]
    return "\n".join([f"start: {name}0", *rules, f'{name}{count}: "x"'])


def chained_schema(count: int) -> dict:
    parts = {
        f"d{number}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{number + 1}"}}}
        for number in range(count)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**parts, f"d{count}": {"type": "null"}}}


def words(count: int) -> str:
    return "start: WORD\nWORD: " + " & ".join(f"/(.*)w{number}(.*)/" for number in range(count))


TOO_DEEP = {
    "rules": (chained(1_500), "chain of 1,502 rules"),
    "more rules": (chained(3_000), "3,002 rules"),
    "terminals": (chained(1_500, "T"), "chain of 1,502 rules"),
    "rules in reverse": ("\n".join(reversed(chained(1_500).splitlines())), "chain of 1,502 rules"),
    "rules with attributes": (chained(300).replace(": ", "[lazy]: "), "chain of 302 rules"),
    "$defs": ("start: %json " + json.dumps(chained_schema(2_000)), "levels deep"),
    "nested %json": ("start: %json " + '{"items":' * 20_000, "nested too deep"),
}


@pytest.mark.parametrize("name", TOO_DEEP)
def test_deep_Lark_grammars_are_refused_before_they_are_compiled(byte_tokenizer, name) -> None:
    text, words = TOO_DEEP[name]
    with pytest.raises(TinyslmError, match=words) as caught:
        Grammar.lark(text, byte_tokenizer)
    assert len(str(caught.value).splitlines()) == 2
    assert len(str(caught.value)) < 400


def test_deep_schemas_and_long_choices_are_refused_before_they_are_compiled(byte_tokenizer) -> None:
    with pytest.raises(TinyslmError, match="levels deep"):
        Grammar.json_schema(chained_schema(300), byte_tokenizer)
    with pytest.raises(TinyslmError, match="characters"):
        Grammar.choices([f"{number:0100}" for number in range(3_000)], byte_tokenizer)


def test_what_people_write_is_compiled(byte_tokenizer) -> None:
    written = (chained(150), chained(150, "T"), "start: %json " + json.dumps(chained_schema(100)))
    grammars = [Grammar.lark(text, byte_tokenizer) for text in written]
    for grammar in (*grammars, Grammar.json_schema(chained_schema(100), byte_tokenizer)):
        row = np.zeros(-(-grammar.vocab_size // 32), np.uint32)
        grammar.matcher().allow(row)
        assert row.any()


@pytest.mark.parametrize("text", ['"\\', "/\\", "%json {", '%json {"', "%json", "a\n", '"a" ', "r: r\n"])
def test_the_limits_are_checked_in_time_proportional_to_the_text(text) -> None:
    """A check that is quadratic in 260,000 characters would not end within the tests' time."""
    with suppress(TinyslmError):
        grammar_limits.check_lark("start: " + text * (260_000 // len(text)))


def test_lists_of_names_do_not_multiply_without_a_limit(byte_tokenizer) -> None:
    schema: dict = {"type": "string"}
    for _ in range(10):
        schema = {"type": "object", "propertyNames": {"enum": ["a", "b", "c", "d"]}, "additionalProperties": schema}
    with pytest.raises(TinyslmError, match="more than 5000 parts"):
        Grammar.json_schema(schema, byte_tokenizer)
    long = {"propertyNames": {"enum": [f"k{number}" for number in range(500)]}}
    with pytest.raises(TinyslmError, match="characters once lists"):
        Grammar.json_schema({**long, "additionalProperties": {"enum": ["x" * 9_000]}}, byte_tokenizer)


def test_alternatives_are_compared_in_so_many_steps(monkeypatch) -> None:
    names = [f"k{number}" for number in range(300)]
    node = {"type": "object", "properties": {name: {"$ref": "#/$defs/node"} for name in names}, "required": names}
    listed = [{"enum": [*range(number * 500, number * 500 + 500)]} for number in range(50)]
    asked = []
    kinds = schema_rewriting._kinds
    monkeypatch.setattr(schema_rewriting, "_kinds", lambda part: asked.append(1) or kinds(part))
    for options in ([{"$ref": "#/$defs/node"}] * 2, listed):
        schema_rewriting.rewritten({"oneOf": options, "$defs": {"node": node}})
    assert len(asked) <= 4 * schema_rewriting._MOST_COMPARED


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
def test_whether_documents_end_is_found_in_few_steps(monkeypatch, order) -> None:
    schema = chained_schema(150)
    names = list(schema["$defs"])
    names = {"forward": names, "backward": names[::-1], "shuffled": sorted(names)}[order]
    schema["$defs"] = {name: {**schema["$defs"][name], "required": ["a"]} for name in names}
    schema["$defs"]["d150"] = {"type": "null"}
    asked = []
    is_finite = json_schema._is_finite
    monkeypatch.setattr(json_schema, "_is_finite", lambda *given: asked.append(given[0]) or is_finite(*given))
    json_schema.check_schema(schema)
    assert len(asked) < 30 * len(names)


@pytest.mark.parametrize(
    ("uses", "length"),
    [
        ({}, 0),
        ({"a": ["b", "c"], "b": ["c"], "c": ["missing"]}, 3),
        ({"a": ["a"], "b": ["a"]}, 2),
        ({"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": []}, 4),
        ({str(number): [str(number + 1)] for number in range(5_000)}, 5_000),
    ],
)
def test_the_longest_chain(uses, length) -> None:
    assert longest_chain(uses) == length


@pytest.fixture
def worker(monkeypatch):
    made = Worker("tinyslm.inference.trial:answer", Limits(cpu_seconds=0, memory=vetting.MEMORY, stack=vetting.STACK))
    monkeypatch.setattr(vetting, "WORKER", made)
    monkeypatch.setattr(vetting, "_cache", {})
    yield made
    made.close()


def test_grammars_from_outside_are_tried_out_first(byte_tokenizer, worker) -> None:
    """What a limit lets through by mistake, or is costly without being large, ends the worker process only."""
    special = {"<|end|>": 300, "<tool_call>": 3}
    with vetting.untrusted_grammars():
        for source, problem in (
            (chained(3_000), "crash"),
            (words(200), "takes more than"),
            ('start: "', "cannot be used"),
        ):
            for _ in range(2):
                with pytest.raises(TinyslmError, match=problem):
                    vetting.vet(source, "The Lark grammar", 320, special)
        vetting.vet("start: <[300]> WORDS? <tool_call>\nWORDS: /.*/", "The Lark grammar", 320, special)
        with pytest.raises(TinyslmError, match="takes more than"):
            Grammar.lark(words(200), byte_tokenizer)
    assert worker.pid is not None


def test_a_grammar_seen_before_costs_nothing(byte_tokenizer, worker, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(worker, "ask", lambda request: asked.append(request) or {})
    with vetting.untrusted_grammars():
        for _ in range(3):
            Grammar.regex("[0-9]+", byte_tokenizer)
    Grammar.regex("[a-z]+", byte_tokenizer)
    assert len(asked) == 1


@pytest.mark.parametrize("detail", [NO_REPLY, "exit code -9"])
def test_what_a_busy_machine_did_not_compile_is_tried_again(byte_tokenizer, worker, monkeypatch, detail) -> None:
    def fail(request):
        raise WorkerError("time", detail)

    with vetting.untrusted_grammars():
        with monkeypatch.context() as busy:
            busy.setattr(worker, "ask", fail)
            with pytest.raises(TinyslmError, match="takes more than"):
                Grammar.regex("[0-9]+", byte_tokenizer)
        monkeypatch.setattr(worker, "ask", lambda request: {})
        Grammar.regex("[0-9]+", byte_tokenizer)


def test_what_is_compiled_at_home_is_not_vetted(byte_tokenizer, worker) -> None:
    Grammar.regex("[0-9]+", byte_tokenizer)
    with vetting.untrusted_grammars():
        at_home = threading.Thread(target=Grammar.regex, args=("[0-9]+", byte_tokenizer))
        at_home.start()
        at_home.join()
    assert worker.pid is None
