"""What every engine promises, whatever computes: the same tests over all of them."""

import json
from threading import Thread

import numpy as np
import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.engine import EngineFull
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.request import Request
from tinyslm.inference.settings import SamplingSettings

PROMPT = "def find(name):\n    return "
OTHERS = ["import os", "class Thing:", "for item in ", "x", PROMPT * 3, "raise Value", "# a", "if not "]


def greedy(count: int, **settings) -> SamplingSettings:
    return SamplingSettings(temperature=0, max_tokens=count, **settings)


def ask(engine, text: str, settings: SamplingSettings, **request) -> Request:
    return Request(engine.prompt_ids(text), settings, **request)


def likeliest(decoder, ids: list[int], count: int) -> list[int]:
    """What the model itself finds likeliest, one token after the other, with no cache."""
    ids, start = list(ids), len(ids)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(decoder(torch.tensor([ids]))[0, -1].argmax()))
    return ids[start:]


def test_the_likeliest_tokens_are_the_model_s_own(engine, decoder) -> None:
    for text in (PROMPT, *OTHERS):
        (found,) = engine.complete(text, greedy(24), heal=False)
        assert list(found.ids) == likeliest(decoder, engine.prompt_ids(text), 24)
        assert (found.tokens, found.finish) == (24, "length")
        assert found.text == engine.tokenizer.decode(found.ids)


def test_log_probabilities_are_the_model_s_own(engine, decoder) -> None:
    (found,) = engine.submit(ask(engine, PROMPT, SamplingSettings(seed=1, max_tokens=12), logprobs=3)).whole()
    ids = [*engine.prompt_ids(PROMPT), *found.ids]
    with torch.inference_mode():
        expected_tv = decoder(torch.tensor([ids]))[0].log_softmax(-1).numpy()
    assert [score.id for score in found.scores] == list(found.ids)
    near = 1e-3
    for place, score in enumerate(found.scores, len(ids) - len(found.ids) - 1):
        assert score.logprob == pytest.approx(expected_tv[place, score.id], abs=near)
        assert len(score.top) == 3
        best = np.sort(expected_tv[place])[::-1][:3]
        assert [logprob for _, logprob in score.top] == pytest.approx(best.tolist(), abs=near)


def test_nothing_is_scored_unasked(engine) -> None:
    assert engine.complete(PROMPT, greedy(4))[0].scores == ()
    chosen = engine.submit(ask(engine, PROMPT, greedy(4), logprobs=0)).whole()[0].scores
    assert [(len(score.top), score.logprob < 0) for score in chosen] == [(0, True)] * 4


def test_a_seed_repeats_and_no_seed_does_not(engine) -> None:
    seeded = SamplingSettings(max_tokens=30, seed=3)
    assert engine.complete(PROMPT, seeded) == engine.complete(PROMPT, seeded)
    free = SamplingSettings(max_tokens=30, temperature=2.0)
    assert engine.complete(PROMPT, free) != engine.complete(PROMPT, free)


def test_samples_are_those_of_the_next_seeds(engine) -> None:
    together = engine.complete(PROMPT, SamplingSettings(max_tokens=12, seed=10), n=5)
    alone = [engine.complete(PROMPT, SamplingSettings(max_tokens=12, seed=10 + i))[0] for i in range(5)]
    assert together == alone
    assert len({found.text for found in together}) == 5


def test_more_samples_than_go_side_by_side(engine) -> None:
    found = engine.complete("x", SamplingSettings(max_tokens=3, seed=1, temperature=3.0), n=20)
    assert len({one.text for one in found}) > 10
    assert all(one.finish == "length" for one in found)


def test_filters_leave_the_likeliest(engine) -> None:
    expected = engine.complete(PROMPT, greedy(16))
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        assert engine.complete(PROMPT, SamplingSettings(max_tokens=16, temperature=1.5, **narrow)) == expected


def test_repeated_tokens_are_made_less_likely(engine, make_engine) -> None:
    reference = make_engine("torch")
    settings = greedy(24, repetition_penalty=1.6)
    found = engine.complete(PROMPT, settings, heal=False)
    assert found == reference.complete(PROMPT, settings, heal=False)
    assert found != engine.complete(PROMPT, greedy(24), heal=False)


def test_biases_choose_tokens(engine) -> None:
    (token,) = engine.tokenizer.encode("e")
    (found,) = engine.submit(ask(engine, PROMPT, greedy(3), bias={token: 1000.0})).whole()
    assert found.text == "eee"


def test_an_end_token_ends_a_text_and_is_not_part_of_it(engine) -> None:
    for stop in engine.tokenizer.stop_ids:
        (found,) = engine.submit(ask(engine, PROMPT, greedy(5), bias={stop: 1000.0})).whole()
        assert (found.text, found.finish, found.ids, found.tokens) == ("", "stop", (), 1)


def test_a_stop_string_ends_a_text_wherever_tokens_end(engine) -> None:
    (whole,) = engine.complete(PROMPT, greedy(40))
    for start, length in ((5, 1), (9, 4), (17, 7)):
        stop = whole.text[start : start + length]
        (found,) = engine.complete(PROMPT, greedy(40, stop=("not there", stop)))
        assert found.text == whole.text[: whole.text.index(stop)]
        assert found.finish == "stop"
        assert found.tokens < whole.tokens


def test_pieces_joined_are_the_whole(engine) -> None:
    settings = SamplingSettings(max_tokens=20, seed=5, stop=("zz",))
    whole = engine.complete(PROMPT, settings, n=2)
    pieces = list(engine.stream(PROMPT, settings, n=2))
    for number in range(2):
        own = [piece for piece in pieces if piece.sample == number]
        assert "".join(piece.text for piece in own) == whole[number].text
        assert sum((piece.ids for piece in own), ()) == whole[number].ids
        assert [piece.finish for piece in own[:-1]] == [""] * (len(own) - 1)
        assert (own[-1].finish, own[-1].tokens) == (whole[number].finish, whole[number].tokens)


def test_characters_of_several_tokens_come_whole(engine) -> None:
    text = "é漢字🙂, ok"
    grammar = Grammar.choices([text], engine.tokenizer)
    pieces = list(engine.stream(PROMPT, greedy(60), grammar=grammar))
    assert "".join(piece.text for piece in pieces) == text
    assert not any("\ufffd" in piece.text for piece in pieces)
    assert engine.tokenizer.decode([token for piece in pieces for token in piece.ids]) == text


def test_grammars_are_followed(engine) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"]}
    schema |= {"additionalProperties": False}
    cases = [
        (Grammar.choices(["yes", "no", "perhaps"], engine.tokenizer), {"yes", "no", "perhaps"}),
        (Grammar.regex("[ab]{2}", engine.tokenizer), {"aa", "ab", "ba", "bb"}),
        (Grammar.lark('start: "<" word ">"\nword: "x" | "y"', engine.tokenizer), {"<x>", "<y>"}),
    ]
    for grammar, allowed in cases:
        found = engine.complete(PROMPT, SamplingSettings(max_tokens=30, seed=2), n=6, grammar=grammar)
        assert {one.text for one in found} <= allowed
        assert all(one.finish == "stop" for one in found)
    grammar = Grammar.json_schema(schema, engine.tokenizer)
    (found,) = engine.complete(PROMPT, greedy(60), grammar=grammar)
    assert json.loads(found.text)["n"] <= 99


def test_conversations_are_answered(engine) -> None:
    messages = [{"role": "user", "content": "Say something."}]
    (found,) = engine.chat(messages, greedy(10))
    expected = engine.submit(Request(engine.chat_ids(messages), greedy(10), continues=False)).whole()
    assert [found] == expected
    assert found.tokens == 10


def test_a_prompt_that_does_not_fit_is_refused(engine) -> None:
    ids = (engine.prompt_ids("x") * 200)[: engine.context]
    with pytest.raises(TinyslmError, match=f"{len(ids)} tokens.* {engine.context}"):
        engine.submit(Request(ids))
    assert engine.submit(Request(ids[:-1], greedy(1))).whole()[0].tokens == 1


@pytest.mark.parametrize("wrong", [{"prompt_ids": ()}, {"prompt_ids": (5, 10**6)}, {"bias": {-1: 1.0}}, {"n": 0}])
def test_what_makes_no_sense_is_refused(engine, wrong) -> None:
    with pytest.raises(TinyslmError):
        engine.submit(Request(**{"prompt_ids": (5,), **wrong}))


def test_a_full_context_ends_a_text_or_slides(engine) -> None:
    ids = engine.prompt_ids(PROMPT * 40)[: engine.context - 6]
    (found,) = engine.submit(Request(ids, greedy(50))).whole()
    assert found.finish == "length"
    assert 6 <= found.tokens <= 7
    (found,) = engine.submit(Request(ids, greedy(100), slides=True)).whole()
    assert (found.finish, found.tokens) == ("length", 100)


def test_texts_end_when_nobody_wants_them(engine) -> None:
    generation = engine.submit(ask(engine, PROMPT, greedy(90), n=2))
    pieces = []
    for piece in generation:
        pieces.append(piece)
        if len(pieces) == 4:
            generation.cancel()
    ends = [piece for piece in pieces if piece.finish]
    assert [piece.finish for piece in ends] == ["cancelled"] * 2
    assert max(piece.tokens for piece in pieces) < 60
    assert engine.complete(PROMPT, greedy(5))[0].tokens == 5
    for piece in engine.submit(ask(engine, PROMPT, greedy(90))):
        if piece.tokens > 2:
            break
    assert engine.complete(PROMPT, greedy(5))[0].tokens == 5


def test_many_at_once_say_what_they_say_alone(engine) -> None:
    texts = [f"{text}{number}" for number, text in enumerate([PROMPT, *OTHERS] * 3)]
    requests = [ask(engine, text, greedy(10 + number % 7)) for number, text in enumerate(texts)]
    together = [engine.submit(request) for request in requests]
    found = [generation.whole() for generation in together]
    assert found == [engine.submit(request).whole() for request in requests]


def test_requests_of_many_threads_run_side_by_side(make_engine, engine) -> None:
    made = make_engine(engine.name)
    made.start()
    try:
        expected = {text: engine.complete(text, greedy(20)) for text in OTHERS}
        found = {}
        threads = [
            Thread(target=lambda text: found.update({text: made.complete(text, greedy(20))}), args=(text,))
            for text in OTHERS
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == expected
    finally:
        made.close()


def test_pieces_go_to_a_sink(make_engine, engine) -> None:
    from queue import SimpleQueue

    made = make_engine(engine.name)
    made.start()
    pieces = SimpleQueue()
    try:
        made.submit(ask(made, PROMPT, greedy(6)), pieces.put)
        text = ""
        while not (piece := pieces.get(timeout=30)).finish:
            text += piece.text
        assert text + piece.text == engine.complete(PROMPT, greedy(6), heal=False)[0].text
    finally:
        made.close()


def test_what_was_read_before_is_not_read_again(make_engine, engine) -> None:
    made = make_engine(engine.name)
    try:
        request = ask(made, PROMPT * 3, greedy(4))
        generations = [made.submit(request)]
        first = generations[0].whole()
        generations.append(made.submit(request))
        assert generations[1].whole() == first
        count = len(request.prompt_ids)
        assert [one.usage.prompt_tokens for one in generations] == [count] * 2
        assert [one.usage.generated_tokens for one in generations] == [4, 4]
        assert generations[0].usage.cached_tokens == 0
        assert count - 16 <= generations[1].usage.cached_tokens < count
        assert made.stats().prompt_tokens == 2 * count
        assert made.stats().cached_tokens == generations[1].usage.cached_tokens
        assert made.stats().generated_tokens == 8
    finally:
        made.close()


def test_a_full_queue_takes_nothing_more(make_engine, engine) -> None:
    made = make_engine(engine.name, max_waiting=3, cache_tokens=0)
    request = ask(made, PROMPT, greedy(100), n=2)
    try:
        with pytest.raises(EngineFull):
            [made.submit(request) for _ in range(9)]
    finally:
        made.close()


def test_closing_ends_what_runs_and_waits(make_engine, engine) -> None:
    made = make_engine(engine.name, cache_tokens=0)
    generations = [made.submit(ask(made, PROMPT, greedy(100), slides=True)) for _ in range(4)]
    made.close()
    assert {generation.whole()[0].finish for generation in generations} == {"cancelled"}
    with pytest.raises(TinyslmError):
        made.submit(ask(made, PROMPT, greedy(1)))


def test_hidden_states_are_the_model_s_own(engine, decoder) -> None:
    ids = engine.tokenizer.encode(PROMPT)
    with torch.inference_mode():
        expected = decoder.model(torch.tensor([ids]))[0].mean(0).numpy()
    np.testing.assert_allclose(engine.embed(ids), expected, atol=1e-4)
