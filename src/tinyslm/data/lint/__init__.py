"""Check examples before fine-tuning: `CHECKS` by name."""

from tinyslm.core.registry import Registry
from tinyslm.data.lint import answers, characters, preferences, privacy, repeats, template
from tinyslm.data.lint.check import Check, Examples, Hit


def _unreadable(data: Examples) -> list[Hit]:
    return list(data.unreadable)


CHECKS: Registry[Check] = Registry("check")
CHECKS.add(
    "unreadable",
    Check(
        "error",
        "Rows that cannot be used",
        "Correct or remove them, or name their fields: --map prompt=NAME,answer=NAME",
        _unreadable,
    ),
)
for _module in (template, characters, answers, repeats, privacy, preferences):
    for _name, _check in _module.CHECKS.items():
        CHECKS.add(_name, _check)
