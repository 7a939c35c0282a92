"""Published benchmarks, in the form in which their authors publish them: rows of our own with their fields."""

import copy
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.protocols import Continuation
from tinyslm.evaluation.tasks.loading import load_tasks
from tinyslm.evaluation.tasks.task import Task
from tinyslm.inference.request import Completion


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def load(name: str, path: Path) -> Task:
    (task,) = load_tasks(f"{name}={path}")
    return task


def texts(example) -> list[tuple[str, str]]:
    return [(one.context, one.text) for one in example.continuations()]


def grade(example, answer: str) -> dict[str, float]:
    return example.outcome(Completion(answer, "stop", 1, ()))


def wrong(name: str, path: Path) -> str:
    with pytest.raises(TinyslmError) as caught:
        load(name, path)
    return caught.value.problem


def test_blimp_is_a_folder_of_files(tmp_path: Path) -> None:
    row = {
        "field": "syntax",
        "linguistics_term": "island_effects",
        "simple_LM_method": True,
        "lexically_identical": True,
    }
    same = {"sentence_good": "Who left?", "sentence_bad": "Who left?", "UID": "b", "pairID": "0"}
    first = {"sentence_good": "A dog barks.", "sentence_bad": "A dog bark.", "UID": "a", "pairID": "0"}
    write(tmp_path / "a.jsonl", row | first)
    write(tmp_path / "b.jsonl", row | same, row | same | {"sentence_bad": "Left who?"})
    task = load("blimp", tmp_path)
    assert [(one.group, one.good, one.bad) for one in task.examples] == [
        ("a", " A dog barks.", " A dog bark."),
        ("b", " Who left?", " Left who?"),
    ]
    assert (task.chance, task.dropped, task.metric) == (0.5, 1, "accuracy")


def test_zorro_has_the_wrong_sentence_first(tmp_path: Path) -> None:
    write(tmp_path / "agreement.txt", "the dogs is here .", "the dogs are here .")
    write(tmp_path / "binding.txt", "she saw himself .", "she saw herself .", "he saw herself .", "he saw himself .")
    task = load("zorro", tmp_path)
    assert [(one.group, one.good) for one in task.examples] == [
        ("agreement", "the dogs are here ."),
        ("binding", "she saw herself ."),
        ("binding", "he saw himself ."),
    ]
    assert len(load("zorro", tmp_path / "binding.txt").examples) == 2
    write(tmp_path / "binding.txt", "a", "b", "c")
    assert "binding.txt, line 3" in wrong("zorro", tmp_path)


@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge"])
def test_arc_as_published_and_as_on_the_hub(name: str, tmp_path: Path) -> None:
    choices = [{"text": "ice", "label": "A"}, {"text": "fire", "label": "B"}, {"text": "sand", "label": "C"}]
    published = {"id": "M_1", "question": {"stem": "What melts?", "choices": choices}, "answerKey": "A"}
    hub = {
        "id": "M_2",
        "question": "What burns?",
        "choices": {"text": ["ice", "wood", "sand", "air"], "label": ["1", "2", "3", "4"]},
        "answerKey": "2",
    }
    task = load(name, write(tmp_path / "arc.jsonl", published, hub))
    one, two = task.examples
    assert texts(one)[0] == ("Question: What melts?\nAnswer:", " ice")
    assert (one.right, two.right) == (0, 1)
    assert task.chance == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert "line 1" in wrong(name, write(tmp_path / "arc.jsonl", hub | {"answerKey": "E"}))


def test_hellaswag(tmp_path: Path) -> None:
    row = {
        "ind": 7,
        "activity_label": "Baking bread",
        "ctx_a": "A man kneads dough. [header] Knead [title] Use both hands.",
        "ctx_b": "he",
        "ctx": "A man kneads dough. [header] Knead [title] Use both hands. he",
        "endings": ["puts it in the oven.", "rides  a horse. [substeps] Up.", "swims.", "sings."],
        "label": "0",
        "split_type": "indomain",
        "source_id": "x~1",
    }
    (one,) = load("hellaswag", write(tmp_path / "h.jsonl", row)).examples
    context = "Baking bread: A man kneads dough. Knead. Use both hands. He"
    assert texts(one)[:2] == [(context, " puts it in the oven."), (context, " rides a horse. Up.")]
    assert (one.right, one.chance, one.id) == (0, 0.25, "7")


def test_piqa_with_labels_beside_it_or_in_the_row(tmp_path: Path) -> None:
    rows = [
        {"goal": "Cut bread.", "sol1": "Use a knife.", "sol2": "Use a sock."},
        {"goal": "g", "sol1": "a", "sol2": "b"},
    ]
    path = write(tmp_path / "valid.jsonl", *rows)
    assert 'has no "label"' in wrong("piqa", path)
    write(tmp_path / "valid-labels.lst", "0", "1")
    task = load("piqa", path)
    assert texts(task.examples[0])[0] == ("Question: Cut bread.\nAnswer:", " Use a knife.")
    assert [one.right for one in task.examples] == [0, 1]
    assert [one.right for one in load("piqa", write(tmp_path / "p.jsonl", rows[0] | {"label": 1})).examples] == [1]
    write(tmp_path / "valid-labels.lst", "0")
    assert "valid.jsonl, line 2" in wrong("piqa", path)


def test_copa(tmp_path: Path) -> None:
    row = {"premise": "The cup fell.", "choice1": "It broke.", "choice2": "I drank.", "question": "effect"}
    task = load("copa", write(tmp_path / "c.jsonl", row | {"idx": 0, "label": 0}))
    assert texts(task.examples[0])[0] == ("The cup fell therefore", " it broke.")
    assert (task.metric, task.chance) == ("raw", 0.5)


def test_winogrande_scores_what_follows_the_option(tmp_path: Path) -> None:
    row = {"qID": "3-1", "sentence": "The bag is too small for the ball because the _ is big.", "option1": "ball"}
    path = write(tmp_path / "dev.jsonl", row | {"option2": "bag", "answer": "2"})
    task = load("winogrande", path)
    (one,) = task.examples
    before = "The bag is too small for the ball because the"
    assert texts(one) == [(f"{before} ball", " is big."), (f"{before} bag", " is big.")]
    assert (one.right, task.metric, task.chance) == (1, "raw", 0.5)
    assert "neither 1 nor 2" in wrong("winogrande", write(path, row | {"option2": "bag", "answer": ""}))
    assert "gap" in wrong("winogrande", write(path, {"sentence": "No gap.", "answer": "1"}))


def test_lambada_as_text_and_as_rows(tmp_path: Path) -> None:
    line = "he gave her the ring and asked whether she would wear the ring"
    plain = load("lambada", write(tmp_path / "lambada_test_plain_text.txt", line, "", line))
    rows = load("lambada", write(tmp_path / "lambada_test.jsonl", {"text": line}))
    assert len(plain.examples) == 2
    for example in (*plain.examples, *rows.examples):
        assert example.continuations() == (Continuation(line.removesuffix(" ring"), " ring"),)


def test_gsm8k(tmp_path: Path) -> None:
    answer = "She has 3 * 4 = <<3*4=12>>12 eggs and sells 2.\n#### 1,010"
    task = load("gsm8k", write(tmp_path / "test.jsonl", {"question": "How many eggs?", "answer": answer}))
    (one,) = task.examples
    assert one.prompt() == "Question: How many eggs?\nAnswer:"
    assert task.sampling.stop == ("Question:",)
    assert grade(one, " 500 + 510 = 1010 eggs.\n\n")["score"] == 1
    assert grade(one, " The answer is $1,010.00, and not 7.")["score"] == 1
    assert grade(one, " 1011")["score"] == grade(one, " many")["score"] == 0


def test_ifeval(tmp_path: Path) -> None:
    row = {
        "key": 1000,
        "prompt": "Name three trees, without commas, in less than 20 words.",
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{"relation": None}, {"relation": "less than", "num_words": 20, "keywords": None}],
    }
    path = write(tmp_path / "input_data.jsonl", row)
    (one,) = load("ifeval", path).examples
    assert one.prompt() == [{"role": "user", "content": row["prompt"]}]
    assert grade(one, "Oak and elm and fir") == {"score": 1.0, "instruction": 1.0}
    assert grade(one, "Oak, elm and fir") == {"score": 0.0, "instruction": 0.5}
    assert grade(one, " ") == {"score": 0.0, "instruction": 0.0}
    write(path, row | {"instruction_id_list": ["punctuation:no_comma", "length_constraints:number_word"]})
    problem = wrong("ifeval", path)
    assert "line 1" in problem
    assert 'Did you mean "length_constraints:number_words"?' in problem
    assert "same length" in wrong("ifeval", write(path, row | {"kwargs": []}))


AREA = {
    "name": "geometry.area",
    "description": "The area of a rectangle.",
    "parameters": {
        "type": "dict",
        "properties": {
            "width": {"type": "float", "description": "In metres."},
            "sides": {"type": "tuple", "items": {"type": "integer"}, "description": "x"},
            "unit": {"type": "string", "enum": ["m2", "square foot"], "default": "m2", "description": "x"},
            "style": {"type": "dict", "properties": {"color": {"type": "string"}, "bold": {"type": "boolean"}}},
        },
        "required": ["width"],
    },
}
STYLE = {"color": ["red", "Red"], "bold": [True, ""]}
WANTED = {"geometry.area": {"width": [3, 3.5], "unit": ["", "square foot"], "style": ["", STYLE]}}


def call(name: str, **arguments: object) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def test_bfcl_with_its_answers_in_a_folder(tmp_path: Path) -> None:
    asked = [[{"role": "user", "content": "The area, please."}]]
    rows = [
        {"id": f"{name}_0", "question": asked, "function": [AREA]} for name in ("simple", "parallel", "irrelevance")
    ]
    path = write(tmp_path / "BFCL_v3_simple.json", *rows)
    answers = [{"id": "simple_0", "ground_truth": [WANTED]}, {"id": "parallel_0", "ground_truth": [WANTED, WANTED]}]
    write(tmp_path / "possible_answer" / path.name, *answers)
    simple, parallel, irrelevance = load("bfcl", path).examples
    assert (simple.group, simple.prompt()) == ("simple", asked[0])
    ((tool,)) = simple.tools()
    assert tool["function"]["name"] == "geometry_area"
    properties = tool["function"]["parameters"]["properties"]
    assert [properties[name]["type"] for name in AREA["parameters"]["properties"]] == [
        "number",
        "array",
        "string",
        "object",
    ]
    assert properties["sides"]["items"] == {"type": "integer"}

    for arguments in ({"width": 3}, {"width": 3.5, "unit": "Square_foot"}, {"width": 3, "style": {"color": "red"}}):
        assert grade(simple, call("geometry_area", **arguments))["right_call"] == 1, arguments
    for arguments in ({"width": 4}, {"unit": "m2"}, {"width": 3, "style": {"bold": True}}, {"width": 3, "height": 1}):
        outcome = grade(simple, call("geometry_area", **arguments))
        assert (outcome["right_name"], outcome["right_call"]) == (1, 0), arguments
    once, again = call("geometry_area", width=3), call("geometry_area", width=3.5)
    assert grade(parallel, once + again)["right_call"] == 1
    assert grade(parallel, once)["right_name"] == grade(simple, once + again)["right_name"] == 0
    assert grade(irrelevance, "I cannot tell.")["right_call"] == 1
    assert grade(irrelevance, once)["right_call"] == 0


def test_bfcl_names_what_it_does_not_read(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "Hello"}]
    path, row = tmp_path / "q.json", {"id": "simple_1", "question": [turn], "function": AREA, "ground_truth": [WANTED]}
    assert load("bfcl", write(path, row)).examples
    assert "2 turns" in wrong("bfcl", write(path, row | {"question": [turn, turn]}))
    java = {"name": "f", "parameters": {"type": "dict", "properties": {"x": {"type": "HashMap"}}}}
    assert "'HashMap'" in wrong("bfcl", write(path, row | {"function": java}))
    assert "accepted values" in wrong("bfcl", write(path, row | {"ground_truth": [{"f": {"x": 3}}]}))
    del row["ground_truth"]
    assert "no answer to 'simple_1'" in wrong("bfcl", write(path, row))
    write(tmp_path / "possible_answer.json", {"id": "simple_1", "ground_truth": [WANTED]})
    assert load("bfcl", path).examples


QUESTION = [[{"role": "user", "content": "Go."}]]
PLAIN = {"name": "f", "parameters": {"type": "dict", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}
STEM = {"stem": "Q?", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]}
ROWS = {
    "blimp": {"sentence_good": "a b", "sentence_bad": "b a"},
    "arc_easy": {"question": STEM, "answerKey": "A"},
    "arc_challenge": {"question": "Q?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"},
    "hellaswag": {"activity_label": "X", "ctx_a": "A.", "ctx_b": "he", "endings": ["a", "b"], "label": "0"},
    "piqa": {"goal": "g", "sol1": "a", "sol2": "b", "label": 0},
    "copa": {"premise": "It fell.", "choice1": "A.", "choice2": "B.", "question": "cause", "label": 0},
    "winogrande": {"sentence": "The _ is big.", "option1": "a", "option2": "b", "answer": "1"},
    "lambada": {"text": "one two three"},
    "gsm8k": {"question": "Q?", "answer": "#### 3"},
    "ifeval": {"prompt": "p", "instruction_id_list": ["startend:end_checker"], "kwargs": [{"end_phrase": "x"}]},
    "bfcl": {"id": "a_0", "question": QUESTION, "function": [PLAIN], "ground_truth": [{"f": {"x": [1]}}]},
}
OTHERS = (None, 3, "", [], [None], {"a": 1}, True)


def places_in(value: object, above: tuple = ()) -> Iterator[tuple]:
    """Where each value in a row stands."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*above, key)
        if isinstance(inner, dict | list):
            yield from places_in(inner, (*above, key))


@pytest.mark.parametrize("name", ROWS)
def test_fields_that_are_missing_or_something_else_are_named(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS[name])
    assert load(name, path).examples
    refused = 0
    for (*above, key), other in product(places_in(ROWS[name]), (*OTHERS, ...)):
        row = inner = copy.deepcopy(ROWS[name])
        for one in above:
            inner = inner[one]
        if other is ...:
            del inner[key]
        else:
            inner[key] = other
        write(path, row)
        try:
            (example,) = load(name, path).examples
        except TinyslmError as error:
            named, refused = "rows.jsonl" in str(error), refused + 1
            assert named, (above, key, other)
        else:
            read = str([texts(example) if hasattr(example, "continuations") else example.prompt()])
            assert "None" not in read, (above, key, other)
            assert "{'a'" not in read, (above, key, other)
    assert refused > 3


def test_the_hub_gives_the_same_rows_as_files(monkeypatch, tmp_path: Path) -> None:
    asked = []

    def load_dataset(name: str, config: str, split: str) -> list[dict]:
        asked.append((name, config, split))
        return [{"sentence_good": f"{config} is.", "sentence_bad": f"{config} are.", "UID": config}]

    hub = SimpleNamespace(load_dataset=load_dataset, get_dataset_config_names=lambda _: ["a", "b"])
    monkeypatch.setitem(__import__("sys").modules, "datasets", hub)
    (task,) = load_tasks("blimp")
    assert [one.good for one in task.examples] == [" a is.", " b is."]
    assert asked == [("nyu-mll/blimp", "a", "train"), ("nyu-mll/blimp", "b", "train")]
    hub.load_dataset = lambda *_, **__: 1 / 0
    with pytest.raises(TinyslmError, match=r"Could not download .* from the hub"):
        load_tasks("copa")
