"""Security: log lines to ATT&CK techniques, descriptions to Sigma rules that run, and triage by a playbook.

It is for defence only. Names are invented, addresses and domains are those reserved for documentation, and nothing
connects anywhere.
"""

from pathlib import Path

from tinyslm.packs.pack import Pack
from tinyslm.packs.security.baseline import make_baseline
from tinyslm.packs.security.log_demo import triage_log
from tinyslm.packs.security.rules import RULE
from tinyslm.packs.security.technique import TECHNIQUE
from tinyslm.packs.security.triage import TRIAGE

SECURITY = Pack(
    "security",
    "log lines to ATT&CK techniques, descriptions to Sigma rules, triage to JSON",
    (TECHNIQUE, RULE, TRIAGE),
    rows=12_000,
    settings={"train": {"grader": "security"}},
    requests=Path(__file__).parent / "requests.jsonl",
    baseline=make_baseline,
    demo=triage_log,
)
