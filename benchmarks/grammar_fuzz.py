"""Generated grammars, most of them odd, as a server gets them: none may end the process or take more than two seconds.

    python benchmarks/grammar_fuzz.py --cases 20000

Each seed makes a Lark grammar, a regular expression or a JSON schema; some are chains of thousands of rules, some were
damaged. Each is compiled as the server does it: checked by its size, tried out in the worker process, compiled here for
a tokenizer of bytes, and followed for some steps. The last line printed is the result as JSON: how many were compiled,
how many were refused and why, and the slowest in seconds of processor time, in the worker process and here.
"""

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tinyslm.core.errors import TinyslmError
from tinyslm.inference import vetting
from tinyslm.inference.grammar import Grammar
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "inference"))  # the suite tries a few hundred

from generated_grammars import follow, generated

TOO_LONG = 2.0  # seconds of processor time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tokenizer = train_tokenizer([], kind="byte")
    reasons: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    times: list[tuple[float, float, int]] = []
    for seed in range(arguments.seed, arguments.seed + arguments.cases):
        kind, value = generated(seed)
        worker, here = worker_seconds(), time.process_time()
        reason = compiled(kind, value, tokenizer, seed)
        times.append((max(0.0, worker_seconds() - worker), time.process_time() - here, seed))
        kinds[kind] += 1
        reasons[reason] += 1
        if len(times) % 1000 == 0:
            print(f"{len(times)}: {dict(reasons.most_common(12))}, slowest {max(times)}", flush=True)
    worker_time, here_time = max(times), max(times, key=lambda one: one[1])
    result = {
        "cases": len(times),
        "kinds": dict(kinds),
        "compiled": reasons.pop("", 0),
        "refused": dict(reasons.most_common()),
        "slowest_worker": {"seconds": worker_time[0], "seed": worker_time[2]},
        "slowest_here": {"seconds": here_time[1], "seed": here_time[2]},
        "over_two_seconds": sum(here > TOO_LONG for _, here, _ in times),
    }
    print(json.dumps(result))


def compiled(kind: str, value: Any, tokenizer: Tokenizer, seed: int) -> str:
    """Compile and follow a grammar; returns why it was refused, "" if it was not."""
    make: Callable[[Any, Tokenizer], Grammar] = getattr(Grammar, kind)
    try:
        with vetting.untrusted_grammars():
            grammar = make(value, tokenizer)
        follow(grammar, random.Random(seed))
    except TinyslmError as error:
        return reason_of(error.problem)
    return ""


def reason_of(problem: str) -> str:
    """A message without what differs from grammar to grammar."""
    short = re.sub(r"invalid regex.*|parse error.*|lexer error.*", "invalid", problem)
    short = re.sub(r'"[^"]*"|\'[^\']*\'|[0-9][0-9,.]*|#\S*', "*", short)
    return " ".join(short.split())[:70]


def worker_seconds() -> float:
    """The processor time that the worker process has taken."""
    try:
        times = psutil.Process(vetting.WORKER.pid).cpu_times() if vetting.WORKER.pid else None
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system if times else 0.0


if __name__ == "__main__":
    main()
