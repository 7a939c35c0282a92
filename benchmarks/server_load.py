"""Many clients at once, a third of which hang up: is every answer the right one, and does memory stay flat?

    python benchmarks/server_load.py --minutes 5

Each request's prompt ends with a marker of its own behind random text of mixed length; the model says the marker again
and again, so that an answer that was mixed up, cut or doubled shows at the first wrong byte. Half of the answers are
streamed. Clients hang up in the middle of a stream, or while they wait for a whole answer. Afterwards nothing may run
or wait in the engine.
"""

import asyncio
import json
import random
import re
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import psutil

from echo_model import CONTEXT, PERIOD, echo_model
from harness import finish, parser
from local_server import local_server

PROMPTS = (0, 20, 60, 200, 500, CONTEXT - 100)  # bytes before the marker
ANSWERS = (18, 36, 72)  # tokens
SECONDS_BETWEEN_LOOKS = 0.5


@dataclass
class Seen:
    """What all clients saw. Times in seconds."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    tokens: int = 0


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--minutes", type=float, default=5)
    options.add_argument("--clients", type=int, default=200)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        model, log = echo_model(Path(name) / "echo"), Path(name) / "log"
        with local_server(model, log, "--max-requests", str(2 * arguments.clients)) as (url, process):
            seen, memory = asyncio.run(load(url, process, arguments.clients, 60 * arguments.minutes))
            left = wait_until_quiet(url)
        assert "Traceback" not in log.read_text(), log.read_text()[-5000:]
    finish(
        {
            "minutes": arguments.minutes,
            "clients": arguments.clients,
            **summary(seen, memory, arguments.minutes),
            "left_in_the_engine": left,
        }
    )


async def load(url: str, process: int, clients: int, seconds: float) -> tuple[Seen, list[int]]:
    """Let the clients ask for so long; returns what they saw, and the server's memory over time."""
    seen, memory = Seen(), list[int]()
    end = time.monotonic() + seconds
    host, port = url.removeprefix("http://").split(":")

    async def look() -> None:
        while time.monotonic() < end:
            memory.append(psutil.Process(process).memory_info().rss)
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    async def client(number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            seen.counts["sent"] += 1
            await ask(host, int(port), chance, seen)

    await asyncio.gather(look(), *[client(number) for number in range(clients)])
    return seen, memory


async def ask(host: str, port: int, chance: random.Random, seen: Seen) -> None:
    """One request; what comes of it is counted."""
    marker = f"{chance.getrandbits(32):08x}|"
    before = "".join(chr(chance.randrange(33, 127)) for _ in range(chance.choice(PROMPTS)))
    tokens, stream, leaves = chance.choice(ANSWERS), chance.random() < 0.5, chance.random() < 1 / 3
    asked = {"model": "echo", "prompt": before + marker, "max_tokens": tokens, "temperature": 0, "stream": stream}
    body = json.dumps(asked).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    wanted = (marker * (tokens // PERIOD + 1))[:tokens]
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        if leaves and not stream:
            await asyncio.sleep(chance.random() * 0.2)
            seen.counts["hung up while waiting"] += 1
            return
        status = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
        text = await read(reader, stream, len(wanted) // 2 if leaves else None, begun, seen)
        judge(status, text, wanted[: len(text)] if leaves else wanted, seen)
        seen.counts["hung up in a stream" if leaves else "answered"] += 1
        if not leaves:
            seen.total.append(time.perf_counter() - begun)
            seen.tokens += tokens
    finally:
        writer.close()


def judge(status: int, text: str, wanted: str, seen: Seen) -> None:
    """Count an answer that is not the one that was asked for."""
    if status != 200:
        seen.counts[f"refused with {status}"] += 1
    elif text != wanted:
        seen.counts["wrong"] += 1
        print(f"wanted {wanted!r}, got {text!r}", flush=True)


async def read(reader: asyncio.StreamReader, stream: bool, limit: int | None, begun: float, seen: Seen) -> str:
    """The text of an answer; of a stream, no more than what has come when it has `limit` characters."""
    if not stream:
        whole = await reader.read()
        return json.loads(whole)["choices"][0]["text"] if whole.startswith(b"{") else ""
    text = ""
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if "choices" not in event:
                return f"{text}{event}"
            if not text:
                seen.first.append(time.perf_counter() - begun)
            text += event["choices"][0]["text"]
            if limit is not None and len(text) >= limit:
                break
    return text


def wait_until_quiet(url: str) -> dict[str, float]:
    """Requests that the server says it still has, after waiting at most ten seconds for none."""
    end = time.monotonic() + 10
    while True:
        page = urlopen(f"{url}/metrics").read().decode()
        left = {
            kind: float(re.search(rf"^tinyslm_{kind}\{{.*\}} (.*)$", page, re.M)[1]) for kind in ("running", "waiting")
        }
        if not any(left.values()) or time.monotonic() > end:
            return left
        time.sleep(0.1)


def summary(seen: Seen, memory: list[int], minutes: float) -> dict:
    """What is reported of a load."""
    third = max(1, len(memory) // 3)
    ended = sum(seen.counts[kind] for kind in ("answered", "hung up in a stream", "hung up while waiting"))
    return {
        "counts": dict(sorted(seen.counts.items())),
        "lost": seen.counts["sent"] - ended,
        "wrong": seen.counts["wrong"],
        "tokens_per_second": seen.tokens / (60 * minutes),
        "first_token_seconds": quantiles(seen.first),
        "answer_seconds": quantiles(seen.total),
        "memory_mb": {
            "second third": statistics.median(memory[third : 2 * third] or memory) / 1e6,
            "last third": statistics.median(memory[-third:]) / 1e6,
        },
    }


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, 90th and 99th of a hundred."""
    cuts = statistics.quantiles(values, n=100)
    return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98]}


if __name__ == "__main__":
    main()
