"""Guesses change no text: by looking up, by a draft model; greedy, with a seed, and in distribution."""

import copy
import itertools

import numpy as np
import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.batching import EngineOptions
from tinyslm.inference.draft import Draft
from tinyslm.inference.engine import Engine
from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.torch_runner import TorchRunner
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.tokenizer.training import train_tokenizer

PROMPT = "def find(name, other):\n    return find(name, "
WAYS = {"nothing": {"guesses": 0}, "looking up": {}, "a draft": {"draft": True}, "itself": {"draft": "itself"}}


@pytest.fixture(scope="module")
def other(make_tiny):
    """A smaller model with the same tokenizer."""
    return make_tiny(seed=7, dim=32, depth=1)


@pytest.fixture(scope="module", params=["native", "torch"])
def guessing(request, folder, other, make_engine):
    """One engine for each way of guessing."""
    if request.param == "native":
        make_engine("native").close()  # or skip
    drafts = {True: other, "itself": folder, None: None}
    made = {
        way: open_engine(
            folder,
            request.param,
            threads=1,
            options=EngineOptions(cache_tokens=1024, guesses=how.get("guesses", 8)),
            draft=drafts[how.get("draft")],
            device="cpu",
        )
        for way, how in WAYS.items()
    }
    yield made
    for engine in made.values():
        engine.close()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_text_is_the_same_whoever_guesses(guessing, temperature: float) -> None:
    settings = [SamplingSettings(max_tokens=50, temperature=temperature, seed=seed, stop=("()",)) for seed in range(2)]
    texts = {way: [engine.complete(PROMPT, one) for one in settings] for way, engine in guessing.items()}
    assert all(found == texts["nothing"] for found in texts.values())


def test_guesses_were_made_and_some_were_right(guessing) -> None:
    for way, engine in guessing.items():
        engine.complete(PROMPT * 2, SamplingSettings(max_tokens=60, temperature=0))
        stats = engine.stats()
        assert (stats.drafted_tokens > 0) == (way != "nothing")
        if way == "itself":
            assert stats.accepted_tokens > stats.drafted_tokens / 2


def test_several_texts_and_full_contexts(guessing) -> None:
    settings = SamplingSettings(max_tokens=130, temperature=1.0, seed=4)
    expected = guessing["nothing"].complete(PROMPT, settings, n=3)
    assert [len(one.ids) for one in expected] == [130] * 3
    assert all(engine.complete(PROMPT, settings, n=3) == expected for engine in guessing.values())


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder), load_tokenizer(folder)


class TestMemory:
    def test_texts_share_too_little_room(self, model) -> None:
        draft = Draft(*model, runner=TorchRunner, texts=1)
        engine = Engine(*model, EngineOptions(cache_tokens=1024), runner=TorchRunner, guesser=draft.guesser)
        settings = SamplingSettings(max_tokens=60, temperature=0)
        together = [engine.submit(engine.completion_request(text, settings)) for text in (PROMPT, "import ", "x")]
        found = [generation.whole() for generation in together]
        plain = Engine(*model, EngineOptions(guesses=0), runner=TorchRunner)
        assert found == [plain.complete(text, settings) for text in (PROMPT, "import ", "x")]
        assert engine.stats().accepted_tokens > 20

    def test_room_is_given_back(self, model) -> None:
        draft = Draft(*model, runner=TorchRunner, texts=1)
        for _ in range(3):
            guesser = draft.guesser()
            assert guesser.guess(list(range(100, 190)), 4)
            assert len(guesser.table) == 6
            del guesser
        assert draft.guesser().guess(list(range(100, 227)), 8) == draft.guesser().guess(list(range(100, 227)), 8)

    def test_another_beginning_is_read_anew(self, model) -> None:
        draft = Draft(*model, runner=TorchRunner)
        guesser = draft.guesser()
        guesser.guess(list(range(100, 140)), 4)
        tokens = list(range(120, 180))
        assert guesser.guess(tokens, 2) == draft.guesser().guess(tokens, 2)

    def test_nothing_is_guessed_beyond_the_context(self, model) -> None:
        assert Draft(*model, runner=TorchRunner).guesser().guess(list(range(128)), 8) == []


def test_another_tokenizer_is_refused(folder, tmp_path) -> None:
    tokenizer = train_tokenizer([], kind="byte")
    save_model(Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, dim=32, depth=1)), tmp_path / "bytes", tokenizer)
    with pytest.raises(TinyslmError, match="another tokenizer"):
        open_engine(folder, "torch", draft=tmp_path / "bytes")


@pytest.mark.parametrize("way", ["looking up", "a draft"])
def test_draws_are_distributed_as_without_guesses(way: str) -> None:
    """Chi-square test over all texts of two tokens, at a tiny vocabulary, against the model's own probabilities."""
    tokenizer = train_tokenizer([], kind="byte")
    torch.manual_seed(3)
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, dim=32, depth=2, context=64, tied=True)).eval()
    ids = [*b"abacabadabacab"]
    letters = list(b"abc")
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(0.1)
        model.model.embed_tokens.weight[letters] *= 30
        allowed = {token: -1e4 for token in range(tokenizer.vocab_size) if token not in letters}
    expected = np.array([chance(model, ids, pair, letters) for pair in itertools.product(letters, repeat=2)])
    assert expected.sum() == pytest.approx(1)
    certain = copy.deepcopy(model)
    with torch.no_grad():
        certain.model.norm.weight.mul_(20)
    guesser = Draft(certain, tokenizer, runner=TorchRunner).guesser if way == "a draft" else None
    options = EngineOptions(cache_tokens=1024)
    engine = Engine(model, tokenizer, options, runner=TorchRunner, guesser=guesser)
    counts = np.zeros(9)
    for seed in range(0, DRAWS, TOGETHER):  # the n-th text of a request has the n-th seed after its own
        for found in draw(engine, tuple(ids), seed, allowed):
            counts[letters.index(found[0]) * 3 + letters.index(found[1])] += 1
    stats = engine.stats()
    assert 0 < stats.accepted_tokens < stats.drafted_tokens
    statistic = ((counts - DRAWS * expected) ** 2 / (DRAWS * expected)).sum()
    assert statistic < 26.1  # 8 degrees of freedom: one in a thousand is more


DRAWS, TOGETHER = 600, 4


def chance(model, ids: list[int], pair: tuple[int, ...], letters: list[int]) -> float:
    """Probability of two letters after `ids`, when only letters are drawn."""
    result = 1.0
    for place, token in enumerate(pair):
        with torch.no_grad():
            logits_v = model(torch.tensor([[*ids, *pair[:place]]]))[0, -1]
        result *= float(logits_v[letters].double().softmax(-1)[letters.index(token)])
    return result


def draw(engine, ids: tuple[int, ...], seed: int, bias) -> list[tuple[int, ...]]:
    from tinyslm.inference.request import Request

    settings = SamplingSettings(max_tokens=3, temperature=1.0, seed=seed)
    return [one.ids for one in engine.submit(Request(ids, settings, n=TOGETHER, bias=bias)).whole()]
