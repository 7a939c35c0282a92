"""Events of five log sources: their fields, a short notation of them, and the lines that programs log of them.

The short notation is the values of the fields in order, separated by " | "; "-" is a field without a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

Event = dict[str, str]


@dataclass(frozen=True)
class Source:
    """A log source. fields: as Sigma names them. logsource: of a Sigma rule for it. aliases: further names of fields.

    lines: forms of a log line, with the fields in braces, and {time}, {host} and {number}.
    """

    fields: Sequence[str]
    logsource: Mapping[str, str]
    lines: Sequence[str]
    aliases: Mapping[str, str]


SOURCES: Mapping[str, Source] = {
    "windows": Source(
        ("Image", "CommandLine", "ParentImage", "User"),
        {"category": "process_creation", "product": "windows"},
        (
            "{time} host={host} EventID=1 User={User} Image={Image} CommandLine={CommandLine} Parent={ParentImage}",
            "{host} {User} started {CommandLine} (parent {ParentImage})",
            '{time} {host} Sysmon: Process Create: "{CommandLine}" by {User}, parent {ParentImage}',
        ),
        {},
    ),
    "web": Source(
        ("cs-method", "cs-uri-stem", "cs-uri-query", "sc-status", "c-ip", "cs-user-agent"),
        {"category": "webserver"},
        (
            '{host} {c-ip} - - [{time}] "{cs-method} {url} HTTP/1.1" {sc-status} {number} "-" "{cs-user-agent}"',
            "{time} {host} {c-ip} {cs-method} {url} {sc-status}",
        ),
        {"cs-useragent": "cs-user-agent", "c-useragent": "cs-user-agent", "src_ip": "c-ip", "sc_status": "sc-status"},
    ),
    "dns": Source(
        ("query", "record_type", "answer", "src_ip"),
        {"category": "dns"},
        (
            "{time} dnsmasq[{number}]: query[{record_type}] {query} from {src_ip}",
            "{time} client {src_ip}#{number}: query: {query} IN {record_type}",
        ),
        {"QueryName": "query", "dns.question.name": "query", "c-ip": "src_ip"},
    ),
    "cloud": Source(
        ("eventSource", "eventName", "userIdentity.userName", "sourceIPAddress", "errorCode"),
        {"product": "aws", "service": "cloudtrail"},
        (
            '{{"eventTime": "{time}", "eventSource": "{eventSource}", "eventName": "{eventName}", "userName": '
            '"{userIdentity.userName}", "sourceIPAddress": "{sourceIPAddress}", "errorCode": "{errorCode}"}}',
            "CloudTrail {eventName} ({eventSource}) by {userIdentity.userName} from {sourceIPAddress} {errorCode}",
        ),
        {"userIdentity.arn": "userIdentity.userName"},
    ),
    "sshd": Source(
        ("message",),
        {"product": "linux", "service": "sshd"},
        ("{time} {host} sshd[{number}]: {message}", "{host} sshd: {message}"),
        {"Message": "message", "msg": "message"},
    ),
}


def event_of(source: str, text: str) -> Event:
    """An event from the short notation. Raises `ValueError` if the number of values is wrong."""
    fields = SOURCES[source].fields
    return {
        field: value.strip() for field, value in zip(fields, text.split(" | "), strict=True) if value.strip() != "-"
    }


def log_line(source: str, event: Mapping[str, str], host: str, random: Random) -> str:
    """The event as a line of a log, in one of the source's forms."""
    about = SOURCES[source]
    query = event.get("cs-uri-query")
    values = {
        **dict.fromkeys(about.fields, "-"),
        **event,
        "url": event.get("cs-uri-stem", "") + (f"?{query}" if query else ""),
        "time": f"2026-11-{random.randint(1, 28):02}T{random.randint(0, 23):02}:{random.randint(0, 59):02}:07Z",
        "host": host,
        "number": str(random.randint(300, 9999)),
    }
    form = random.choice(about.lines).replace("{{", "\0").replace("}}", "\1")
    line = re.sub(r"\{([\w.-]+)\}", lambda match: values[match[1]], form).replace("\0", "{").replace("\1", "}")
    return line.replace(', "errorCode": "-"', "").removesuffix(" -")


def logsource_yaml(source: str) -> str:
    """The first lines of a rule for a source."""
    return "logsource:\n" + "".join(f"    {key}: {value}\n" for key, value in SOURCES[source].logsource.items())


def columns(source: str, event: Mapping[str, str]) -> Event:
    """The values that a rule may ask for: the fields, and further names of them; "fulltext" is all of it."""
    about = SOURCES[source]
    found = {**event, **{name: event[field] for name, field in about.aliases.items() if field in event}}
    if source == "windows":
        found["OriginalFileName"] = event.get("Image", "").rpartition("\\")[2]
    if source == "web":
        query = event.get("cs-uri-query")
        found["c-uri"] = found["cs-uri"] = event.get("cs-uri-stem", "") + (f"?{query}" if query else "")
    return {**found, "fulltext": " ".join(event.values())}
