"""The law: more of what helps never hurts, and what nobody has tried is less certain."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planned import text

from tinyslm.model.config import ModelConfig
from tinyslm.planning import probe
from tinyslm.planning.law import MOST_REPEATS, Conditions, conditions, predict, read_law, worth
from tinyslm.planning.rates import dropout, momentum, rates

LAW = read_law()
SOME = Conditions(2.5, 2.2, 3.0, 0.8, 1.0, 0.3, 0.3, 1.0, 5.0, 3.0, 3.0, 4096, 256, 4, 128)


@given(
    st.sampled_from(["block_weights", "table_weights", "output_weights", "tokens", "unique_tokens"]),
    st.floats(0.01, 100),
    st.floats(1, 50),
)
def test_more_weights_or_text_are_expected_to_be_better(name, value, times) -> None:
    less, more = SOME._replace(**{name: value}), SOME._replace(**{name: value * times})
    assert predict(LAW.coefficients, more) <= predict(LAW.coefficients, less) + 1e-12


@given(st.floats(0.5, 8), st.floats(1.01, 3))
def test_harder_text_is_expected_to_score_worse(bits, times) -> None:
    easy, hard = (SOME._replace(probe_bits=one) for one in (bits, bits * times))
    assert predict(LAW.coefficients, hard) == pytest.approx(times * predict(LAW.coefficients, easy))


def test_the_probe_itself_is_expected_to_score_what_it_did() -> None:
    table = probe.MODEL.vocab_size * probe.MODEL.dim
    same = SOME._replace(
        block_weights=(probe.MODEL.parameters - table) / 1e6,
        table_weights=table / 1e6,
        output_weights=0,
        tokens=probe.TOKENS / 1e6,
        unique_tokens=SOME.probed,
        bytes_per_token=1,
        held_out_bytes_per_token=1,
        tokens_per_update=probe.TOKENS / probe.STEPS,
        context=probe.MODEL.context,
        depth=probe.MODEL.depth,
        dim=probe.MODEL.dim,
    )
    assert predict(LAW.coefficients, same) == pytest.approx(SOME.probe_bits)


def test_shorter_tokens_in_what_is_held_out_are_expected_to_cost_as_much() -> None:
    shorter = SOME._replace(held_out_bytes_per_token=2.4)
    assert predict(LAW.coefficients, shorter) == pytest.approx(1.25 * predict(LAW.coefficients, SOME))


def test_larger_updates_waste_tokens_less_so_the_more_is_read_and_small_ones_follow_noise() -> None:
    def cost(tokens_per_update: int, tokens: float) -> float:
        read = SOME._replace(tokens=tokens, unique_tokens=1000)
        return predict(LAW.coefficients, read._replace(tokens_per_update=tokens_per_update)) / predict(
            LAW.coefficients, read
        )

    assert cost(65536, 1) > cost(65536, 10) > 1
    assert cost(256, 1) > 1


def test_weights_are_worth_less_in_few_and_in_narrow_blocks() -> None:
    deep, shallow, narrow = (SOME._replace(depth=depth, dim=dim) for depth, dim in ((8, 128), (2, 128), (8, 32)))
    assert predict(LAW.coefficients, deep) < predict(LAW.coefficients, shallow)
    assert predict(LAW.coefficients, deep) < predict(LAW.coefficients, narrow)


def test_a_long_context_is_worth_more_to_who_has_read_much_and_in_code() -> None:
    def gain(tokens: float, shallow: float) -> float:
        near = SOME._replace(tokens=tokens, unique_tokens=1000, context_bits=shallow * SOME.xz_bits, context=64)
        return 1 - predict(LAW.coefficients, near._replace(context=1024)) / predict(LAW.coefficients, near)

    assert gain(1, 1.5) < gain(10, 1.5)
    assert gain(10, 0.85) < gain(10, 1.5)


def test_repeated_text_is_worth_less_each_time() -> None:
    assert worth(3, 5, 10) == 3
    gains = [worth(5 * (epoch + 1), 5, 10) - worth(5 * epoch, 5, 10) for epoch in range(1, 30)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] < 5
    assert worth(1e9, 5, 10) == pytest.approx(55)


def test_reading_again_is_worth_more_in_code_than_in_a_play_and_never_more_than_was_published() -> None:
    again = SOME._replace(tokens=30, unique_tokens=3)
    play, code = (again._replace(context_bits=share * SOME.xz_bits) for share in (0.85, 1.2))
    alike = LAW.coefficients.model_copy(update={"rereading": 1e-9})
    assert predict(LAW.coefficients, code) < predict(alike, code)
    assert predict(LAW.coefficients, play) > predict(alike, play)
    most, more = (alike.model_copy(update={"repeats": repeats}) for repeats in (MOST_REPEATS, 1000))
    assert predict(more, code) == pytest.approx(predict(most, code))


def test_a_larger_model_is_worth_more_where_there_is_more_text() -> None:
    def gain(tokens: float, coefficients) -> float:
        read = SOME._replace(tokens=tokens, unique_tokens=1000)
        return predict(coefficients, read) - predict(coefficients, read._replace(block_weights=4 * read.block_weights))

    added = LAW.coefficients.model_copy(update={"joining": 1.0})
    assert gain(2, added) == pytest.approx(gain(20, added))
    assert gain(2, LAW.coefficients) < 0.95 * gain(20, LAW.coefficients)


def test_intervals_hold_the_expectation_and_widen_outside_of_what_was_fitted() -> None:
    inside = SOME._replace(tokens=math.sqrt(LAW.tokens.low * LAW.tokens.high))
    outside = inside._replace(tokens=100 * LAW.tokens.high, block_weights=100 * LAW.weights.high)
    widths = []
    for one in (inside, outside):
        bits, low, high = LAW.expect(one)
        assert low < bits < high
        widths.append(high / low)
    assert widths[1] > widths[0]


def test_conditions_come_from_the_settings() -> None:
    model = ModelConfig(dim=128, depth=2, vocab_size=2048, context=256)
    found = conditions(text(3), model, batch=8, steps=100)
    assert found.block_weights + found.table_weights + found.output_weights == pytest.approx(model.parameters / 1e6)
    assert found.table_weights == found.output_weights == pytest.approx(2048 * 128 / 1e6)
    assert found.tokens == pytest.approx(100 * 8 * 256 / 1e6)
    assert found.unique_tokens == pytest.approx(0.95)
    assert found.held_out_bytes_per_token == found.bytes_per_token == 3
    of_other_kind = text(3, held_out_bytes_per_token={2048: 2.5})
    assert conditions(of_other_kind, model, batch=8, steps=100).held_out_bytes_per_token == 2.5


def test_rates_fall_with_length_and_width_and_dropout_comes_with_repeats() -> None:
    short, long, wide = rates(256, 4096, 100, 1), rates(256, 4096, 1000, 1), rates(1024, 4096, 1000, 1)
    assert long["optimizer"] == {"muon_lr": 0.02, "muon_momentum": 0.88, "lr": 0.005}
    assert short["optimizer"]["lr"] > long["optimizer"]["lr"] > wide["optimizer"]["lr"]
    assert wide["optimizer"]["muon_lr"] == 0.02
    assert [momentum(steps) for steps in (1, 500, 1500, 100_000)] == [0.8, 0.83, 0.9, 0.95]
    assert [dropout(epochs, 4) for epochs in (1, 4, 8, 16, 1000)] == [0, 0, 0.1, 0.15, 0.2]
    assert [dropout(16, weights) for weights in (0, 1, 2, 4, 8)] == [0, 0.04, 0.08, 0.15, 0.15]
