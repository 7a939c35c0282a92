"""Render chat templates in a worker process.

A template is a program and may be malicious: loop forever, write ten gigabytes, break out of Jinja's sandbox. So it
runs in another process (`core/worker.py`) with limited time, memory and output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.worker import Limits, Worker, WorkerError

CPU_SECONDS = 1  # for one conversation; real templates need some milliseconds
MEMORY = 512 << 20  # bytes of address space
LONGEST_TEMPLATE = 1 << 20  # characters
LONGEST_MESSAGE = 300  # characters of a template's own error message

_ATTACK = "Download the template again from the model's source, or remove it: such a template may be an attack."
_REMEDIES = {
    "syntax": "Correct chat_template.jinja, or download it again from the model's source.",
    "refused": "Change the roles of the messages, or their order, to what the template accepts.",
    "failed": "Give messages with the entries that the template reads, or correct the template.",
}
_PROBLEMS = {
    "syntax": "The chat template is not valid Jinja: {}.",
    "refused": "The chat template refuses this conversation: {}.",
    "failed": "The chat template failed: {}.",
    "forbidden": "The chat template does something that is forbidden: {}.",
    "long": "The chat template writes too long a text.",
    "time": "The chat template takes too long: a second, where others take milliseconds.",
    "memory": f"The chat template needs more than {MEMORY >> 20} MiB of memory.",
    "reply": "The chat template's output is too long: {}.",
    "ended": "The process that rendered the chat template ended: {}.",
}


def template_error(kind: str, message: str = "") -> TinyslmError:
    """The error for a failure of this kind; `message` comes from the template and is not trusted."""
    plain = "".join(character if character.isprintable() else " " for character in message[:LONGEST_MESSAGE])
    return TinyslmError(_PROBLEMS[kind].format(plain.strip().rstrip(".")), _REMEDIES.get(kind, _ATTACK))


Rendered = tuple[str, list[tuple[int, int]]]
"""A rendered text, and the spans of its `{% generation %}` blocks in characters."""


def render(template: str, values: Mapping[str, Any], cuts: Sequence[tuple[int, bool]]) -> list[Rendered]:
    """Render several texts from `values` (plain JSON) in one request to the worker.

    cuts: for each text, the number of "messages" to render and the value of `add_generation_prompt`. Safe to call from
    many threads. Raises `TinyslmError` for values that are not plain JSON, and when the template fails or exceeds its
    limits.
    """
    if len(template) > LONGEST_TEMPLATE:
        raise template_error("failed", f"it is {len(template)} characters long, {LONGEST_TEMPLATE} are allowed")
    try:
        answer = WORKER.ask({"template": template, "values": values, "cuts": cuts})
    except WorkerError as error:
        raise template_error(error.kind, error.detail) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise TinyslmError(
            f"The messages are not plain JSON values ({error}).", "Give texts, lists and dictionaries."
        ) from None
    if "texts" in answer:
        return [(str(text), [(int(begin), int(end)) for begin, end in spans]) for text, spans in answer["texts"]]
    raise template_error(str(answer["kind"]), str(answer["message"]))


WORKER = Worker("tinyslm.tokenizer.template:answer", Limits(cpu_seconds=CPU_SECONDS, memory=MEMORY))
