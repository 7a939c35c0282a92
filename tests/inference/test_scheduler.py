"""The scheduler, driven by hand: who computes what, which blocks are shared, and who gives way."""

import random

import pytest

from tinyslm.inference.blocks import ROOT, BlockPool, chain
from tinyslm.inference.scheduler import Limits, Scheduler, TokenSequence

SIZE = 4


def make(blocks: int = 32, **limits) -> Scheduler:
    return Scheduler(BlockPool(blocks), SIZE, Limits(**{"rows": 100, "busy_rows": 8, **limits}))


def run(scheduler: Scheduler, steps: int = 1, new: int = 7) -> list[list[tuple[list[int], int, int]]]:
    """Take steps, each sequence's next token being `new`; returns (tokens, start, rows) of each work."""
    told = []
    for _ in range(steps):
        works = scheduler.plan()
        told.append([(list(work.sequence.tokens), work.start, len(work.ids)) for work in works])
        for work in works:
            scheduler.done(work)
            if work.wanted:
                work.sequence.tokens.append(new)
    return told


def test_a_prompt_is_read_at_once_and_then_a_token_a_step() -> None:
    scheduler = make()
    scheduler.add(TokenSequence([1, 2, 3, 4, 5]))
    told = run(scheduler, 3)
    assert [(start, rows) for ((_, start, rows),) in told] == [(0, 5), (5, 1), (6, 1)]


def test_a_long_prompt_does_not_stall_who_is_being_generated() -> None:
    scheduler = make()
    scheduler.add(TokenSequence([1, 2, 3]))
    run(scheduler)
    scheduler.add(TokenSequence(list(range(50)), order=1))
    for works in run(scheduler, 7):
        assert works[0][2] == 1  # the first one goes on in every step
        assert sum(rows for _, _, rows in works[1:]) <= 8
    assert all(one.missing == 1 for one in scheduler.running)


def test_smaller_priority_goes_first_and_then_who_came_first() -> None:
    scheduler = make(sequences=1)
    orders = [
        TokenSequence([1, 2], priority=1, order=0),
        TokenSequence([1, 3], order=1),
        TokenSequence([1, 4], order=2),
    ]
    for sequence in orders:
        scheduler.add(sequence)
    begun = []
    for _ in range(3):
        ((tokens, _, _),) = run(scheduler)[0]
        begun.append(tokens[-1])
        scheduler.remove(scheduler.running[0])
    assert begun == [3, 4, 2]


def test_equal_beginnings_share_their_full_blocks() -> None:
    scheduler = make()
    first, second = TokenSequence(list(range(10))), TokenSequence([*range(8), 90, 91], order=1)
    scheduler.add(first)
    run(scheduler)
    scheduler.add(second)
    works = run(scheduler)[0]
    assert works[1][1:] == (8, 2)
    assert second.cached == 8
    assert first.table[:2] == second.table[:2]
    assert first.table[2] != second.table[2]


def test_the_last_token_of_a_known_prompt_is_computed_again_for_its_logits() -> None:
    scheduler = make()
    first = TokenSequence(list(range(8)))
    scheduler.add(first)
    run(scheduler)
    scheduler.remove(first)
    again = TokenSequence(list(range(8)), order=1)
    scheduler.add(again)
    assert run(scheduler)[0][0][1:] == (4, 4)


def test_samples_of_one_prompt_wait_for_it_and_share_it() -> None:
    scheduler = make(rows=4)
    first = TokenSequence(list(range(10)))
    others = [TokenSequence(list(range(10)), order=order, after=first) for order in (1, 2)]
    for sequence in (first, *others):
        scheduler.add(sequence)
    told = run(scheduler, 4)
    assert [len(works) for works in told[:3]] == [1, 1, 1]
    assert all(one.cached == 8 for one in others)


def test_what_was_generated_is_found_again_by_a_longer_conversation() -> None:
    scheduler = make()
    first = TokenSequence([1, 2, 3])
    scheduler.add(first)
    run(scheduler, 6)  # stores 1 2 3 7 7 7 7 7
    scheduler.remove(first)
    second = TokenSequence([1, 2, 3, 7, 7, 7, 7, 7, 9], order=1)
    scheduler.add(second)
    run(scheduler)
    assert second.cached == 8


def test_wrong_guesses_are_not_stored_and_right_ones_are() -> None:
    scheduler = make()
    sequence = TokenSequence([1, 2, 3])
    scheduler.add(sequence)
    run(scheduler)
    (work,) = scheduler.plan({sequence: [8, 9, 10]})
    assert (work.ids, work.wanted) == ((7, 8, 9, 10), 4)
    scheduler.done(work, accepted=1)
    sequence.tokens += [8, 5]
    assert sequence.stored == 5
    (work,) = scheduler.plan()
    assert (work.start, work.ids) == (5, (5,))


def test_who_matters_least_gives_its_blocks_when_they_run_out_and_is_computed_again() -> None:
    scheduler = make(blocks=4)
    first, second = TokenSequence([1, 2, 3]), TokenSequence([4, 5, 6, 7, 8, 9, 10], order=1)
    scheduler.add(first)
    scheduler.add(second)
    run(scheduler, 8)
    assert scheduler.running == [first]
    assert scheduler.waiting == [second]
    assert second.stored == 0
    scheduler.remove(first)
    told = run(scheduler, 1)
    assert told[0][0][0] == second.tokens[:-1]
    assert second.missing == 1


def test_guesses_never_push_others_out() -> None:
    scheduler = make(blocks=2)
    first, second = TokenSequence([1, 2]), TokenSequence([3, 4], order=1)
    scheduler.add(first)
    scheduler.add(second)
    run(scheduler)
    works = scheduler.plan({first: [5, 5, 5]})
    assert [work.ids for work in works] == [(7,), (7,)]


def test_a_forgotten_block_is_not_found() -> None:
    pool = BlockPool(2)
    keys = [chain(ROOT, [number]) for number in range(3)]
    for key in keys[:2]:
        block = pool.take()
        pool.name(block, key)
        pool.give(block)
    assert pool.available == 2
    third = pool.take()
    pool.name(third, keys[2])
    assert pool.share(keys[0]) is None
    assert pool.share(keys[1]) is not None
    assert pool.take() is None


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_blocks_are_neither_lost_nor_used_twice(seed: int) -> None:
    chosen = random.Random(seed)
    scheduler = make(blocks=12, sequences=4, rows=10, busy_rows=3)
    alive: list[TokenSequence] = []
    for step in range(300):
        if chosen.random() < 0.3:
            tokens = [chosen.randrange(2) for _ in range(chosen.randrange(1, 30))]
            alive.append(TokenSequence(tokens, priority=chosen.randrange(2), order=step))
            scheduler.add(alive[-1])
        works = scheduler.plan({one: [0, 1] for one in scheduler.running if chosen.random() < 0.5})
        positions = [(one.sequence.table[place // SIZE], place % SIZE) for one in works for place in written(one)]
        assert len(positions) == len(set(positions))
        for work in works:
            accepted = chosen.randrange(max(1, work.wanted))
            scheduler.done(work, accepted)
            if work.wanted:
                guesses = work.ids[len(work.ids) - work.wanted + 1 :]
                work.sequence.tokens += [*guesses[:accepted], chosen.randrange(2)]
        for one in [one for one in alive if len(one.tokens) >= 40 or chosen.random() < 0.05]:
            scheduler.remove(one)
            alive.remove(one)
        used = {block for one in scheduler.running for block in one.table}
        assert scheduler.pool.used == len(used)
        assert all(not one.table for one in scheduler.waiting)
    for one in alive:
        scheduler.remove(one)
    assert scheduler.pool.available == 12


def written(work) -> range:
    return range(work.start, work.start + len(work.ids))
