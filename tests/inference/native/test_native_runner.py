"""The native step against the model's own modules, and what it promises of batches."""

import numpy as np
import pytest
import torch

from tinyslm.inference.native.runner import MOST_ROWS, NativeRunner, suits
from tinyslm.inference.runner import Rows
from tinyslm.model.families import FAMILIES

YARN = {"kind": "yarn", "factor": 2.0, "original_context": 48}
CASES = {
    "qwen3": {"head_dim": 24, "kv_heads": 2},
    "qwen3 biases": {"attention_bias": True, "output_bias": True, "window": 9, "window_layers": (1,), "tied": False},
    "qwen3 yarn": {"rope_scaling": YARN},
    "llama": {"kv_heads": 1, "ffn_dim": 92, "ffn_bias": True},
    "llama many heads": {"heads": 12, "head_dim": 8, "kv_heads": 2},
    "mistral": {"window": 8},
    "qwen2": {"kv_heads": 2},
    "smollm3": {"depth": 4, "window": 8, "window_layers": (3,), "unrotated_layers": (1, 3)},
    "granite": {"embedding_scale": 12.0, "attention_scale": 0.02, "residual_scale": 0.22, "logit_divisor": 8.0},
    "granitemoehybrid": {"unrotated_layers": (0, 1)},
    "olmo2": {"kv_heads": 2},
    "olmo3": {"depth": 4, "window": 8, "kv_heads": 2, "rope_scaling": YARN},
    "gemma2": {"depth": 2, "window": 8, "head_dim": 24, "kv_heads": 1, "attention_cap": 1.5, "logit_cap": 5.0},
    "gemma3": {"depth": 7, "window": 8, "head_dim": 24, "kv_heads": 1, "logit_cap": 5.0},
    "phi": {"feed_forward": "gelu", "rotary_share": 0.25},
    "phi3": {"window": 8, "rotary_share": 0.75},
    "gpt_neox": {},
    "gpt_neox serial": {"residual": "serial"},
    "stablelm": {"kv_heads": 2, "attention_bias": True},
    "stablelm parallel": {"residual": "parallel_one_norm"},
    "gpt_neo": {"window": 8},
    "opt": {},
    "gpt2": {},
    "gpt2 odd": {"heads": 2, "dim": 66, "ffn_dim": 90, "feed_forward": "gelu"},
    "tinyslm": {},
}
LENGTH = 40
TABLES = [[5, 1, 7], [2, 4, 0]]


@pytest.fixture(scope="module")
def ids_bt():
    return torch.randint(0, 131, (2, LENGTH), generator=torch.Generator().manual_seed(1))


def test_every_family_has_a_case() -> None:
    assert {case.partition(" ")[0] for case in CASES} == set(FAMILIES)


def relative(found: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.abs(found - expected.numpy()).max() / expected.abs().max())


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_models(case, compiled, make_model, rows_of, ids_bt):
    model = make_model(case.partition(" ")[0], **CASES[case])
    with torch.no_grad():
        expected = model(ids_bt).flatten(0, 1)
    exact = NativeRunner(model, 8, native=compiled, threads=2)
    assert relative(exact.run(rows_of(ids_bt, TABLES)), expected) < 5e-6
    rounded = NativeRunner(model, 8, native=compiled, precision="bf16", threads=2)
    assert relative(rounded.run(rows_of(ids_bt, TABLES)), expected) < 0.02


@pytest.mark.parametrize("scheme", ["int8", "int4", "int4-mixed"])
def test_packed_matrices_give_what_their_values_give(scheme, compiled, make_model, rows_of, ids_bt):
    model = make_model("llama", scheme, attention_bias=True, output_bias=True)
    with torch.no_grad():
        expected = torch.cat([model(ids_bt[:, : at + 1])[:, -1:] for at in range(LENGTH)], 1).flatten(0, 1)
    runner = NativeRunner(model, 8, native=compiled, threads=2)
    assert relative(runner.run(rows_of(ids_bt, TABLES)), expected) < 0.02


@pytest.mark.parametrize("scheme", ["", "bf16", "int8", "int4"])
def test_a_row_is_the_same_to_the_last_bit_whatever_is_computed_with_it(scheme, compiled, make_model, rows_of):
    packing = scheme if scheme.startswith("int") else ""
    model = make_model("qwen3", packing, kv_heads=2, head_dim=24, window=20, window_layers=(1,))
    ids = np.random.default_rng(0).integers(0, 131, (9, LENGTH))
    tables = np.arange(27).reshape(9, 3)[:, ::-1]
    precision = "bf16" if scheme == "bf16" else None

    def runner(threads: int) -> NativeRunner:
        return NativeRunner(model, 27, native=compiled, precision=precision, threads=threads)

    whole = runner(2).run(rows_of(ids, tables)).reshape(9, LENGTH, -1).copy()
    stepped, alone = runner(1), runner(3)
    steps = np.stack([stepped.run(rows_of(ids[:, [at]], tables, at)).copy() for at in range(LENGTH)], 1)
    np.testing.assert_array_equal(steps, whole)
    for start, stop in ((0, 1), (1, 8), (8, 27), (27, LENGTH)):
        chunk = alone.run(rows_of(ids[4:5, start:stop], tables[4:5], start))
        np.testing.assert_array_equal(chunk, whole[4, start:stop])


def test_calls_of_any_size_and_only_wanted_rows(make_model, rows_of):
    model = make_model(context=MOST_ROWS + 50)
    ids = np.random.default_rng(0).integers(0, 131, (2, MOST_ROWS + 40))
    tables = np.arange(40).reshape(2, 20)
    runner = NativeRunner(model, 40, threads=2)
    wanted = [3, MOST_ROWS - 1, MOST_ROWS, MOST_ROWS + 39, 2 * MOST_ROWS + 79]
    found = runner.run(rows_of(ids, tables, wanted=wanted))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).flatten(0, 1)[wanted]
    assert found.shape == (5, 131)
    assert relative(found, expected) < 5e-6


def test_sequences_may_share_blocks_and_part_from_a_copy(make_model, rows_of):
    model = make_model()
    ids = np.random.default_rng(0).integers(0, 131, (2, LENGTH))
    ids[1, :20] = ids[0, :20]  # a whole block and a part of one
    runner = NativeRunner(model, 8, threads=2)
    runner.run(rows_of(ids[:1, :20], [[6, 3]], wanted=[]))
    runner.copy_block(3, 5)
    found = runner.run(rows_of(ids[:, 20:], [[6, 3, 1], [6, 5, 0]], 20)).copy()
    with torch.no_grad():
        expected = model(torch.from_numpy(ids))[:, 20:].flatten(0, 1)
    assert relative(found, expected) < 5e-6


def test_hidden_states_leave_the_blocks_alone(make_model, rows_of, ids_bt):
    model = make_model("gpt2")
    runner = NativeRunner(model, 3, threads=2)
    ids = ids_bt[:1].numpy()
    runner.run(rows_of(ids[:, :-1], [[2, 0, 1]], wanted=[]))
    for text in (ids_bt[1].tolist(), ids_bt[1, :3].tolist()):
        with torch.no_grad():
            expected = model.model(torch.tensor([text]))[0]
        assert relative(runner.hidden(text), expected) < 5e-6
    with torch.no_grad():
        expected = model(ids_bt[:1])[0, -1:]
    assert relative(runner.run(rows_of(ids[:, -1:], [[2, 0, 1]], LENGTH - 1)), expected) < 5e-6


@pytest.mark.parametrize(
    "change",
    [{"ids": [131]}, {"ids": [-1]}, {"positions": [96]}, {"tables": [[-1]]}, {"tables": [[9]]}, {"wanted": [1]}],
)
def test_rows_that_cannot_be_are_not_computed(change, make_model):
    given = {"ids": [1], "positions": [0], "sequences": [0], "tables": [[0]], "wanted": [0]} | change
    runner = NativeRunner(make_model(), 2, threads=1)
    with pytest.raises(AssertionError, match="unknown"):
        runner.run(Rows(**{name: np.array(values, np.int32) for name, values in given.items()}))


def test_positions_that_depend_on_the_length_are_not_for_it(make_model):
    model = make_model("llama", rope_scaling={"kind": "dynamic", "factor": 2.0})
    assert "dynamic" in suits(model)
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    longrope = {"kind": "longrope", "original_context": 24, **factors}
    assert "more than 24 tokens (longrope)" in suits(make_model("phi3", head_dim=8, rope_scaling=longrope))
    assert suits(make_model("phi3", head_dim=8, context=24, rope_scaling=longrope)) is None
    assert suits(make_model()) is None
