"""The chapter on the residual stream: hidden states, the logit lens and ablations are those of transformers."""

import math

import numpy as np
import pytest
import torch
from course_pages import PAGES
from test_attention import SHAPES, made
from transformers import AutoModelForCausalLM

from tinyslm.course.chapters.residual import ablations, lens
from tinyslm.course.subject import Subject
from tinyslm.inspection.ablation import Part, ablate, ablate_each, hide_position, token_sizes
from tinyslm.inspection.residual import residual_stream


@pytest.fixture
def theirs(subject: Subject):
    return AutoModelForCausalLM.from_pretrained(subject.folder, dtype=torch.float32).eval()


@torch.no_grad()
def test_hidden_states_and_the_lens_are_those_of_transformers(subject: Subject, theirs) -> None:
    out = theirs(torch.tensor([list(subject.ids)]), output_hidden_states=True)
    found = residual_stream(subject.model, subject.ids)
    for layer, hidden in enumerate(out.hidden_states[:-1]):
        torch.testing.assert_close(found.hidden_ltd[layer], hidden[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(theirs.model.norm(found.hidden_ltd[-1]), out.hidden_states[-1][0], atol=1e-4, rtol=0)
    shown = lens(subject, found)
    for layer, hidden in enumerate([*out.hidden_states[:-1], None]):
        logits_tv = out.logits[0] if hidden is None else theirs.lm_head(theirs.model.norm(hidden[0]))
        share_tv = logits_tv.softmax(-1)
        for token, top in enumerate(shown["top"][layer]):
            assert [share for _, share in top] == pytest.approx(
                [float(share_tv[token, one]) for one, _ in top], abs=1e-4
            )
        real = [float(share_tv[token, following]) for token, following in enumerate(subject.ids[1:])]
        assert [share for share, _ in shown["next"][layer]] == pytest.approx(real, abs=1e-4)


def switched_off(theirs, part: dict) -> None:
    """Switch off a part of transformers' model."""
    layer = theirs.model.layers[part["layer"] - 1]
    if isinstance(part["kind"], int):
        width = layer.self_attn.head_dim
        mine = slice((part["kind"] - 1) * width, part["kind"] * width)

        def zero(_, inputs):
            changed = inputs[0].clone()
            changed[..., mine] = 0
            return (changed,)

        layer.self_attn.o_proj.register_forward_pre_hook(zero)
        return
    if part["kind"] in ("attention", "layer"):
        layer.self_attn.o_proj.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    if part["kind"] in ("feed-forward", "layer"):
        layer.mlp.register_forward_hook(lambda _, __, out: torch.zeros_like(out))


@pytest.fixture(scope="module")
def found(subject: Subject):
    return ablations(subject)


@pytest.mark.parametrize("number", [1, 4, 8], ids=["head", "layer", "feed-forward"])
@torch.no_grad()
def test_ablations_are_those_of_transformers(subject: Subject, theirs, found, number: int) -> None:
    part = found["parts"][number]
    switched_off(theirs, part)
    ids = list(subject.ids)
    logprobs_tv = theirs(torch.tensor([ids])).logits[0].log_softmax(-1)
    bits = [-float(logprobs_tv[place, token]) / math.log(2) for place, token in enumerate(ids[1:])]
    assert part["token_bits"] == pytest.approx(bits, abs=1e-4)
    size = sum(len(subject.tokenizer.token_bytes(token)) for token in ids[1:])
    assert part["bits"] == pytest.approx(sum(bits) / size, abs=1e-4)
    assert [share for _, _, share in part["next"]] == pytest.approx(
        [float(logprobs_tv[-1, token].exp()) for token, _, _ in part["next"]], abs=1e-4
    )
    inputs, targets = subject.held_out[:, :-1], subject.held_out[:, 1:]
    windows = found["held_out_tokens"] // targets.shape[1]
    losses = torch.nn.functional.cross_entropy(
        theirs(inputs[:windows]).logits.flatten(0, 1), targets[:windows].flatten(), reduction="sum"
    )
    bytes_of = int(token_sizes(subject.tokenizer, subject.model.config.vocab_size)[targets[:windows]].sum())
    assert part["held_out"][0] == pytest.approx(float(losses) / math.log(2) / bytes_of, abs=1e-4)


@pytest.mark.parametrize(
    "shape", [*SHAPES.values(), {"family": "gpt_neox"}, {"family": "phi"}, {"family": "granite", "residual_scale": 0.2}]
)
def test_the_parts_of_every_kind_of_block(subject: Subject, shape: dict) -> None:
    model = made(subject, **shape).model
    found = residual_stream(model, subject.ids)
    sums = found.hidden_ltd[:-1] + found.attention_ltd + found.feed_forward_ltd
    torch.testing.assert_close(found.hidden_ltd[1:], sums, atol=1e-4, rtol=1e-4)
    ids_bt = torch.tensor([list(subject.ids), list(subject.ids)[::-1]])
    whole = model.model(ids_bt)
    parts = dict(ablate_each(model, ids_bt))
    assert len(parts) == 2 * 7
    for part in (Part(1, "head", 2), Part(1, "layer"), Part(2, "attention"), Part(2, "feed-forward")):
        with torch.inference_mode():
            alone = ablate(model, [part]).model(ids_bt)
        torch.testing.assert_close(parts[part], alone, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(alone, whole, atol=1e-3)
    torch.testing.assert_close(model.model(ids_bt), whole, msg="the model itself is left alone")


def test_a_hidden_place_changes_only_what_comes_later(subject: Subject) -> None:
    model = made(subject, family="gemma3", window=8).model
    ids_bt = torch.tensor([list(subject.ids)])
    whole = model.model(ids_bt)
    torch.testing.assert_close(hide_position(model, ids_bt, None), whole, atol=1e-5, rtol=1e-5)
    hidden = hide_position(model, ids_bt, 2)
    torch.testing.assert_close(hidden[:, :3], whole[:, :3], atol=1e-5, rtol=1e-5)
    assert (np.abs((hidden - whole)[:, 3:].detach().numpy()).max(-1) > 1e-4).all()


def test_the_reader_switches_off_a_part_and_reads_early(reader) -> None:
    page = reader.open(PAGES["residual"])
    grid = page.get_by_label("Change of the bits per byte of the sentence without each part")
    grid.get_by_role("button").nth(3).click()
    assert page.get_by_role("heading", name="Without the feed-forward of layer 1").count() == 1
    assert page.get_by_label("Bits per byte", exact=True).locator("tbody tr").count() == 2
    page.get_by_label("Likeliest next token after each layer").get_by_role("button").first.click()
    assert page.get_by_role("heading", name="from the embeddings").count() == 1
