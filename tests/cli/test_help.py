"""The overview of the verbs."""

import re

from tinyslm.cli import app

GROUPS = ["Make a model", "Teach it a job", "Measure it", "Use it", "Ship it"]


def test_verbs_stand_in_groups(tinyslm) -> None:
    seen = tinyslm("--help").out
    titles = re.findall(r"╭─ ([\w ]+?) ─", seen)
    assert [title for title in titles if title in GROUPS] == GROUPS
    shown = re.findall(r"│ ([a-z]\w+)  ", seen)
    assert sorted(shown) == sorted(name for name in app if not name.startswith("-"))
    assert seen.index("quickstart") < seen.index("finetune") < seen.index("evaluate") < seen.index("serve")
