"""Whatever grammar comes in, it is compiled or refused in time, and the process goes on."""

from collections import Counter

from tinyslm.core.worker import Limits, Worker

CASES = 150


def test_no_generated_grammar_ends_the_process_or_takes_long() -> None:
    """The process has half of the usual stack and two seconds of processor time for each; else `ask` raises."""
    worker = Worker("fuzz_target:answer", Limits(cpu_seconds=1, memory=1 << 30, stack=4 << 20))
    found: Counter[str] = Counter()
    for seed in range(CASES):
        reply = worker.ask({"seed": seed})
        found["refused" if reply else "compiled"] += 1
        if reply:
            assert len(reply["refused"]) < 700, seed
            assert reply["remedy"], seed
    worker.close()
    assert found["compiled"] > CASES / 4
    assert found["refused"] > CASES / 10
