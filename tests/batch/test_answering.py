"""Many requests at a time, results in the order of the rows."""

import random
from collections import deque
from functools import partial
from queue import SimpleQueue

import pytest

from tinyslm.batch import answering
from tinyslm.batch.answering import READ_AHEAD, answer_rows, in_order
from tinyslm.batch.generators import submit_request
from tinyslm.batch.prompts import PromptTemplate
from tinyslm.core.errors import TinyslmError
from tinyslm.data.rows import Row
from tinyslm.inference.generation import Generation
from tinyslm.inference.request import Piece, Request
from tinyslm.inference.settings import SamplingSettings


class Fake:
    """Completes requests in random order; those whose first id is 666 fail, 404 is refused, 500 fails once."""

    def __init__(self, seed=0):
        self.random = random.Random(seed)
        self.running = deque()
        self.peak = 0
        self.submitted = []

    def submit(self, request, sink):
        name = request.prompt_ids[0]
        self.submitted.append(name)
        if name == 404:
            raise TinyslmError("It is too long.", "Shorten it.")
        generation = Generation(request, self, sink)
        self.running.append(generation)
        self.peak = max(self.peak, len(self.running))
        return generation

    def step(self):
        place = self.random.randrange(len(self.running))
        self.running.rotate(-place)
        generation = self.running.popleft()
        name = generation.request.prompt_ids[0]
        if name == 666 or (name == 500 and self.submitted.count(500) == 1):
            generation.push(MemoryError("no room"))
        else:
            generation.push(Piece(0, f"{name}", 1, ""))
            generation.push(Piece(0, ".", 2, "stop"))


@pytest.fixture
def fake(monkeypatch):
    """A fake engine that takes a step whenever somebody waits."""
    made = Fake()

    class Queue(SimpleQueue):
        def get(self):
            while self.empty():
                made.step()
            return super().get()

    monkeypatch.setattr(answering, "SimpleQueue", Queue)
    return made


def answered(fake, names, concurrency):
    return in_order((Request((name,)) for name in names), partial(submit_request, fake), concurrency)


def test_answers_come_in_order_whatever_ends_first(fake):
    found = list(answered(fake, range(100), 8))
    assert [request.prompt_ids[0] for request, _ in found] == list(range(100))
    assert [future.result().text for _, future in found] == [f"{name}." for name in range(100)]
    assert fake.peak == 8


def test_the_number_of_rows_read_ahead_is_limited(fake):
    read = []

    def names():
        for name in range(1000):
            read.append(name)
            yield name

    for number, _ in enumerate(answered(fake, names(), 4)):
        assert len(read) <= number + 1 + READ_AHEAD * 4


def test_failures_stay_with_their_rows(fake):
    found = list(answered(fake, [1, 666, 2, 404, 500, 3], 3))
    errors = [future.exception() for _, future in found]
    assert [type(error) for error in errors] == [type(None), MemoryError, type(None), TinyslmError, *[type(None)] * 2]
    assert fake.submitted.count(666) == 2  # the failure of another request may have been the cause


def test_stopping_early_cancels_the_rest(fake):
    begun = answered(fake, range(20), 8)
    next(begun)
    begun.close()
    assert fake.running
    assert all(generation.cancelled for generation in fake.running)


def test_each_row_gets_its_own_text(engine):
    settings = SamplingSettings(max_tokens=6, temperature=0)
    prompts = [f"prompt {number} {'x' * (number % 5)}" for number in range(20)]
    rows = [Row(number, {"prompt": prompt}) for number, prompt in enumerate(prompts, 1)]
    found = list(answer_rows(engine, PromptTemplate(sampling=settings), rows, (), 7))
    assert [one.result["text"] for one in found] == [engine.complete(prompt, settings)[0].text for prompt in prompts]
    assert [one.prompt_tokens for one in found] == [len(engine.prompt_ids(prompt)) for prompt in prompts]
