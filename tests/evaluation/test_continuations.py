"""Continuations: scores equal those computed one by one, whatever is asked for together and in whatever order."""

import inspect
import random

import numpy as np
import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.answers import fit
from tinyslm.evaluation.continuations import Reading, TokenRequest, encode_pair, score_continuations, windows
from tinyslm.evaluation.protocols import Continuation
from tinyslm.evaluation.runtimes.model_folder import ModelRuntime
from tinyslm.evaluation.token_trees import pack
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.training import train_tokenizer

FAMILIES = {
    "tinyslm": {},
    "gpt2": {},
    "gemma2": {"head_dim": 16, "window": 8},
    "mistral": {"window": 8},
    "phi3": {"window": 0},
}


def runtime_of(family: str = "tinyslm", **more) -> ModelRuntime:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([inspect.getsource(inspect)], vocab_size=400)
    shape = {"dim": 32, "heads": 2, "depth": 2, "context": 48, "init_std": 0.2, **FAMILIES[family], **more}
    return ModelRuntime(Decoder(ModelConfig(family=family, vocab_size=tokenizer.vocab_size, **shape)).eval(), tokenizer)


class OneByOne:
    """The same model without its batches."""

    one_pass = True

    def __init__(self, runtime: ModelRuntime) -> None:
        self.encode, self.encode_chat, self.logprobs = runtime.encode, runtime.encode_chat, runtime.logprobs


def requests() -> list[Continuation]:
    draw = random.Random(0)
    words = ["def", "class", "return", "if", "else", "for", "in", "self", "None", "inspect", "frame", "code"]

    def text(low: int, high: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(low, high)))

    found = [Continuation(text(0, 8), f" {text(1, 5)}") for _ in range(40)]
    found += [Continuation("def get", f" {one}") for one in ("self", "code", "self", "self object", "x")]
    found += [Continuation("", text(1, 4)), Continuation("", text(90, 90)), Continuation(text(90, 90), " self")]
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bos", [True, False])
def test_batches_equal_one_by_one(family: str, bos: bool) -> None:
    runtime = runtime_of(family)
    reading = runtime.reading if bos else Reading((), runtime.reading.max_length)
    together = score_continuations(runtime, reading, requests())
    alone = score_continuations(OneByOne(runtime), reading, requests())
    for one, other in zip(together, alone, strict=True):
        assert one.logprob == pytest.approx(other.logprob, rel=1e-5, abs=1e-4)
        assert (one.tokens, one.greedy, one.cut) == (other.tokens, other.greedy, other.cut)
    assert together[40] == together[40]
    assert together[41 + 1].logprob == together[40].logprob, "equal requests have equal scores"
    assert together[-1].cut > 0


def test_order_and_size_of_batches_do_not_matter(monkeypatch) -> None:
    runtime, asked = runtime_of(), requests()
    scores = score_continuations(runtime, runtime.reading, asked)
    order = random.Random(1).sample(range(len(asked)), len(asked))
    monkeypatch.setattr("tinyslm.evaluation.runtimes.model_folder.ROW_TOKENS", 60)
    monkeypatch.setattr("tinyslm.evaluation.runtimes.model_folder.TOKENS_AT_ONCE", 120)
    monkeypatch.setattr("tinyslm.evaluation.runtimes.model_folder.LOGITS_AT_ONCE", 1)
    again = score_continuations(runtime, runtime.reading, [asked[index] for index in order])
    for index, score in zip(order, again, strict=True):
        assert score.logprob == pytest.approx(scores[index].logprob, rel=1e-5, abs=1e-4)
        assert score.greedy == scores[index].greedy


def test_texts_that_take_other_rotary_factors_by_their_length() -> None:
    half = 8
    scaling = {"kind": "longrope", "original_context": 24, "short_factor": [1.0] * half, "long_factor": [4.0] * half}
    runtime = runtime_of("phi3", head_dim=16, rope_scaling=scaling)
    assert runtime.model.config.switch_length == 24
    asked = [Continuation(" ".join(["self"] * count), " frame object") for count in (1, 5, 10, 25, 30)]
    together = score_continuations(runtime, runtime.reading, asked)
    alone = score_continuations(OneByOne(runtime), runtime.reading, asked)
    for one, other in zip(together, alone, strict=True):
        assert one.logprob == pytest.approx(other.logprob, rel=1e-5, abs=1e-4)


def test_greedy_is_what_the_model_would_write() -> None:
    runtime = runtime_of()
    ids = [*runtime.reading.prefix, *runtime.encode("def get")]
    best = int(runtime.logprobs(ids, [len(ids) - 1])[0].argmax())
    asked = [TokenRequest(tuple(ids), (token,)) for token in (best, best ^ 1)]
    found = runtime.score_many(asked, lambda *_: None)
    assert [greedy for _, greedy in found] == [True, False]


def test_tokens_over_the_border_count_as_the_continuation_s() -> None:
    class Letters:
        def encode(self, text: str) -> list[int]:
            return [len(part) for part in text.replace("ab", "#").replace("#", "|ab|").split("|") if part]

    whole, border = encode_pair(Letters(), Continuation("xa", "b"))  # "x", "ab": the context's "a" is in "ab"
    assert (whole, border) == ((1, 2), 0)


def test_texts_without_tokens_are_refused() -> None:
    class Deaf:
        def encode(self, text: str) -> list[int]:
            return [1] * text.count("a")

    with pytest.raises(TinyslmError, match="has no tokens after"):
        score_continuations(Deaf(), Reading((0,), 8), [Continuation("a", "b")])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.5])
def test_what_is_no_probability_is_named(value: float) -> None:
    class Broken:
        def score_text(self, request):
            from tinyslm.evaluation.protocols import ContinuationScore

            return ContinuationScore(value, 1, False)

    with pytest.raises(TinyslmError, match=r"assigns the impossible log-probability .* to 'text'"):
        score_continuations(Broken(), Reading((), 8), [Continuation("", "text")])


def test_weights_that_are_not_numbers_are_named() -> None:
    runtime = runtime_of()
    with torch.no_grad():
        runtime.model.lm_head.weight[5] = float("nan")
    with pytest.raises(TinyslmError, match="assigns the impossible log-probability nan"):
        score_continuations(runtime, runtime.reading, [Continuation("def", " get")])


@pytest.mark.parametrize("read", [(), (1,), (1, 2, 3)])
@pytest.mark.parametrize("length", [1, 4, 5, 6, 11])
def test_windows_score_every_token_once(read: tuple[int, ...], length: int) -> None:
    scored = tuple(range(10, 10 + length))
    found = windows(read, scored, 8)
    assert sum((one.scored for one in found), ()) == scored
    assert all(len(one.read) + len(one.scored) - 1 <= 8 for one in found)
    assert all(one.read for one in found[1:])


def test_rows_hold_shared_beginnings_once() -> None:
    sequences = [(1, 2, 3), (1, 2, 4, 5), (9,), (1, 2, 3), (1, 2)]
    (row,) = pack(sequences, 100)
    assert len(row.ids) == 6
    for number, sequence in enumerate(sequences):
        places = row.paths[number]
        assert [row.ids[place] for place in places] == list(sequence)
        assert [row.positions[place] for place in places] == list(range(len(sequence)))
        seen = np.flatnonzero(row.mask(8)[places[-1]])
        assert sorted(places) == seen.tolist(), "a token attends to itself and what stands before it, and to no more"
    assert sorted(number for row in pack(sequences, 4) for number in row.paths) == [0, 1, 2, 3, 4]


def test_a_long_prompt_keeps_what_begins_every_text() -> None:
    reading = Reading((7,), 8)
    assert fit((7, 1, 2, 3), reading, 4) == (7, 1, 2, 3)
    assert fit((7, 1, 2, 3, 4, 5), reading, 4) == (7, 3, 4, 5)
    assert fit((1, 2, 3, 4, 5, 6), reading, 4) == (3, 4, 5, 6)
    assert fit((7, *range(20)), reading, 100) == (7, 17, 18, 19), "half of the context is for the prompt"
