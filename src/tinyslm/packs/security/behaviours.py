"""Behaviours seen in logs, benign and hostile, with invented names and documentation addresses; and the playbook."""

from __future__ import annotations

import re
import tomllib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

from tinyslm.packs.pack import Split
from tinyslm.packs.security.events import event_of, log_line

PLAYBOOK: Mapping[str, tuple[str, str]] = {
    "ordinary": ("none", "close"),
    "failed_attack": ("low", "block_ip"),
    "discovery": ("medium", "ask_user"),
    "bad_name": ("medium", "block_domain"),
    "taken_account": ("high", "reset_password"),
    "cloud_abuse": ("high", "revoke_access"),
    "host_attack": ("high", "isolate_host"),
    "destruction": ("critical", "escalate"),
}
"""Severity and next step of each kind of case; `docs/packs-security.md` says when which applies."""

USERS: Mapping[Split, Sequence[str]] = {
    "train": ("a.kim", "m.rossi", "svc_backup", "j.doe", "n.orsi", "t.lange", "p.cruz", "admin1", "deploy", "oracle",
              "h.weber", "l.ferri", "ops", "r.singh", "test", "it-desk", "e.novak", "guest", "b.yilmaz", "s.dahl"),
    "test": ("k.ivanov", "d.mbeki", "svc_web", "g.hall", "u.costa", "build9", "ftp2", "y.sato", "v.adler"),
}  # fmt: skip
HOSTS: Mapping[Split, Mapping[str, Sequence[str]]] = {
    "train": {"windows": ("WS-", "LT-", "HR-PC", "SRV-FILE"), "web": ("web", "shop-"),
              "sshd": ("bastion", "ssh-gw", "db"), "": ("node",)},
    "test": {"windows": ("PC-FIN", "DESK", "SQL-"), "web": ("www", "cms-"), "sshd": ("jump", "build-"), "": ("core",)},
}  # fmt: skip
DOMAINS: Mapping[Split, Sequence[str]] = {
    "train": ("files.example", "cdn.example", "get.example.net", "load.example", "drop.example.org", "static.example"),
    "test": ("mirror.example", "assets.example.net", "pkg.example.org", "stage.example"),
}
FILES: Mapping[Split, Sequence[str]] = {
    "train": ("upd", "svchostx", "invoice", "k3", "winhelp", "setup7", "tmpa", "mssync", "report", "agent2"),
    "test": ("loader", "onedrv", "scan_22", "helper", "qz"),
}
NETWORKS: Mapping[Split, Sequence[str]] = {"train": ("203.0.113.", "198.51.100."), "test": ("203.0.113.", "2001:db8::")}

_SLOT = re.compile(r"\{(user|host|ip|inner|domain|file|b64l|b64m|b64|rand|port|n)(\d?)\}")
_IP = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)|(?<![\w:])[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){2,7}(?![\w:])")
_DOMAIN = re.compile(r"(?<![\w.-])(?:[\w-]+\.)*(?:[\w-]+\.example(?:\.\w+)*|example\.(?:com|net|org))(?![\w-])")


@dataclass(frozen=True)
class Behaviour:
    """A behaviour with an ATT&CK technique, or "none", and a kind of case of the playbook, or "".

    events: templates in the short notation, one event a line. words: templates of what people write of it.
    """

    source: str
    technique: str
    case: str
    events: Mapping[Split, Sequence[str]]
    words: Mapping[Split, Sequence[str]]


@dataclass(frozen=True)
class Sighting:
    """A text about a behaviour, and the users, hosts, addresses and domains that it names."""

    text: str
    entities: Mapping[str, Sequence[str]]


@cache
def behaviours() -> Sequence[Behaviour]:
    """All behaviours."""
    read = tomllib.loads((files(__package__) / "behaviours.toml").read_text(encoding="utf-8"))

    def one(row: Mapping[str, Any]) -> Behaviour:
        events: dict[Split, Sequence[str]] = {"train": row["train"], "test": row["test"]}
        words: dict[Split, Sequence[str]] = {"train": row["train_words"], "test": row["test_words"]}
        return Behaviour(row["source"], row["technique"], row["case"], events, words)

    return [one(row) for row in read["behaviour"]]


def draw(random: Random, split: Split, *, cases: bool = False) -> tuple[Behaviour, Sighting]:
    """A behaviour, and a sighting of it in a log or in words. cases: only those that the playbook covers."""
    if random.random() < 0.15:
        able = [one for one in behaviours() if one.technique == "none"]
    elif cases:
        case = random.choice(list(PLAYBOOK))
        able = [one for one in behaviours() if one.case == case]
    else:
        able = list(behaviours())
    found = random.choice(able)
    return found, sight(random, found, split)


def sight(random: Random, behaviour: Behaviour, split: Split) -> Sighting:
    """A text about a behaviour."""
    names: dict[str, str] = {}

    def value(match: re.Match[str]) -> str:
        if match[0] not in names:
            names[match[0]] = _value(random, match[1], behaviour.source, split, list(names.values()))
        return names[match[0]]

    events, words = behaviour.events[split], behaviour.words[split]
    if events and (not words or random.random() < 0.6):
        host = value(re.match(_SLOT, "{host}"))  # type: ignore[arg-type]
        filled = [_SLOT.sub(value, line) for line in random.choice(events).split("\n")]
        seed = random.random()
        lines = [log_line(behaviour.source, event_of(behaviour.source, line), host, Random(seed)) for line in filled]
        text = "\n".join(lines)
    else:
        text = _SLOT.sub(value, _mistyped(random, random.choice(words)))
    return Sighting(text, entities_of(text, names))


def entities_of(text: str, names: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """What a text names: addresses and domains by their form, users and hosts among the values of `names`."""
    names = names or {}
    found = {
        "users": [one for name, one in names.items() if name.startswith("{user") and one in text],
        "hosts": [one for name, one in names.items() if name.startswith("{host") and one in text],
        "ips": [one.rstrip(":") for one in _IP.findall(text)],
        "domains": _DOMAIN.findall(text),
    }
    if re.search(r"\bfor (?:invalid user )?root\b", text):
        found["users"].append("root")
    return {kind: list(dict.fromkeys(values)) for kind, values in found.items() if values}


def _value(random: Random, kind: str, source: str, split: Split, taken: Sequence[str]) -> str:
    """A value for a slot of a template; users differ."""
    letters = "abcdefghijkmnpqrstuvwxyz0123456789"
    pools: Mapping[str, Sequence[str]] = {"user": USERS[split], "domain": DOMAINS[split], "file": FILES[split]}
    if kind in pools:
        return random.choice([one for one in pools[kind] if one not in taken])
    hosts = HOSTS[split].get(source, HOSTS[split][""])
    starts = {"host": random.choice(hosts), "ip": random.choice(NETWORKS[split]), "inner": "192.0.2."}
    if kind in starts:
        return f"{starts[kind]}{random.randint(10, 99 if kind == 'host' else 254)}"
    numbers = {"port": (1025, 65000), "n": (6, 990)}
    if kind in numbers:
        return str(random.randint(*numbers[kind]))
    text = "".join(random.choice(letters) for _ in range(12))
    return text if kind == "rand" else b64encode(text.encode()).decode().rstrip("=") + "aQ" * (kind == "b64")


def _mistyped(random: Random, template: str) -> str:
    """A template as it is, or with a letter missing or two exchanged, outside of its slots."""
    if random.random() < 0.6:
        return template
    words = [match.start() for match in re.finditer(r"(?<![^ ])[a-z]{4,}(?= )", template)]
    if not words:
        return template
    place = random.choice(words) + random.randint(1, 3)
    if random.random() < 0.5:
        return template[:place] + template[place + 1 :]
    return template[: place - 1] + template[place] + template[place - 1] + template[place + 1 :]
