"""What is chosen for a budget: never worse with more, within it, and with everything that the user fixed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import MACHINE, text

from tinyslm.core.errors import TinyslmError
from tinyslm.planning.choice import MOST_EPOCHS, Budget, Search
from tinyslm.planning.law import read_law
from tinyslm.training.memory import peak_bytes

LAW = read_law()


@pytest.fixture(scope="module")
def stories() -> Search:
    """For a text with one vocabulary, which leaves a quarter of all candidates."""
    return Search(text(100, bytes_per_token={4096: 3.6}), MACHINE, LAW, {})


@given(st.lists(st.floats(0.5, 5000), min_size=2, max_size=4))
@settings(max_examples=8, deadline=None)
def test_more_minutes_are_never_expected_to_be_worse(stories, minutes) -> None:
    bits = [stories.choose(Budget(minutes=one)).expected.bits_per_byte for one in sorted(minutes)]
    assert bits == sorted(bits, reverse=True)


def test_minutes_are_used_and_not_exceeded(stories) -> None:
    for minutes in (0.5, 1, 5, 60):
        chosen = stories.choose(Budget(minutes=minutes))
        assert chosen.config.train.minutes == minutes
        assert chosen.config.train.steps == 0  # they are counted when the run has measured itself
        one_more = chosen.seconds / chosen.steps * 2
        assert 60 * minutes - one_more < chosen.seconds <= 60 * minutes * 1.001


def test_longer_runs_get_larger_models_and_lower_rates(stories) -> None:
    short, long = (stories.choose(Budget(minutes=minutes)).config for minutes in (1, 240))
    assert long.model.parameters > 2 * short.model.parameters
    assert long.optimizer.lr < short.optimizer.lr


def test_short_text_is_read_often_with_dropout_and_plentiful_text_once() -> None:
    short, long = (Search(text(size), MACHINE, LAW, {}).choose(Budget(minutes=10)) for size in (0.5, 1000))
    read = [chosen.steps * chosen.config.train.batch * chosen.config.model.context for chosen in (short, long)]
    length = text(1).bytes_in_token(short.config.model.vocab_size)
    assert read[0] * length > 4 * 0.475e6
    assert short.config.model.dropout > 0
    assert read[1] < 100e6
    assert long.config.model.dropout == 0
    assert short.expected.bits_per_byte > long.expected.bits_per_byte


def test_nobody_reads_a_text_without_end() -> None:
    chosen = Search(text(0.05), MACHINE, LAW, {}).choose(Budget(minutes=600))
    model, train = chosen.config.model, chosen.config.train
    length = {320: 1.0, 1024: 2.5, 2048: 3.0, 4096: 3.6}[model.vocab_size]
    assert train.steps == chosen.steps
    assert train.steps * train.batch * model.context * length <= MOST_EPOCHS * 0.0475e6
    assert chosen.seconds < 600 * 60


@pytest.mark.parametrize(
    "fixed",
    [
        {"model": {"context": "512"}, "train": {"batch": 12}},
        {"model": {"dim": 192}},
        {"model": {"depth": 3, "family": "llama", "heads": 4}},
        {"optimizer": {"lr": 0.001, "name": "adamw"}, "schedule": {"decay": 0.3}},
        {"model": {"dropout": 0.15}, "train": {"seed": 7, "micro_batch": 1}},
    ],
)
def test_what_the_user_fixed_stays(fixed) -> None:
    config = Search(text(20), MACHINE, LAW, fixed).choose(Budget(minutes=5)).config.model_dump()
    for section, values in fixed.items():
        for key, value in values.items():
            assert str(config[section][key]) == str(value)


def test_one_known_vocabulary_is_taken() -> None:
    survey = text(20, bytes_per_token={777 * 64: 4.5})
    assert Search(survey, MACHINE, LAW, {}).choose(Budget(minutes=5)).config.model.vocab_size == 777 * 64


def test_tokens_are_read_by_a_model_that_suits_them(stories) -> None:
    few, many = (stories.choose(Budget(tokens=tokens)) for tokens in (500_000, 50_000_000))
    for chosen, tokens in ((few, 500_000), (many, 50_000_000)):
        per_update = chosen.config.train.batch * chosen.config.model.context
        assert chosen.steps * per_update == pytest.approx(tokens, abs=per_update)
        assert chosen.config.train.steps == chosen.steps
    assert many.config.model.parameters > few.config.model.parameters


def test_an_update_fits_into_the_shortest_budget(stories) -> None:
    for budget in (Budget(minutes=0.4), Budget(tokens=50_000), Budget(minutes=0.001)):
        chosen = stories.choose(budget)
        assert chosen.steps >= (1 if budget.minutes == 0.001 else 20)


def test_minutes_and_tokens_bound_each_other(stories) -> None:
    chosen = stories.choose(Budget(minutes=60, tokens=100_000))
    assert chosen.config.train.steps * chosen.config.train.batch * chosen.config.model.context <= 100_000
    assert chosen.seconds < 3600


def test_parameters_are_met_roughly() -> None:
    stories = Search(text(100), MACHINE, LAW, {})
    for parameters in (500_000, 3_000_000, 10_000_000):
        config = stories.choose(Budget(minutes=5, parameters=parameters)).config
        assert config.model.parameters == pytest.approx(parameters, rel=0.16)
    with pytest.raises(TinyslmError, match="No model of about 90 B parameters"):
        stories.choose(Budget(minutes=5, parameters=90_000_000_000))


def test_the_memory_limit_is_kept_in_smaller_parts_if_need_be(stories) -> None:
    free = stories.choose(Budget(minutes=600))
    least = peak_bytes(stories.choose(Budget(minutes=1)).config)
    limit = (peak_bytes(free.config) + least) // 2
    chosen = stories.choose(Budget(minutes=600, memory_bytes=limit))
    assert peak_bytes(chosen.config) <= limit < peak_bytes(free.config)
    shape = {"dim": 512, "depth": 8, "context": 512, "vocab_size": 4096}
    tight = Search(text(20), MACHINE, LAW, {"model": shape, "train": {"batch": 16}})
    whole = peak_bytes(tight.choose(Budget(minutes=5)).config)
    parts = tight.choose(Budget(minutes=5, memory_bytes=int(0.9 * whole)))
    again = tight.choose(Budget(minutes=5, memory_bytes=1_400_000_000))
    assert parts.config.train.micro_batch < 16
    assert not parts.config.train.checkpoint_activations
    assert again.config.train.checkpoint_activations
    assert again.steps < parts.steps
    with pytest.raises(TinyslmError, match=r"trains in 1 MB of memory.*\n.*is the least"):
        stories.choose(Budget(minutes=5, memory_bytes=1_000_000))


def test_settings_that_make_no_model_are_told() -> None:
    with pytest.raises(TinyslmError, match="must be a multiple of heads"):
        Search(text(20), MACHINE, LAW, {"model": {"dim": 64, "heads": 7, "kv_heads": 7}})


def test_a_budget_is_above_zero() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Budget(minutes=0)
