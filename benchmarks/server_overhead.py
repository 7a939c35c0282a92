"""What the server adds to the engine: milliseconds a request, microseconds a token.

    python benchmarks/server_overhead.py

A 3M model with random weights that never ends a text, one stream, greedy. In turns: the engine in this process, the
way the server drives it (its own thread, a sink); and `/v1/chat/completions` of a server in another process, streaming
and whole, over one connection. The time of a request of N tokens is a + b N; from 1 and 400 tokens follow the overhead
of a request (difference of a) and of a token (difference of b).
"""

import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from harness import Rates, alternate, finish, parser, spread
from local_server import local_server
from tinyslm import Decoder, Engine, ModelConfig, Request, SamplingSettings, open_engine, save_model, train_tokenizer

MESSAGES = [{"role": "user", "content": "It was a dark and stormy night."}]
FEW, MANY = 1, 400


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=15)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder, log = endless_model(Path(name) / "endless"), Path(name) / "log"
        engine = open_engine(folder)
        engine.start()
        with local_server(folder, log, "--engine", engine.name) as (url, _):
            connection = http.client.HTTPConnection(url.removeprefix("http://"))
            ways: dict[str, Callable[[int], None]] = {
                "engine": lambda tokens: ask_engine(engine, tokens),
                "streaming": lambda tokens: ask_server(connection, tokens, stream=True),
                "whole": lambda tokens: ask_server(connection, tokens, stream=False),
            }
            asks = {
                f"{way} {n}": lambda _, n=n, ask=ask: timed(ask, n) for way, ask in ways.items() for n in (FEW, MANY)
            }
            seconds = alternate(asks, range(rounds + 1))
            connection.close()
        engine.close()
    rates = [
        (MANY - FEW) / (many - few) for few, many in zip(*(seconds[f"engine {n}"] for n in (FEW, MANY)), strict=True)
    ]
    result = {way: overhead(seconds, way) for way in ("streaming", "whole")}
    finish({**result, "engine_tokens_per_second": statistics.median(rates)})


def endless_model(folder: Path) -> Path:
    """A chat model over bytes whose special tokens are never the likeliest."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([], kind="byte")
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, dim=256, depth=4, context=512, tied=False))
    with torch.no_grad():
        model.lm_head.weight[256:] = 0
    save_model(model, folder, tokenizer)
    return folder


def timed(ask: Callable[[int], None], tokens: int) -> float:
    start = time.perf_counter()
    ask(tokens)
    return time.perf_counter() - start


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


def overhead(seconds: Rates, way: str) -> dict[str, dict[str, float]]:
    """Milliseconds a request and microseconds a token beyond the engine's own, from the rounds."""
    few, many = (
        [a - b for a, b in zip(seconds[f"{way} {n}"], seconds[f"engine {n}"], strict=True)] for n in (FEW, MANY)
    )
    tokens = [1e6 * (long - short) / (MANY - FEW) for short, long in zip(few, many, strict=True)]
    return {"ms_a_request": spread(1e3 * value for value in few), "us_a_token": spread(tokens)}


if __name__ == "__main__":
    main()
