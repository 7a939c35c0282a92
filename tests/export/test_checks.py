"""What a check finds, and how it is judged."""

import dataclasses
import math

import numpy as np
import pytest
from own_runtime import OwnRuntime, write_small_model

from tinyslm.export.checks import (
    TIE,
    Findings,
    Reference,
    agreement,
    decoding_speed,
    divergence,
    judge,
    measure,
)
from tinyslm.export.exporting import export_model
from tinyslm.export.format import Original, Scheme
from tinyslm.export.formats import find_format
from tinyslm.export.probes import strings
from tinyslm.inference.request import Completion
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer

EXACT = Scheme("", largest_kl=1e-5, exact=True)
ROUNDED = Scheme("", largest_kl=0.1)
PERFECT = Findings(
    strings=500, strings_equal=500, prompts=20, prompts_equal=20, ties=1, positions=96, mean_kl=0.0,
    chats=3, chats_equal=3, ends=4, ends_equal=4, tokens_per_second=10.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = write_small_model(tmp_path_factory.mktemp("model") / "small")
    return Original(folder, load_model(folder), load_tokenizer(folder))


@pytest.fixture(scope="module")
def reference(original):
    return Reference(original)


@pytest.fixture
def own_runtime(original):
    return OwnRuntime(original.model, original.tokenizer)


@pytest.fixture
def other_runtime(original, tmp_path):
    return OwnRuntime(load_model(write_small_model(tmp_path / "other", seed=1)), original.tokenizer)


@pytest.mark.parametrize(
    ("change", "exact", "rounded"),
    [
        ({}, "ok", "ok"),
        ({"strings_equal": 499}, "1 of 500 strings", "1 of 500 strings"),
        ({"chats_equal": 1}, "2 of 3 conversations", "2 of 3 conversations"),
        ({"prompts_equal": 19}, "1 of 20 prompts", "ok"),
        ({"ends_equal": 3}, "1 of 4 texts do not end", "ok"),
        ({"ends": 1, "ends_equal": 0}, "1 of 1 texts do not end", "ok"),
        ({"ends_equal": 1}, "3 of 4 texts do not end", "3 of 4 texts do not end"),
        ({"mean_kl": 0.05}, "mean KL is 0.05", "ok"),
        ({"mean_kl": 0.5}, "mean KL is 0.5", "mean KL is 0.5, more than 0.1"),
        ({"mean_kl": math.nan}, "mean KL is nan", "mean KL is nan"),
        ({"mean_kl": math.inf}, "mean KL is inf", "mean KL is inf"),
        ({"chats": 0, "chats_equal": 0, "ends": 0, "ends_equal": 0, "tokens_per_second": None}, "ok", "ok"),
    ],
)
def test_what_counts_as_working(change, exact, rounded):
    found = dataclasses.replace(PERFECT, **change)
    for scheme, expected in ((EXACT, exact), (ROUNDED, rounded)):
        verdict = judge(found, scheme)
        assert verdict == "ok" if expected == "ok" else verdict.startswith("failed: ") and expected in verdict


def test_every_reason_is_told():
    verdict = judge(dataclasses.replace(PERFECT, strings_equal=0, mean_kl=9.0), ROUNDED)
    assert "500 of 500 strings have other ids; mean KL is 9" in verdict


def logprobs(*rows):
    """Log-probabilities from unnormalised ones, a row for each position."""
    return np.array(rows, np.float32)


class TestGreedyTokens:
    """Token 3 ends a text; two tokens are asked for."""

    ROWS = logprobs([-1, -2, -3, -4], [-3, -1, -2, -4], [-4, -3, -2, -1])

    def test_equal(self):
        assert agreement([0, 1], self.ROWS, {3}, 2).equal

    def test_equal_up_to_the_end(self):
        found = agreement([0, 1], self.ROWS, {3}, 3)
        assert (found.equal, found.tie) == (True, False)

    @pytest.mark.parametrize(
        ("tokens", "other"),
        [
            ([0, 2], "token 2 of a continuation: token 2 instead of token 1"),
            ([0], "the end instead of token 1"),
            ([1, 1], "token 1"),
        ],
    )
    def test_another_token(self, tokens, other):
        found = agreement(tokens, self.ROWS, {3}, 2)
        assert not found.equal
        assert other in found.other

    @pytest.mark.parametrize(("gap", "equal"), [(TIE / 2, True), (TIE * 2, False)])
    def test_a_tie_counts_as_equal(self, gap, equal):
        rows = logprobs([-1, -1 - gap, -9, -9], [-1, -2, -9, -9])
        found = agreement([1, 0], rows, {3}, 2)
        assert (found.equal, found.tie) == (equal, equal)

    def test_a_tie_of_the_end(self):
        assert agreement([], logprobs([-1, -2, -9, -1.0005]), {3}, 2).tie
        assert agreement([0], logprobs([-1.0005, -2, -9, -1], [-1, -2, -2, -2]), {3}, 1).tie

    def test_where_the_original_ends_is_told(self):
        ending = logprobs([-1, -2, -3, -4], [-3, -2, -2, -1])
        assert agreement([0], ending, {3}, 2).end
        assert not agreement([0, 1], self.ROWS, {3}, 2).end
        passed = agreement([0, 1], ending, {3}, 2)
        assert (passed.equal, passed.end, passed.other) == (
            False,
            True,
            "token 2 of a continuation: token 1 instead of the end",
        )

    def test_an_end_that_is_passed_over_is_no_tie(self):
        assert not agreement([3, 0], logprobs([-9, -9, -9, -1], [-1, -2, -2, -2]), {3}, 2).equal
        assert not agreement([3, 0], logprobs([-1, -9, -9, -1.0001], [-1, -2, -2, -2]), {3}, 2).equal


class TestDivergence:
    def test_the_textbook_formula(self):
        p, q = np.array([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.25, 0.5]])
        expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
        assert divergence(np.log(p), np.log(q)) == pytest.approx([expected])

    def test_what_has_no_probability_adds_nothing(self):
        p = np.array([[0.0, -np.inf]], np.float32)
        assert divergence(p, p).tolist() == [0.0]

    def test_another_vocabulary_is_told(self):
        with pytest.raises(ValueError, match="3 tokens instead of 2"):
            divergence(np.zeros((1, 2)), np.zeros((1, 3)))


def test_the_strings_are_varied_valid_and_always_the_same():
    found = strings(2000)
    assert found == strings(2000)
    assert len(set(found)) == 2000
    assert found[:100] == strings(100)
    whole = "".join(found)
    assert whole.encode()
    assert set("\x00\n\t漢é🦊") <= set(whole)
    assert "<|im_end|>" in whole


def test_the_original_agrees_with_itself(original, reference, own_runtime):
    found = measure(own_runtime, reference, EXACT)
    assert judge(found, EXACT) == "ok"
    assert (found.strings, found.prompts, found.chats) == (500, 23, 3)
    assert found.ends > 0
    assert found.positions >= 50
    assert found.tokens_per_second > 0


def test_another_model_is_found_out(reference, other_runtime):
    found = measure(other_runtime, reference, EXACT)
    verdict = judge(found, EXACT)
    assert "prompts are continued otherwise" in verdict
    assert "mean KL" in verdict
    assert found.other.startswith("token ")


def test_a_runtime_that_never_stops_is_found_out(original, reference):
    never = OwnRuntime(original.model, original.tokenizer, stops=False)
    found = measure(never, reference, ROUNDED)
    assert found.ends_equal < found.ends / 2
    assert "texts do not end where they should" in judge(found, ROUNDED)


def test_another_chat_template_is_found_out(reference, own_runtime):
    own_runtime.prefix = [5]
    assert "3 of 3 conversations have other ids" in judge(measure(own_runtime, reference, EXACT), ROUNDED)


def test_prompts_come_from_the_texts_that_are_given(original):
    texts = ["zebra " * 400, "quagga " * 400]
    prompts = Reference(original, texts).prompts
    assert sum("zebra" in original.tokenizer.decode(ids) for ids in prompts) == 5
    assert all(ids[0] == original.tokenizer.eos_id for ids in prompts[:20])


def test_everything_leaves_one_place_of_a_small_context_free(original):
    shape = ModelConfig(vocab_size=original.tokenizer.vocab_size, dim=32, head_dim=16, depth=1, context=16)
    reference = Reference(
        Original(original.folder, Decoder(shape).eval(), original.tokenizer), ["word " * 99], longest=15
    )
    assert all(len(ids) + reference.greedy_tokens <= 15 for ids in reference.prompts)
    assert all(len(ids) <= 15 for ids in reference.passages)
    assert reference.logprobs(reference.passages[0]).shape == (15, original.tokenizer.vocab_size)


def test_a_model_that_ends_at_once_has_no_speed():
    class Silent:
        def generate(self, prompt, settings):
            return Completion("", "stop", 1)

    assert decoding_speed(Silent(), [[1, 2]]) is None


WINDOWED = {"family": "mistral", "window": 80, "window_layers": (0,), "context": 256}


class TestWindows:
    """A model whose attention has a window is tried past it, in programs that have windows."""

    @pytest.fixture(scope="class")
    @classmethod
    def windowed(cls, tmp_path_factory):
        folder = write_small_model(tmp_path_factory.mktemp("model") / "windowed", **WINDOWED)
        return Original(folder, load_model(folder), load_tokenizer(folder))

    def test_a_runtime_without_the_window_is_found_out(self, windowed):
        reference = Reference(windowed)
        assert len(reference.past_window) > 80
        right = measure(OwnRuntime(windowed.model, windowed.tokenizer), reference, EXACT)
        assert (judge(right, EXACT), right.past_window) == ("ok", True)
        shape = windowed.model.config.model_copy(update={"window": 0, "window_layers": ()})
        without = Decoder(shape).eval()
        without.load_state_dict(windowed.model.state_dict())
        assert judge(measure(OwnRuntime(without, windowed.tokenizer), reference, EXACT), EXACT).startswith("failed")

    def test_what_a_runtime_reads_bounds_every_text(self, windowed):
        reference = Reference(windowed, longest=79)
        assert reference.past_window == []
        assert max(map(len, reference.prompts)) + reference.greedy_tokens <= 79
        assert measure(OwnRuntime(windowed.model, windowed.tokenizer), reference, EXACT).past_window is False

    def test_each_format_says_how_much_is_read(self, windowed):
        longest = {name: find_format(name).longest(windowed.model) for name in ("gguf", "onnx", "hf")}
        assert longest == {"gguf": 79, "onnx": 256, "hf": 256}

    def test_real_programs_agree_past_the_window(self, windowed, tmp_path):
        made = export_model(windowed.folder, "gguf:f32,onnx:fp32,hf:f32", tmp_path, threads=1)
        assert [row.verdict for row in made] == ["ok"] * 3
        assert [row.findings.past_window for row in made] == [False, True, True]


def test_the_number_of_greedy_tokens_is_told(original):
    found = measure(OwnRuntime(original.model, original.tokenizer), Reference(original, longest=20), EXACT)
    assert found.greedy_tokens == 10


def test_llama_cpp_reads_gemma_3_past_its_window(tmp_path):
    gemma = {"norm_offset": True, "norm_place": "both", "feed_forward": "geglu", "qk_norm": True, "tied": True}
    shape = {"window": 80, "window_layers": (0,), "context": 256, "local_rope_theta": 1e4, "embedding_scale": 8.0}
    folder = write_small_model(tmp_path / "gemma", family="gemma3", **gemma, **shape)
    made = export_model(folder, "gguf:f32", tmp_path)
    assert (made[0].verdict, made[0].findings.past_window) == ("ok", True)


@pytest.mark.parametrize(
    ("found", "failed", "words"),
    [
        ({"strings_equal": 99}, True, "cuts such a text into tokens that the model did not learn"),
        ({"prompts_equal": 1}, True, "does not compute what the model computes"),
        ({"prompts_equal": 1, "mean_kl": 0.002}, False, "perplexity rises by 0.2%: this hardly matters"),
        ({"prompts_equal": 1, "mean_kl": 0.05}, False, "rises by 5.1%: answers may differ in wording"),
        ({"prompts_equal": 1, "mean_kl": 0.4}, False, "rises by 49.2%: this is noticeable"),
    ],
)
def test_a_difference_is_explained(found: dict, failed: bool, words: str) -> None:
    assert words in dataclasses.replace(PERFECT, **found).meaning(failed=failed)
