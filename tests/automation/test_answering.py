"""Many requests at a time, answers in order."""

import random
from collections import deque

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.generation import Generation
from tinyslm.inference.request import Piece, Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.serving.automation.answering import MOST_AHEAD, Ask, answers


class Fake:
    """Ends requests in an order of its own; those whose first id is 666 fail, 404 is refused, 500 fails once."""

    def __init__(self, seed=0):
        self.random = random.Random(seed)
        self.running = deque()
        self.most = 0
        self.submitted = []
        self.cancelled = 0

    def submit(self, request, sink):
        name = request.prompt_ids[0]
        if name == 404:
            raise TinyslmError("It is too long.", "Shorten it.")
        self.submitted.append(name)
        generation = Generation(request, self, sink)
        self.running.append(generation)
        self.most = max(self.most, len(self.running))
        return generation

    def step(self):
        place = self.random.randrange(len(self.running))
        self.running.rotate(-place)
        generation = self.running.popleft()
        name = generation.request.prompt_ids[0]
        if name == 666 or (name == 500 and self.submitted.count(500) == 1):
            generation.push(MemoryError("no room"))
        else:
            for sample in range(generation.request.n):
                generation.push(Piece(sample, f"{name}", 1, ""))
                generation.push(Piece(sample, f".{sample}", 2, "stop"))


@pytest.fixture
def fake(monkeypatch):
    """A fake engine that takes a step whenever somebody waits."""
    from tinyslm.serving.automation import answering

    made = Fake()
    waits = answering._Pump.wait

    def wait(self):
        while self._arrived.empty():
            made.step()
        waits(self)

    monkeypatch.setattr(answering._Pump, "wait", wait)
    return made


def asks(names):
    return [Ask(place, Request((name,))) for place, name in enumerate(names)]


def test_answers_come_in_order_whatever_ends_first(fake):
    found = list(answers(fake, asks(range(100)), 8))
    assert [answer.mark for answer in found] == list(range(100))
    assert [answer.completions[0].text for answer in found] == [f"{name}.0" for name in range(100)]
    assert fake.most == 8


def test_no_more_is_read_ahead_than_can_be_kept(fake):
    read = []

    def source():
        for place in range(1000):
            read.append(place)
            yield Ask(place, Request((place,)))

    for number, _ in enumerate(answers(fake, source(), 4)):
        assert len(read) <= number + 1 + MOST_AHEAD * 4


def test_problems_stay_with_their_rows(fake):
    names = [1, 666, 2, 404, 500, 3]
    found = list(answers(fake, [*asks(names), Ask(6, problem="broken")], 3))
    assert [answer.problem for answer in found] == ["", "MemoryError: no room", "", "It is too long.", "", "", "broken"]
    assert [bool(answer.completions) for answer in found] == [not answer.problem for answer in found]
    assert fake.submitted.count(666) == 2  # another one's failure may have ended it


def test_several_samples_are_kept_apart(fake):
    (found,) = answers(fake, [Ask(0, Request((7,), n=3))], 1)
    assert [one.text for one in found.completions] == ["7.0", "7.1", "7.2"]


def test_whoever_leaves_has_cancelled_the_rest(fake):
    begun = answers(fake, asks(range(20)), 8)
    next(begun)
    begun.close()
    assert fake.running
    assert all(generation.cancelled for generation in fake.running)


def test_an_engine_gives_each_its_own_text(engine):
    settings = SamplingSettings(max_tokens=6, temperature=0)
    prompts = [f"prompt {number} {'x' * (number % 5)}" for number in range(20)]
    requests = [Request(engine.prompt_ids(prompt), settings) for prompt in prompts]
    found = list(answers(engine, [Ask(n, request) for n, request in enumerate(requests)], 7))
    assert [answer.completions[0].text for answer in found] == [engine.submit(r).whole()[0].text for r in requests]
    assert all(
        answer.usage.prompt_tokens == len(request.prompt_ids) for answer, request in zip(found, requests, strict=True)
    )
