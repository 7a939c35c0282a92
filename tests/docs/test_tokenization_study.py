"""The study of tokenization: which models it trains, what becomes of failures, and its plots."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr("sys.argv", ["tokenization.py", "--data", "nowhere", "--seeds", "1", "2"])
    return import_module("tokenization")


def rows_of(study: ModuleType) -> list[dict[str, Any]]:
    """Invented figures of every model."""
    rows = []
    for number, case in enumerate(study.all_cases(study.options())):
        figures = {"vocabulary": case.settings["vocab_size"], "bits_per_byte": 1.5 + number % 7 / 10}
        answers = {case.text: 0.5} if case.text in study.QUESTIONS else {}
        rows.append({**vars(case), **figures, **answers})
    return [*rows, {"text": "python", "params": 1, "seconds": 1.0, "seed": 1, "tokenizer": {}, "failed": "why"}]


def test_one_setting_differs_from_the_base_at_a_time(study: ModuleType) -> None:
    cases = study.all_cases(study.options())
    assert all(len(case.tokenizer) <= 1 for case in cases)
    assert {case.text for case in cases} == set(study.TEXTS)
    bases = [case for case in cases if not case.tokenizer]
    assert len({case.key for case in bases}) == 2 * len(study.TEXTS)  # seeds


def test_a_failure_is_a_row_with_its_reason(study: ModuleType, tmp_path: Path) -> None:
    case = {"text": "formulas", "params": 1000, "seconds": 1.0, "seed": 1, "tokenizer": {"kind": "nonsense"}}
    row = study.row_of(case, str(tmp_path), str(tmp_path), {})
    assert "nonsense" in row["failed"]
    assert row["settings"] == {"kind": "nonsense", "vocab_size": 4096}
    row = study.row_of(case | {"tokenizer": {"vocab_size": 32_768}}, str(tmp_path), str(tmp_path), {})
    assert row["failed"] == "TinyslmError: A model of 1 k parameters cannot have 32,768 tokens."
    assert "nonsense" in study.vocabulary_of(case, str(tmp_path), str(tmp_path))["failed"]
    assert study.paces_of(["1000 32768"]) == {}


def test_a_model_trains_on_the_tokens_that_its_seconds_allow(study: ModuleType, tmp_path: Path) -> None:
    case = {"text": "sums", "params": 200_000, "seconds": 2.0, "seed": 1, "tokenizer": {"kind": "byte"}}
    (tmp_path / "stories").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "stories" / "train.jsonl").write_text('{"text": "Once there was a cat."}\n' * 9)
    size = study.vocabulary_of(case, str(tmp_path), str(tmp_path / "work"))
    tokens = 3 * study.BATCH * study.CONTEXT
    row = study.row_of(case, str(tmp_path), str(tmp_path / "work"), {f"200000 {size}": tokens / 2.0})
    assert "failed" not in row, row["failed"]
    assert (row["tokens"], row["steps"], row["tokens_per_second"]) == (tokens, 3, tokens // 2)


def test_every_plot_is_drawn_from_rows(study: ModuleType) -> None:
    plots = import_module("tokenization_plots")
    drawn = plots.draw({"runs": rows_of(study)})
    assert drawn.keys() == plots.PLOTS.keys()
    assert "unigram" in drawn["tokenizers-settings.svg"]
    assert plots.draw({"runs": []}) == {}
    assert "| base | failed: why |" in "\n".join(plots.tables(rows_of(study)[-1:]))


def test_questions_are_in_no_text_and_have_answers(study: ModuleType) -> None:
    texts = import_module("tokenization_texts")
    sums = texts.held_out("sums")
    assert len({one.prompt for one in sums}) == texts.ASKED["sums"]
    one, two = sums[0].prompt.removesuffix("=").split("+")
    assert int(one) + int(two) == int(sums[0].answer)
    formula = next(texts.formula_questions(1))
    assert formula.prompt.count("\n") == 2
    assert formula.fields["answer"] == formula.answer
