"""JSON under thirty schemas from a small model: how many documents are valid, and what the masks cost.

    python benchmarks/structured.py --model FOLDER [--count 10000]
    python benchmarks/structured.py --data FOLDER_WITH_train.jsonl_AND_valid.jsonl [--minutes 3]

The model is a trained one, or one of 3M parameters that is trained first. It knows stories, not JSON: what holds a
document together is the grammar alone. Schemas take turns; each document is sampled at temperature 1 with a seed of its
own, and has between the tokens of the shortest document and 150 more. A document counts as valid if it is JSON that
`jsonschema` finds valid, formats included. Then, one stream: the time in masks, and in all that a grammar costs, as a
share of the whole time, and tokens per second with a schema and without; once with as little room as above ("tight"),
where every document's end has to be planned, and once with room enough ("ample").
"""

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import jsonschema

from harness import HERE, finish, parser, ratio, train_small
from tinyslm import Engine, Request, SamplingSettings, open_engine
from tinyslm.inference.grammar import Grammar, Matcher

SHAPE = {"dim": 192, "depth": 5, "heads": 3, "context": 512}
PROMPTS = ("Once upon a time", "The old man said:", "There was a little dog who", "It was a dark and stormy night;")
MORE = 150  # tokens beyond those of the shortest document
TOGETHER = 32  # documents in the engine at the same time
ALONE = 90  # documents, one after the other
ENOUGH = 2000  # tokens: more room than any document needs


def main() -> None:
    options = parser(__doc__)
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path)
    source.add_argument("--data", type=Path)
    options.add_argument("--minutes", type=float, default=3.0)
    options.add_argument("--count", type=int, default=10_000)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.model or train_small(arguments.data, Path(name) / "run", arguments.minutes, SHAPE)
        engine = open_engine(folder)
    cases = [Case(engine, file) for file in sorted((HERE / "schemas").glob("*.json"))]
    facts = {"schemas": len(cases), "parameters": engine.model.config.parameters, "engine": engine.name}
    facts |= {"vocab_size": engine.tokenizer.vocab_size, **many(engine, cases, arguments.count)}
    finish({**facts, "tight": alone(engine, cases, MORE), "ample": alone(engine, cases, ENOUGH)})


class Case:
    """One schema: requests for documents, and whether they are valid."""

    def __init__(self, engine: Engine, file: Path) -> None:
        self.name = file.stem
        schema = json.loads(file.read_text())
        self.grammar = Grammar.json_schema(schema, engine.tokenizer)
        self.shortest = len(self.grammar.closing.shortest.ids)
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        self._validator = jsonschema.Draft202012Validator(schema, format_checker=checker)
        self._engine = engine

    def request(self, seed: int, more: int = MORE) -> Request:
        chance = random.Random(seed)
        room = self.shortest + chance.randint(more - MORE, more)
        settings = SamplingSettings(max_tokens=room, temperature=1.0, seed=seed)
        return Request(self._engine.prompt_ids(chance.choice(PROMPTS)), settings, grammar=self.grammar)

    def problem(self, text: str) -> str:
        """Why the document is not valid; nothing if it is."""
        try:
            self._validator.validate(json.loads(text))
        except (ValueError, jsonschema.ValidationError) as error:
            return str(error).split("\n", 1)[0]
        return ""


def many(engine: Engine, cases: list[Case], count: int) -> dict[str, Any]:
    """Documents made side by side."""
    waiting = islice(cycle(cases), count)
    valid = ended = tokens = done = 0
    begun = time.perf_counter()
    while chunk := [(case, case.request(done + place)) for place, case in enumerate(islice(waiting, TOGETHER))]:
        generations = [engine.submit(request) for _, request in chunk]
        for (case, request), generation in zip(chunk, generations, strict=True):
            (found,) = generation.whole()
            problem = case.problem(found.text)
            if problem:
                print(f"{case.name}, seed {request.settings.seed}: {problem}\n  {found.text[:300]!r}")
            valid, ended, tokens = valid + (not problem), ended + (found.finish == "stop"), tokens + found.tokens
        done += len(chunk)
    seconds = time.perf_counter() - begun
    print(f"{done} documents, {valid} valid, {done / seconds:.0f} a second", flush=True)
    return {"count": done, "valid": valid, "ended": ended, "tokens": tokens, "tokens_per_second": tokens / seconds}


def alone(engine: Engine, cases: list[Case], more: int) -> dict[str, Any]:
    """One stream: the cost of masks and grammars, and the rate compared with free text of as many tokens."""
    masks, grammars, totals, lengths, with_schema, free = [], [], [], [], [], []
    for seed, case in enumerate(islice(cycle(cases), ALONE)):
        request = case.request(seed, more)
        with grammar_timed() as spent:
            seconds, tokens = timed(engine, request)
        masks.append(spent["mask"])
        grammars.append(sum(spent.values()))
        totals.append(seconds)
        lengths.append(tokens)
        seconds, tokens = timed(engine, request)
        with_schema.append(tokens / seconds)
        settings = SamplingSettings(max_tokens=tokens, temperature=1.0, seed=seed)
        bias = dict.fromkeys(engine.tokenizer.stop_ids, -1e9)  # so that it goes on
        seconds, tokens = timed(engine, Request(request.prompt_ids, settings, bias=bias))
        free.append(tokens / seconds)
    return {
        "mask_share": ratio(masks, totals)["median"],
        "mask_microseconds": 1e6 * ratio(masks, lengths)["median"],
        "grammar_share": ratio(grammars, totals)["median"],
        "grammar_microseconds": 1e6 * ratio(grammars, lengths)["median"],
        "one_stream": {"schema": median(with_schema), "free": median(free)},
        "one_stream_ratio": ratio(with_schema, free)["median"],
    }


def timed(engine: Engine, request: Request) -> tuple[float, int]:
    """Seconds and tokens of one request."""
    begun = time.perf_counter()
    (found,) = engine.submit(request).whole()
    return time.perf_counter() - begun, found.tokens


@contextmanager
def grammar_timed() -> Iterator[dict[str, float]]:
    """The seconds spent meanwhile in masks, and in what else matchers do."""
    spent = {"mask": 0.0, "else": 0.0}
    methods = {name: getattr(Matcher, name) for name in ("allow", "settle", "take", "forced")}
    inside = [False]

    def watched(method: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if inside[0]:  # one calls another
                return method(*arguments)
            inside[0], begun = True, time.perf_counter()
            try:
                return method(*arguments)
            finally:
                spent[kind] += time.perf_counter() - begun
                inside[0] = False

        return call

    for name, method in methods.items():
        setattr(Matcher, name, watched(method, "mask" if name == "allow" else "else"))
    try:
        yield spent
    finally:
        for name, method in methods.items():
            setattr(Matcher, name, method)


if __name__ == "__main__":
    main()
