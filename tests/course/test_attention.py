"""The chapter on attention: its numbers are those of transformers, and its steps are right for every kind of model."""

import numpy as np
import pytest
import torch
from course_pages import PAGES, data_of
from transformers import AutoModelForCausalLM

from tinyslm.course.chapters.attention import WEIGHT_UNIT, attention_data
from tinyslm.course.subject import Subject
from tinyslm.inspection.attention import listen
from tinyslm.inspection.head_kinds import KINDS, head_kinds, repetition_bits
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder

STEPS = """data => Object.keys(data.steps).map(key => {
    const [layer, head] = key.split(",").map(Number);
    const rows = data.tokens.map((_, token) => headSteps(data, layer, head, token));
    return { layer, head, weights: rows.map(one => one.weights), out: rows.map(one => one.out) };
})"""
SHAPES = {
    "windows with a rotation of their own": {"family": "gemma3", "window": 8, "kv_heads": 1},
    "capped scores": {"family": "gemma2", "window": 8, "kv_heads": 2},
    "learned places": {"family": "gpt2"},
    "part of each head turned": {"family": "phi3", "rotary_share": 0.75, "kv_heads": 2},
    "layers without rotation": {"family": "smollm3", "unrotated_layers": (1,)},
    "stretched frequencies": {"family": "llama", "rope_scaling": {"kind": "yarn", "factor": 4.0}},
    "norms over all heads": {"family": "olmo2", "kv_heads": 2},
}


def made(subject: Subject, **shape) -> Subject:
    """Another model over the same tokenizer and sentence."""
    size = {"vocab_size": subject.tokenizer.vocab_size, "dim": 32, "depth": 2, "heads": 4, "context": 64}
    torch.manual_seed(5)
    model = Decoder(ModelConfig(**{**size, **shape})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.3)
    return Subject(subject.folder, None, model, subject.tokenizer, subject.text, subject.ids)


@pytest.fixture(scope="module")
def theirs(subject: Subject):
    """Attention weights `[l, h, t, t]`, and what the heads of each layer take, `[l, t, h * k]`, by transformers."""
    model = AutoModelForCausalLM.from_pretrained(subject.folder, dtype=torch.float32, attn_implementation="eager")
    taken = []
    for layer in model.model.layers:
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0][0]))
    with torch.no_grad():
        weights = model(torch.tensor([list(subject.ids)]), output_attentions=True).attentions
    return torch.cat(weights).numpy(), torch.stack(taken).numpy()


def test_weights_and_outputs_are_those_of_transformers(reader, theirs) -> None:
    weights_lhtt, taken_ltd = theirs
    page = reader.open(PAGES["attention"])
    data = data_of(page, "attention")
    count = len(data["tokens"])
    rows, columns = np.tril_indices(count)
    np.testing.assert_allclose(
        np.array(data["weights"]) * WEIGHT_UNIT, weights_lhtt[:, :, rows, columns], atol=WEIGHT_UNIT
    )
    found = page.evaluate(STEPS, data)
    assert len(found) == weights_lhtt.shape[0] * weights_lhtt.shape[1]
    width = taken_ltd.shape[2] // weights_lhtt.shape[1]
    for one in found:
        layer, head = one["layer"], one["head"]
        np.testing.assert_allclose(one["weights"], weights_lhtt[layer, head], atol=1e-4)
        np.testing.assert_allclose(one["out"], taken_ltd[layer, :, head * width : (head + 1) * width], atol=1e-4)


def test_the_steps_are_right_for_other_kinds_of_attention(reader, subject: Subject) -> None:
    page = reader.open(PAGES["attention"])
    for name, shape in SHAPES.items():
        other = made(subject, **shape)
        _, found = listen(other.model, other.ids, range(2))
        weights = np.stack([found[layer].weights() for layer in range(2)])
        data = attention_data(other, found, weights, head_kinds(other.model, other.tokenizer))
        shown = page.evaluate(STEPS, data)
        assert len(shown) == 8
        for one in shown:
            np.testing.assert_allclose(one["weights"], weights[one["layer"], one["head"]], atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("window", "expected"), [(0, None), (1, (0, 1, 0, 0, 0)), (2, (0.5, 0.5, 0, 0, 0))])
def test_kinds_of_heads_that_do_not_choose(subject: Subject, window: int, expected) -> None:
    other = made(subject, family="mistral", window=window)
    for layer in other.model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.q_proj.weight)
    kinds = head_kinds(other.model, other.tokenizer)
    for number, kind in enumerate(KINDS):
        share = kinds.chance if expected is None else expected[number]
        np.testing.assert_allclose(kinds.shares[kind.name], share, rtol=1e-5, atol=1e-7)
    new, again = repetition_bits(other.model, kinds)
    assert new == pytest.approx(again, rel=0.2), "such a model cannot copy"


def test_the_reader_chooses_a_head_and_a_token(reader) -> None:
    page = reader.open(PAGES["attention"])
    page.get_by_label("query token").select_option("0")
    rows = page.get_by_label("Scores and weights").locator("tbody tr")
    assert "100 %" in rows.nth(0).text_content()
    assert "masked: later" in rows.nth(1).text_content()
    grid = page.get_by_label("Kinds of the heads: layers and heads")
    grid.locator("button").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    chosen = [select.input_value() for select in page.locator('[data-widget="attention"] select').all()]
    assert chosen == ["1", "1", "0"]
    assert "Layer 2, head 2 is shown above" in page.locator(".said").text_content()
