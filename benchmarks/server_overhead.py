"""What the server adds to the engine: milliseconds a request, microseconds a token.

    python benchmarks/server_overhead.py

A 3M model with random weights that never ends a text, one stream, greedy. In turns: the engine in this process, the
way the server drives it (its own thread, a sink); and `/v1/chat/completions` of a server in another process, streaming
and whole, over one kept connection. The time of a request of N tokens is a + b N; from 1 and 400 tokens follow the
overhead of a request (difference of a) and of a token (difference of b). The last line printed is the result as JSON.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tinyslm import Decoder, Engine, ModelConfig, Request, SamplingSettings, save_model, train_tokenizer

MESSAGES = [{"role": "user", "content": "It was a dark and stormy night."}]
FEW, MANY = 1, 400
Ask = Callable[[int], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = endless_model(Path(name) / "model")
        engine = Engine.load(folder)
        engine.start()
        with Server(folder) as server:
            ways: dict[str, Ask] = {
                "engine": lambda tokens: ask_engine(engine, tokens),
                "streaming": lambda tokens: server.ask(tokens, stream=True),
                "whole": lambda tokens: server.ask(tokens, stream=False),
            }
            times = measure(ways, rounds)
        engine.close()
    result = {way: overhead(times["engine"], times[way]) for way in ("streaming", "whole")}
    result["engine_tokens_per_second"] = (MANY - FEW) / statistics.median(
        many - few for few, many in zip(times["engine"][FEW], times["engine"][MANY], strict=True)
    )
    print(json.dumps(result))


def endless_model(folder: Path) -> Path:
    """A chat model over bytes whose special tokens are never the likeliest."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([], kind="byte")
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, dim=256, depth=4, context=512, tied=False))
    with torch.no_grad():
        model.lm_head.weight[256:] = 0
    save_model(model, folder, tokenizer)
    return folder


def ask_engine(engine: Engine, tokens: int) -> None:
    """One answer by the engine alone."""
    done = threading.Event()
    request = Request(engine.chat_ids(MESSAGES), SamplingSettings(max_tokens=tokens, temperature=0), continues=False)
    engine.submit(request, lambda piece: done.set() if isinstance(piece, Exception) or piece.finish else None)
    done.wait()


class Server:
    """`tinyslm serve` in a process of its own, and a connection to it."""

    def __init__(self, folder: Path) -> None:
        command = [str(Path(sys.executable).parent / "tinyslm"), "serve", "--model", f"small={folder}", "--port", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        line = ""
        while "http://" not in line:
            line = self._process.stdout.readline()
            assert line, "the server did not start"
        address = line[line.index("http://") + 7 :].split("/")[0]
        self._connection = http.client.HTTPConnection(address)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.wait()

    def ask(self, tokens: int, *, stream: bool) -> None:
        """One answer over HTTP, read to its end."""
        body = {"model": "small", "messages": MESSAGES, "max_tokens": tokens, "temperature": 0, "stream": stream}
        self._connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text


def measure(ways: dict[str, Ask], rounds: int) -> dict[str, dict[int, list[float]]]:
    """Seconds of requests for few and many tokens, by way; the ways take turns, and the first turn warms up."""
    times: dict[str, dict[int, list[float]]] = {way: {FEW: [], MANY: []} for way in ways}
    for number in range(rounds + 1):
        for tokens in (FEW, MANY):
            for way, ask in ways.items():
                start = time.perf_counter()
                ask(tokens)
                if number:
                    times[way][tokens].append(time.perf_counter() - start)
    return times


def overhead(engine: dict[int, list[float]], way: dict[int, list[float]]) -> dict[str, dict[str, float]]:
    """Milliseconds a request and microseconds a token beyond the engine's own, from the rounds."""
    requests = [1e3 * (served - alone) for served, alone in zip(way[FEW], engine[FEW], strict=True)]
    tokens = [
        1e6 * ((way[MANY][at] - way[FEW][at]) - (engine[MANY][at] - engine[FEW][at])) / (MANY - FEW)
        for at in range(len(way[MANY]))
    ]
    return {
        name: {"median": statistics.median(values), "low": min(values), "high": max(values)}
        for name, values in {"ms_a_request": requests, "us_a_token": tokens}.items()
    }


if __name__ == "__main__":
    main()
