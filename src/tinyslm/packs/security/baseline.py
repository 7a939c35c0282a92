"""Answers without a model: keyword rules, and the nearest question that a model would learn from, values exchanged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tinyslm.packs.pack import Answerer, Row, question_of
from tinyslm.packs.security.attack import label
from tinyslm.packs.security.behaviours import PLAYBOOK, entities_of
from tinyslm.packs.security.triage import KINDS, compact

KEYWORDS: Sequence[tuple[str, str, str]] = (
    (r"shadow|recoveryenabled|wbadmin", "T1490", "destruction"),
    (r"wevtutil(\.exe)? cl|clear-eventlog|log (was )?cleared|1102", "T1070.001", "destruction"),
    (r"stoplogging|deletetrail|deleteflowlogs|trail", "T1562.008", "destruction"),
    (r"ransom|encrypt", "T1486", "destruction"),
    (r"failed.*accepted", "T1110.001", "taken_account"),
    (r"spray", "T1110.003", "failed_attack"),
    (r"fail(ed|ures?).*(root|invalid user)|brute|guess", "T1110.001", "failed_attack"),
    (r"lsass", "T1003.001", "host_attack"),
    (r"webshell|uploads?/\S+\.(php|jsp|aspx)", "T1505.003", "host_attack"),
    (r"(union|\.\./|jndi|etc/passwd).* 200\b", "T1190", "host_attack"),
    (r"union|\.\./|jndi|etc/passwd|injection|traversal", "T1190", "failed_attack"),
    (r"nikto|sqlmap|nuclei|gobuster|scan", "T1595.002", "failed_attack"),
    (r"mshta", "T1218.005", "host_attack"),
    (r"regsvr32", "T1218.010", "host_attack"),
    (r"rundll32", "T1218.011", "host_attack"),
    (r"certutil|curl -o", "T1105", "host_attack"),
    (r"bitsadmin", "T1197", "host_attack"),
    (r"schtasks.*create|scheduled task", "T1053.005", "host_attack"),
    (r"cron", "T1053.003", "host_attack"),
    (r"sc(\.exe)? create|new service|service .*installed", "T1543.003", "host_attack"),
    (r"currentversion\\run|run key", "T1547.001", "host_attack"),
    (r"localgroup administrators", "T1098", "host_attack"),
    (r"net1? user .*/add", "T1136.001", "host_attack"),
    (r"psexe", "T1569.002", "host_attack"),
    (r"wmic", "T1047", "host_attack"),
    (r"authorized_keys", "T1098.004", "host_attack"),
    (r"-enc|encodedcommand|downloadstring|powershell.*(hidden|bypass)", "T1059.001", "host_attack"),
    (r"createaccesskey|access key", "T1098.001", "cloud_abuse"),
    (r"userpolicy|administratoraccess", "T1098.003", "cloud_abuse"),
    (r"putbucket|bucket.*public", "T1530", "cloud_abuse"),
    (r"mfa", "T1556.006", "cloud_abuse"),
    (r"consolelogin", "T1078.004", "cloud_abuse"),
    (r"whoami", "T1033", "discovery"),
    (r"nltest|net view", "T1018", "discovery"),
    (r"tasklist", "T1057", "discovery"),
    (r"systeminfo", "T1082", "discovery"),
    (r"ipconfig|route print", "T1016", "discovery"),
    (r"\btxt\b|tunnel", "T1071.004", "bad_name"),
    (r"dga|random", "T1568.002", "bad_name"),
    (r"beacon", "T1071.001", "bad_name"),
    (r"kerberos|spn", "T1558.003", "ordinary"),
    (r"phish|login page", "T1566.002", "ordinary"),
    (r"attachment", "T1566.001", "ordinary"),
)
"""Regular expressions with the technique and the kind of case of events that have them; the first one counts."""

_VALUE = re.compile(
    r"""(?x) "([^"]+)" | '([^']+)'
    | (?<!\S) (?!->) (?=\S*[\d/\\+=<%_-] | \S*\w\.\w | \.\w | [A-Za-z]+[A-Z] | [A-Z]{2})[^\s,;"']+(?<![.,:;)])"""
)
_USER = re.compile(r"(?i)(?:\bCORP\\+|\bfor (?:invalid user )?|\buser(?:Name)?\W{1,4}|\bby )([a-z][\w.-]*\w)")
_HOST = re.compile(r"(?<![\w.-])([A-Za-z]+(?:-[A-Za-z]+)?-?\d{1,4})(?![\w.-])")


def make_baseline(rows: Sequence[Row]) -> Answerer:
    """A program that answers techniques and triage by `KEYWORDS` where one fits, and all else as the nearest question.

    The nearest one of the same skill is found with BM25; values in its rule give way to those of the description.
    """
    hidden = {"technique": "", "rule": "value", "triage": ""}
    found = {name: _Nearest([row for row in rows if row["skill"] == name], text) for name, text in hidden.items()}

    def answer(asked: Sequence[Row]) -> list[str]:
        return [_answer(row, found[row["skill"]]) for row in asked]

    return answer


class _Nearest:
    """Answers of the most similar questions."""

    def __init__(self, rows: Sequence[Row], hidden: str = "") -> None:
        """hidden: what stands for values in questions that are compared; "": the values themselves."""
        import bm25s

        self.rows, self.hidden = rows, hidden
        self.index = bm25s.BM25() if rows else None
        if self.index is not None:
            self.index.index([self._words(question_of(row)) for row in rows], show_progress=False)

    def row(self, question: str) -> Row | None:
        if self.index is None:
            return None
        found, _ = self.index.retrieve([self._words(question)], k=min(50, len(self.rows)), show_progress=False)
        rows = [self.rows[int(number)] for number in found[0]]
        count = len(_values(question))
        return next((row for row in rows if self.hidden and len(_values(question_of(row))) == count), rows[0])

    def _words(self, question: str) -> list[str]:
        text = question.partition("\n")[2] or question
        text = _VALUE.sub(f" {self.hidden} ", text) if self.hidden else text
        return re.findall(r"\w+", text.lower()) or ["-"]

    def answer(self, question: str) -> str:
        row = self.row(question)
        return str(row["messages"][-1]["content"]) if row else ""

    def rule(self, question: str) -> str:
        """The rule of the most similar description with as many values, which are exchanged in their order."""
        row = self.row(question)
        if row is None:
            return ""
        rule, old, new = str(row["messages"][-1]["content"]), _values(question_of(row)), _values(question)
        return re.sub(
            "|".join(map(re.escape, old)) or "$^",
            lambda match: dict(zip(old, new, strict=False)).get(match[0], match[0]),
            rule,
        )


def _values(text: str) -> list[str]:
    """What a description names: quoted texts, and words with digits, signs or capitals inside."""
    return [match[1] or match[2] or match[0] for match in _VALUE.finditer(text.partition("\n")[2])]


def _answer(row: Row, nearest: _Nearest) -> str:
    question = question_of(row)
    text = question.partition("\n")[2].lower().replace("\n", " ")
    match = next((one for one in KEYWORDS if re.search(one[0], text)), None) if text else None
    if row["skill"] == "rule":
        return nearest.rule(question)
    if row["skill"] == "technique" and match:
        return label(match[1])
    if row["skill"] == "triage":
        return compact(_triage(question, match, nearest))
    return nearest.answer(question)


def _triage(question: str, match: tuple[str, str, str] | None, nearest: _Nearest) -> dict[str, Any]:
    text = question.partition("\n")[2]
    entities: Mapping[str, Sequence[str]] = {
        **entities_of(text),
        "users": list(dict.fromkeys(_USER.findall(text))),
        "hosts": list(dict.fromkeys(_HOST.findall(text))),
    }
    if match:
        severity, step = PLAYBOOK[match[2]]
    else:
        close = json.loads(nearest.answer(question) or '{"severity": "none", "next_step": "close"}')
        severity, step = close["severity"], close["next_step"]
    kept = {kind: entities[kind] for kind in KINDS if entities.get(kind)}
    return {"severity": severity, "next_step": step, "entities": kept}
