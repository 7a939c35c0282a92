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
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from local_server import local_server
from tinyslm import Decoder, Engine, ModelConfig, Request, SamplingSettings, open_engine, save_model, train_tokenizer

MESSAGES = [{"role": "user", "content": "It was a dark and stormy night."}]
FEW, MANY = 1, 400
Ask = Callable[[int], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder, log = endless_model(Path(name) / "endless"), Path(name) / "log"
        engine = open_engine(folder)
        engine.start()
        with local_server(folder, log, "--engine", engine.name) as (url, _):
            connection = http.client.HTTPConnection(url.removeprefix("http://"))
            ways: dict[str, Ask] = {
                "engine": lambda tokens: ask_engine(engine, tokens),
                "streaming": lambda tokens: ask_server(connection, tokens, stream=True),
                "whole": lambda tokens: ask_server(connection, tokens, stream=False),
            }
            times = measure(ways, rounds)
            connection.close()
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


def ask_server(connection: http.client.HTTPConnection, tokens: int, *, stream: bool) -> None:
    """One answer over HTTP, read to its end."""
    body = {"model": "endless", "messages": MESSAGES, "max_tokens": tokens, "temperature": 0, "stream": stream}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
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
