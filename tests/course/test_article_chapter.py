"""The chapter on the article: what sees what is measured, and its figures are those of the documentation."""

import re
from pathlib import Path

import pytest
import torch
from course_pages import PAGES
from transformers import AutoModelForCausalLM, LlamaConfig

from tinyslm.core.config import build_config
from tinyslm.course.chapters.article import PEERS, TOKENS, article_runs, difference, reaches
from tinyslm.course.printed import CorrectedBlock
from tinyslm.course.subject import Subject
from tinyslm.model.config import ModelConfig

DOCS = Path(__file__).parents[2] / "docs" / "the-article-corrected.md"


def test_only_the_printed_block_and_the_unmasked_one_are_wrong(subject: Subject) -> None:
    found = {name: torch.tensor(rows) for name, rows in reaches(subject)["variants"].items()}
    assert found["as printed"].equal(torch.eye(TOKENS, dtype=torch.long))
    assert found["without a mask"].all()
    causal = torch.ones(TOKENS, TOKENS, dtype=torch.long).tril()
    assert found["corrected"].equal(causal)
    assert found["your model"].equal(causal)


def test_the_lines_of_the_difference_are_those_of_the_code() -> None:
    lines = difference()
    assert any(sign == "-" and "dim**-0.5" in line for sign, line in lines)
    added = [line for sign, line in lines if sign != "-"]
    namespace = {"nn": torch.nn, "torch": torch, "Tensor": torch.Tensor}
    exec("\n".join(added), namespace)
    torch.manual_seed(0)
    shown = namespace["Block"](32, 2)
    ours = CorrectedBlock(32, 2)
    ours.load_state_dict(shown.state_dict())
    x = torch.randn(1, 5, 32)
    assert shown(x).equal(ours(x))


def test_the_figures_are_those_of_the_documentation() -> None:
    rows = re.findall(r"^\| (.+?) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|$", DOCS.read_text(), re.MULTILINE)
    shown = [
        (one["name"], f"{one['parameters']:,}", f"{one['whole_windows']:.3f}", f"{one['past_only']:.3f}")
        for one in article_runs()["result"]
    ]
    assert [(name.replace("`", ""), *figures) for name, *figures in rows] == shown


@pytest.mark.parametrize("name", [name for name in PEERS if name != "the article's"])
def test_shapes_have_the_parameters_of_transformers(name: str) -> None:
    shape = build_config(ModelConfig, PEERS[name])
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.dim,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.ffn_dim,
        tie_word_embeddings=shape.tied,
    )
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(config)
    assert shape.parameters == theirs.num_parameters()
    published = float(name.rsplit("-", 1)[1][:-1]) * {"M": 1e6, "B": 1e9}[name[-1]]
    assert shape.parameters == pytest.approx(published, rel=0.02)


def test_the_choice_and_the_slider_change_the_picture(reader) -> None:
    page = reader.open(PAGES["article"])
    said = page.locator('[data-widget="reach"] .said')
    assert "output 1 only" in said.text_content()
    page.get_by_label("the block").select_option("corrected")
    page.locator('[data-widget="reach"]').get_by_role("slider").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert f"so do outputs {TOKENS - 1}, {TOKENS}" in said.text_content()
