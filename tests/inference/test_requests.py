"""Requests: many at once are as good as alone, prompts are shared, each can be cancelled, errors reach their owner."""

import json
import threading

import numpy as np
import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.batching import EngineOptions
from tinyslm.inference.engine import Engine, EngineFull
from tinyslm.inference.grammar import Grammar, Matcher
from tinyslm.inference.request import Request
from tinyslm.inference.sampler import log_probabilities
from tinyslm.inference.scheduler import Limits
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.speculation import LookUp


@pytest.fixture
def engine(make_engine) -> Engine:
    return make_engine()


def remade(engine: Engine, **options) -> Engine:
    return Engine(engine.model, engine.tokenizer, EngineOptions(**options))


def asked(engine: Engine, prompt: str, **settings) -> Request:
    chosen = {"max_tokens": 20, "temperature": 1.0, "seed": 0, **settings}
    return Request(engine.prompt_ids(prompt), SamplingSettings(**chosen))


def test_requests_side_by_side_give_what_they_give_alone(engine) -> None:
    requests = [asked(engine, "abc" * (1 + number), seed=number, max_tokens=5 + number) for number in range(9)]
    alone = [engine.submit(request).whole() for request in requests]
    generations = [engine.submit(request) for request in requests]
    assert [generation.whole() for generation in generations] == alone


def test_requests_of_many_threads_run_side_by_side(engine) -> None:
    requests = [asked(engine, chr(97 + number) * 5, seed=number) for number in range(8)]
    alone = [engine.submit(request).whole() for request in requests]
    engine.start()
    found: list = [None] * 8
    threads = [
        threading.Thread(
            target=lambda number=number: found.__setitem__(number, engine.submit(requests[number]).whole())
        )
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.close()
    assert found == alone


def test_too_little_memory_for_all_changes_nothing_but_the_order_of_work(engine) -> None:
    requests = [asked(engine, "abc" * 6, seed=number, max_tokens=30) for number in range(4)]
    plenty = [one.whole() for one in [engine.submit(request) for request in requests]]
    narrow = remade(engine, cache_tokens=1, limits=Limits(rows=16, busy_rows=4))
    assert [one.whole() for one in [narrow.submit(request) for request in requests]] == plenty


def test_a_prompt_that_was_read_before_is_not_read_again(engine) -> None:
    first, second = (engine.submit(asked(engine, "a long beginning, shared by both " + end)) for end in "xy")
    first.whole()
    second.whole()
    third = engine.submit(asked(engine, "a long beginning, shared by both x"))
    third.whole()
    assert first.usage.cached_tokens == 0
    assert third.usage.cached_tokens == 32
    assert third.usage.prompt_tokens == len(third.request.prompt_ids)
    assert third.usage.generated_tokens == 20


def test_samples_share_their_prompt(engine, monkeypatch) -> None:
    rows = []
    run = engine._batch.runner.run
    monkeypatch.setattr(engine._batch.runner, "run", lambda asked: rows.append(len(asked.ids)) or run(asked))
    request = Request(engine.prompt_ids("x" * 40), SamplingSettings(max_tokens=1, seed=1), n=5)
    engine.submit(request).whole()
    assert sum(rows) == 40 + 4 * 8  # the others compute what is left behind two full blocks of 16


def test_a_cancelled_request_ends_within_a_step_and_frees_its_blocks(engine) -> None:
    generation = engine.submit(asked(engine, "abc", max_tokens=50))
    other = engine.submit(asked(engine, "abd", max_tokens=20))
    pieces = iter(generation)
    next(pieces)
    generation.cancel()
    rest = list(pieces)
    assert rest[-1].finish == "cancelled"
    assert rest[-1].tokens <= 3
    assert other.whole()[0].finish in ("length", "stop")
    assert engine.stats().blocks_used == 0


def test_who_stops_listening_has_cancelled(engine) -> None:
    for piece in engine.stream("abc", SamplingSettings(max_tokens=50)):
        if piece.tokens > 2:
            break
    engine.complete("x", SamplingSettings(max_tokens=1))
    assert engine.stats().running == 0


def test_closing_ends_what_runs(engine) -> None:
    engine.start()
    pieces: list = []
    generation = engine.submit(asked(engine, "abc", max_tokens=60), pieces.append)
    engine.close()
    engine.close()  # once more does nothing
    assert generation.ended
    assert pieces[-1].finish in ("cancelled", "length", "stop")
    with pytest.raises(EngineFull, match="closed"):
        engine.submit(asked(engine, "abc"))


def test_a_full_queue_is_told_at_once(engine) -> None:
    narrow = remade(engine, max_waiting=2)
    narrow.submit(asked(engine, "a"))
    narrow.submit(asked(engine, "b"))
    with pytest.raises(EngineFull, match="2 texts are waiting"):
        narrow.submit(asked(engine, "c"))


def test_what_goes_wrong_reaches_everybody_and_the_engine_goes_on(engine, monkeypatch) -> None:
    def fail(_rows):
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine._batch.runner, "run", fail)
        generations = [engine.submit(asked(engine, text)) for text in "ab"]
        for generation in generations:
            with pytest.raises(RuntimeError, match="no memory"):
                generation.whole()
    assert engine.stats().blocks_used == 0
    assert engine.complete("a", SamplingSettings(max_tokens=3))[0].tokens == 3


def test_log_probabilities_are_the_models_own(engine) -> None:
    request = Request(engine.prompt_ids("abc"), SamplingSettings(max_tokens=6, temperature=2.0, seed=2), logprobs=3)
    (found,) = engine.submit(request).whole()
    ids = [*request.prompt_ids]
    for score in found.scores:
        with torch.no_grad():
            wanted = log_probabilities(engine.model(torch.tensor([ids]))[0, -1].numpy())
        assert score.logprob == pytest.approx(wanted[score.id], abs=1e-4)
        assert [token for token, _ in score.top] == np.argsort(-wanted)[:3].tolist()
        ids.append(score.id)
    assert tuple(score.id for score in found.scores) == found.ids


def test_biases_forbid_and_force_tokens(engine) -> None:
    plain = engine.submit(asked(engine, "abc", temperature=0, max_tokens=1)).whole()[0].ids[0]
    settings = SamplingSettings(temperature=0, max_tokens=4)
    (found,) = engine.submit(Request(engine.prompt_ids("abc"), settings, bias={plain: -1e9, 65: 1e9})).whole()
    assert found.text == "AAAA"


def test_penalties_count_what_was_generated(engine) -> None:
    (found,) = engine.submit(asked(engine, "abc", temperature=0, presence_penalty=2, frequency_penalty=2)).whole()
    (plain,) = engine.submit(asked(engine, "abc", temperature=0)).whole()
    assert len(set(found.ids)) >= len(set(plain.ids))
    ids = list(engine.prompt_ids("abc"))
    counts: dict[int, int] = {}
    for token in found.ids:
        with torch.no_grad():
            logits = engine.model(torch.tensor([ids]))[0, -1]
        for seen, count in counts.items():
            logits[seen] -= 2 * count + 2
        assert int(logits.argmax()) == token
        counts[token] = counts.get(token, 0) + 1
        ids.append(token)


def test_a_full_context_ends_a_request_that_does_not_slide(make_engine) -> None:
    engine = make_engine(context=16, endless=True)
    (found,) = engine.submit(asked(engine, "abcdef", max_tokens=100, temperature=0)).whole()
    assert (found.finish, found.tokens) == ("length", 11)  # the last one is not read any more


def test_an_embedding_is_the_mean_of_the_final_hidden_states(engine) -> None:
    ids = engine.prompt_ids("hello")
    with torch.no_grad():
        wanted = engine.model.model(torch.tensor([ids]))[0].mean(0)
    np.testing.assert_allclose(engine.embed(ids), wanted, rtol=1e-4, atol=1e-5)


class HalfRight:
    """Guesses what was said before, with every fifth token wrong."""

    def __init__(self, texts: list[tuple[int, ...]]) -> None:
        self.texts = texts

    def guess(self, tokens, most: int) -> list[int]:
        for text in self.texts:
            if tuple(tokens) == text[: len(tokens)]:
                right = text[len(tokens) : len(tokens) + min(4, most)]
                return [token if (len(tokens) + place) % 5 else token ^ 1 for place, token in enumerate(right)]
        return []

    def learn(self, guessed: int, accepted: int) -> None:
        pass


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_guesses_change_no_text(engine, temperature: float) -> None:
    plain = remade(engine, guesses=0)
    requests = [asked(engine, "abcabc", seed=seed, temperature=temperature, max_tokens=45) for seed in range(10)]
    wanted = [plain.submit(request).whole() for request in requests]
    texts = [request.prompt_ids + found[0].ids for request, found in zip(requests, wanted, strict=True)]
    guessing = Engine(engine.model, engine.tokenizer, guesser=lambda: HalfRight(texts))
    assert [guessing.submit(request).whole() for request in requests] == wanted
    assert plain.stats().drafted_tokens == 0
    stats = guessing.stats()
    assert 0 < stats.accepted_tokens < stats.drafted_tokens


def test_look_up_changes_no_text(engine) -> None:
    plain, guessing = remade(engine, guesses=0), remade(engine, guesses=8)
    request = asked(engine, "abcabcabcabcab", temperature=0, max_tokens=45)
    assert guessing.submit(request).whole() == plain.submit(request).whole()
    assert guessing.stats().accepted_tokens > 0


def test_look_up_guesses_what_followed_the_same_tokens_before() -> None:
    guesser = LookUp(longest=4)
    assert guesser.guess([1, 2, 3, 4, 5, 6, 1, 2, 3], most=9) == [4, 5, 6, 1]
    assert guesser.guess([1, 2, 3, 4, 5, 6, 1, 2, 3], most=2) == [4, 5]
    assert guesser.guess([1, 2, 3, 4, 5, 6, 1, 2, 3, 9], most=9) == []
    assert guesser.guess([9, 9], most=9) == []


def test_look_up_guesses_less_after_failures() -> None:
    guesser = LookUp(longest=8)
    tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3]
    assert len(guesser.guess(tokens, most=8)) == 4
    guesser.learn(4, 0)
    assert guesser.guess(tokens, most=8) == []
    assert guesser.guess(tokens, most=8) == []
    assert len(guesser.guess(tokens, most=8)) == 2
    guesser.learn(2, 2)
    assert len(guesser.guess(tokens, most=8)) == 4


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "sizes": {"type": "array", "items": {"type": "integer"}}},
    "required": ["name", "sizes"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("max_tokens", [24, 30, 60])
def test_a_document_is_whole_however_few_tokens_there_are(make_engine, max_tokens: int) -> None:
    engine = make_engine(context=128)
    grammar = Grammar.json_schema(SCHEMA, engine.tokenizer)
    for seed in range(10):
        settings = SamplingSettings(max_tokens=max_tokens, temperature=1.0, seed=seed)
        (found,) = engine.complete("x", settings, grammar=grammar)
        assert set(json.loads(found.text)) == {"name", "sizes"}
        assert found.finish == "stop"


def test_what_a_grammar_forces_is_taken_without_the_model_and_changes_no_text(make_engine) -> None:
    engine = make_engine(context=128)
    stepping = Engine(engine.model, engine.tokenizer, EngineOptions(jump=False, guesses=0))
    grammar = Grammar.json_schema(SCHEMA, engine.tokenizer)
    for seed in range(5):
        settings = SamplingSettings(max_tokens=50, temperature=1.0, seed=seed)
        assert engine.complete("x", settings, grammar=grammar) == stepping.complete("x", settings, grammar=grammar)
    assert engine.stats().forced_tokens > 0
    assert stepping.stats().forced_tokens == 0


def test_requests_with_and_without_a_grammar_run_side_by_side(make_engine) -> None:
    engine = make_engine(context=128)
    grammar = Grammar.choices(["yes", "no"], engine.tokenizer)
    free = asked(engine, "abc", seed=3)
    alone = engine.submit(free).whole()
    bound = Request(engine.prompt_ids("abd"), SamplingSettings(max_tokens=20, seed=5), grammar=grammar, n=4)
    generations = [engine.submit(free), engine.submit(bound)]
    found = [generation.whole() for generation in generations]
    assert found[0] == alone
    assert {one.text for one in found[1]} <= {"yes", "no"}


def test_a_grammar_that_cannot_be_followed_ends_its_own_request_only(make_engine, monkeypatch) -> None:
    engine = make_engine(context=128)
    free = asked(engine, "abc", seed=3)
    alone = engine.submit(free).whole()
    grammar = Grammar.regex("[a-z]{20}", engine.tokenizer)
    bound = Request(engine.prompt_ids("abd"), SamplingSettings(max_tokens=20, seed=5), grammar=grammar, n=2)

    def give_up(self, row) -> None:
        raise TinyslmError("too costly", "Make it simpler.")

    monkeypatch.setattr(Matcher, "allow", give_up)
    generations = [engine.submit(bound), engine.submit(free)]
    with pytest.raises(TinyslmError, match="too costly"):
        generations[0].whole()
    assert generations[1].whole() == alone
    assert engine.stats().blocks_used == 0


def test_a_listener_that_fails_is_cancelled_alone(engine, caplog) -> None:
    def listen(_piece) -> None:
        raise OSError("gone")

    other = engine.submit(asked(engine, "abc", seed=3))
    engine.submit(asked(engine, "abd"), listen)
    assert other.whole()[0].finish in ("stop", "length")
    assert "gone" in caplog.text
    assert engine.stats().running == 0


@pytest.mark.parametrize(
    ("ids", "changes", "message"),
    [
        ((65, 99999), {}, "no token 99999"),
        ((65, -1), {}, "no token -1"),
        ((65,), {"bias": {77777: 1.0}}, "no token 77777"),
        ((), {}, "0 tokens"),
        ((65,), {"n": 0}, "0 samples"),
        (("a",), {}, "no token 'a'"),
        ((65,), {"logprobs": -1}, "-1 log-probabilities"),
        ((65,), {"bias": {5: float("nan")}}, "not a number"),
    ],
)
def test_requests_that_make_no_sense_are_refused(engine, ids, changes, message) -> None:
    with pytest.raises(TinyslmError, match=message):
        engine.submit(Request(ids, SamplingSettings(max_tokens=1), **changes))


def test_a_grammar_for_another_tokenizer_is_refused(engine) -> None:
    grammar = Grammar.choices(["a"], engine.tokenizer)
    grammar.vocab_size += 64
    request = Request(engine.prompt_ids("a"), SamplingSettings(max_tokens=1), grammar=grammar)
    with pytest.raises(TinyslmError, match="made for a tokenizer"):
        engine.submit(request)


def test_pieces_come_once(engine) -> None:
    generation = engine.submit(asked(engine, "abc", max_tokens=3))
    assert generation.whole()[0].tokens == 3
    assert list(generation) == []


def test_a_closed_engine_gives_no_embedding(engine) -> None:
    engine.close()
    with pytest.raises(EngineFull, match="closed"):
        engine.embed([65])


def test_an_engine_that_breaks_leaves_nobody_waiting(engine, monkeypatch) -> None:
    def fail(_rows):
        raise RuntimeError("no memory")

    monkeypatch.setattr(engine._batch.runner, "run", fail)
    monkeypatch.setattr(engine._batch.scheduler, "remove", fail)
    engine.start()
    with pytest.raises(RuntimeError, match="no memory"):
        engine.submit(asked(engine, "a")).whole()
    engine._thread.join()
    with pytest.raises(EngineFull):
        engine.submit(asked(engine, "b"))
