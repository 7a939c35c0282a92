"""The tables of docs/results.md: for each area, which rows come from which benchmark's result."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from statistics import mean, median
from typing import Any, NamedTuple

from tokenization_plots import by_vocabulary

WITHOUT_BF16 = " without bf16"
"""Ends the names of results from a processor that has no instructions for bf16."""


class Row(NamedTuple):
    """One comparison. ratio: ours to the peer, with its spread over the rounds."""

    what: str
    ours: str
    peer: str = ""
    ratio: str = ""


Rows = Iterator[Row]


class Area(NamedTuple):
    """A table: the function that makes the rows of each benchmark's result, by the benchmark's name."""

    title: str
    sources: Mapping[str, Callable[[Any], Rows]]


def times(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def interval(one: Mapping[str, float]) -> str:
    return f"{one['bits_per_byte']:.4f} ({one['low']:.4f} to {one['high']:.4f})"


def limits(values: Iterable[float], form: str) -> str:
    """The lowest to the highest value."""
    found = list(values)
    return f"{format(min(found), form)} to {format(max(found), form)}"


def minutes(one: Mapping[str, Any]) -> str:
    return "1 minute" if one["minutes"] == 1 else f"{one['minutes']:g} minutes"


def throughput(result: Any) -> Rows:
    rates = result["tokens_per_second"]
    peer = "a plain fp32 loop over transformers' GPT-2"
    for name, ratio in result["ratios"].items():
        theirs = f"{rates['transformers GPT-2, fp32']:,.0f}, {peer}"
        yield Row(f"training steps, 10.65M parameters: {name}", f"{rates[name]:,.0f} tokens/s", theirs, times(ratio))


def processes(result: Any) -> Rows:
    one, several = result["tokens_per_second"].items()
    what = f"training steps, 10.65M parameters, Muon: {several[0]}, which share the cores"
    yield Row(what, f"{several[1]:,.0f} tokens/s", f"{one[1]:,.0f}, one process", times(result["times"]))


def processes_data(result: Any) -> Rows:
    one, several = result["mb_per_second"].items()
    what = f"text to shards, {result['megabytes']:.1f} MB: {several[0]}"
    yield Row(what, f"{several[1]:.2f} MB/s", f"{one[1]:.2f}, one process", times(result["times"]))


def processes_serving(result: Any) -> Rows:
    one, several = result["tokens_per_second"].items()
    what = f"serving {result['clients']} clients, a small model: {several[0]}, which share the cores"
    yield Row(what, f"{several[1]:,.0f} tokens/s", f"{one[1]:,.0f}, one process", times(result["times"]))


def throughput_without_bf16(result: Any) -> Rows:
    for row in throughput(result):
        yield row._replace(what=f"{row.what}, processor without bf16")


def gpu(result: Any) -> Rows:
    where = result["device"]
    for shape, one in result["steps"].items():
        rates, share = one["tokens_per_second"], one.get("share_of_peak", one["share_of_product"])
        of = "peak" if "share_of_peak" in one else "a product's speed"
        for who in ("tinyslm, Muon, compiled", "tinyslm, AdamW, compiled"):
            yield Row(
                f"training steps, {shape}, {where}: {who}",
                f"{rates[who]:,.0f} tokens/s, {100 * share[who]:.0f} % of {of}",
                f"{rates['transformers, compiled']:,.0f}, transformers, compiled",
                times(one["ratios"][who]),
            )
        fits = result["memory"][shape]
        yield Row(
            f"the same in 12 GB, micro-batches of {fits['micro_batch']}",
            f"{fits['tokens_per_second'] or 0:,.0f} tokens/s",
        )
    streams, one = list(result["decoding"].items())[-1]
    rates = one["tokens_per_second"]
    yield Row(
        f"decoding, {streams} streams, SmolLM2's shape in bf16, {where}",
        f"{rates['tinyslm']:,.0f} tokens/s",
        f"{rates['transformers.generate']:,.0f}, transformers.generate",
        times(one["ratio"]),
    )
    same = " and ".join(how for how, whether in result["resume"].items() if whether)
    yield Row("a stopped and resumed run ends with the same bits", same or "no")
    yield Row("tests for GPUs", ", ".join(f"{count} {kind}" for kind, count in result["tests"].items()))


def attention(result: Any) -> Rows:
    shapes = result["shapes"]
    ms = limits((one["ms"]["tinyslm"] for one in shapes), ".2f")
    theirs = limits((one["ms"][one["better_peer"]] for one in shapes), ".2f")
    ratios = limits((one["ratio"]["median"] for one in shapes), ".2f")
    what = f"causal attention in {result.get('dtype', 'bf16')}, forward and backward, {len(shapes)} shapes"
    yield Row(what, f"{ms} ms", f"{theirs} ms, the better of SDPA and attention written out", f"{ratios} (medians)")


def head_loss(result: Any) -> Rows:
    seconds, memory, ratios = result["seconds"], result["peak_mb"], result["ratios"]["bfloat16"]
    figures = {
        name: f"{memory[f'{name}, bfloat16']:,.0f} MB, {seconds[f'{name}, bfloat16']:.2f} s"
        for name in ("tinyslm", "plain")
    }
    ratio = f"{times(ratios['memory'])} times less memory, {times(ratios['seconds'])} times as fast"
    what = f"cross-entropy in bf16, {result['positions']:,} positions, vocabulary {result['vocab_size']:,}"
    yield Row(what, figures["tinyslm"], f"{figures['plain']}, F.cross_entropy on all logits", ratio)


def shakespeare(result: Any) -> Rows:
    for goal in result.values():
        losses = [run["loss"] for run in goal["runs"]]
        ours = f"loss {mean(losses):.4f} ({limits(losses, '.4f')}, {len(losses)} seeds)"
        kind = "the whole command" if goal["whole"] else "training"
        yield Row(f"Shakespeare characters, {goal['seconds']} s of {kind}", ours, f"{goal['loss']}: {goal['source']}")


def stories(result: Any) -> Rows:
    (ours,) = [one for one in result["contenders"] if not one["size"]]
    fewer = result["fewer"]["bf16"]
    (peer,) = [one for one in result["contenders"] if one["name"] == fewer["peer"]]
    best = f"{interval(peer)}, the best of six plain loops: {peer['name']}"
    what = f"stories, {minutes(result)} of training"
    yield Row(what, f"{interval(ours)} bits per byte", best, f"{fewer['share']:.1%} fewer bits per byte")


def plans(result: Any) -> Rows:
    done = [one for one in result["runs"] if "failed" not in one]
    for budget in dict.fromkeys(one["minutes"] for one in done):
        same = [one for one in done if one["minutes"] == budget]
        texts = ", ".join(one["text"] for one in same)
        ours = ", ".join(f"{one['bits_per_byte']:.3f}" for one in same)
        expected = ", ".join(f"{one['expected']['bits_per_byte']:.3f}" for one in same)
        off = [limits((one[name] for one in same), "+.1%") for name in ("time_off", "memory_off")]
        what = f"a plan for {minutes(same[0])}: {texts}"
        yield Row(what, f"{ours} bits per byte", f"{expected} expected", f"time {off[0]}, memory {off[1]} off")


def plans_without_bf16(result: Any) -> Rows:
    for row in plans(result):
        yield row._replace(what=f"{row.what}, processor without bf16")


def searches(result: Any) -> Rows:
    done = [one for one in result["searches"] if one["ratio"] is not None]
    for budget in dict.fromkeys(one["minutes"] for one in done):
        same = [one for one in done if one["minutes"] == budget]
        number = min(len(one["rows"]) for one in same)
        columns = [", ".join(f"{one[key]:.3f}" for one in same) for key in ("planned", "best", "ratio")]
        what = f"a plan for {minutes(same[0])} and a random search: {', '.join(one['text'] for one in same)}"
        yield Row(what, f"{columns[0]} bits per byte", f"{columns[1]}, the best of {number} random shapes", columns[2])


def quickstart(result: Any) -> Rows:
    ours = f"{result['bits_per_byte']:.3f} bits per byte ({result['low']:.3f} to {result['high']:.3f})"
    others = ", ".join(f"{name} {value:.3f}" for name, value in result["baselines"].items())
    yield Row(f"quickstart: the Python standard library, {result['training_seconds']:.0f} s", ours, others)
    functions = result["functions"]
    ours = f"{functions['completions that parse']} of {functions['headers']}"
    theirs = f"{functions['originals that parse, cut the same way']}, the originals, cut the same way"
    yield Row("quickstart: completions of unseen function headers that parse", ours, theirs)


def compared(what: str, found: Any, name: str, peer: str) -> Row:
    """A contender's tokens per second, and its ratio to the peer."""
    rates = found["tokens_per_second"]
    return Row(what, f"{rates[name]:,.0f} tokens/s", f"{rates[peer]:,.0f}, {peer}", times(found["ratios"][name]))


def compiled(result: Any) -> Rows:
    peer = "llama.cpp (compiled for this processor) Q4_0"
    for count, found in result["compiled"].items():
        what = f"decoding in 4 bits, {count} {'stream' if count == '1' else 'streams'}, SmolLM2-135M"
        yield compared(what, found["decoding"], "native int4", peer)
    yield compared("reading a prompt, 4 bits, SmolLM2-135M", result["compiled"]["1"]["prompts"], "native int4", peer)


def engines(result: Any) -> Rows:
    wheel = "llama.cpp (pip wheel xllamacpp) Q4_0"
    for kind in ("extracting", "editing"):
        what = f"{kind} text, looking up in the prompt, 4 bits, SmolLM2-135M"
        yield compared(what, result["look_up"][kind], "native int4, look-up", wheel)
    yield compared("decoding in bf16, 1 stream, SmolLM2-135M", result["bf16"], "native", "transformers.generate")
    what = f"decoding in fp32, 1 stream, {result['small']['parameters'] / 1e6:.1f}M parameters"
    yield compared(what, result["small"], "native", "transformers.generate")
    first = [result["prefix"][name] for name in ("native int4", wheel)]
    ms = [f"{1e3 * one['seconds']['known']:.0f} ms; new {1e3 * one['seconds']['new']:.0f} ms" for one in first]
    ratio = f"known to new: {times(first[0]['ratio'])}; llama.cpp {times(first[1]['ratio'])}"
    yield Row("first token behind 500 known tokens, SmolLM2-135M", ms[0], f"{ms[1]}, {wheel}", ratio)


def structured(result: Any) -> Rows:
    what = f"documents valid under {result['schemas']} JSON schemas, {result['parameters'] / 1e6:.1f}M parameters"
    yield Row(what, f"{result['valid']:,} of {result['count']:,}")


def server_overhead(result: Any) -> Rows:
    for way in ("streaming", "whole"):
        request, token = result[way]["ms_a_request"], result[way]["us_a_token"]
        ours = (
            f"{request['median']:.1f} ms a request ({request['low']:.1f} to {request['high']:.1f}), "
            f"{token['median']:.0f} µs a token ({token['low']:.0f} to {token['high']:.0f})"
        )
        yield Row(f"`/v1/chat/completions`, {way}: time added to the engine's", ours)


def server_load(result: Any) -> Rows:
    counts, first, whole = result["counts"], result["first_token_seconds"], result["answer_seconds"]
    memory = result["memory_mb"]
    left = sum(number for kind, number in counts.items() if kind.startswith("hung up"))
    what = f"{result['clients']} clients at once, {minutes(result)}"
    requests = f"{counts['sent']:,} sent, {left:,} hung up, {result['lost']} lost, {result['wrong']} mixed up"
    yield Row(f"{what}: requests", requests)
    answers = f"{whole['p50']:.2f} s, 99th percentile {whole['p99']:.2f} s"
    yield Row(f"{what}: first token", f"median {first['p50']:.2f} s, 99th percentile {first['p99']:.2f} s")
    yield Row(f"{what}: whole answer", f"median {answers}")
    grown = f"{memory['second third']:.0f} MB in the second third, {memory['last third']:.0f} MB in the last"
    yield Row(f"{what}: the server's memory", grown)


def container(result: Any) -> Rows:
    inside, outside = (f"{1e3 * result['first_token_seconds'][name]:.1f} ms" for name in ("container", "bare"))
    yield Row("first token from a container", inside, f"{outside}, the server outside of it", times(result["ratio"]))
    start = result["start_seconds"]
    yield Row("start of a container", f"{start['container']:.0f} s", f"{start['bare']:.0f} s outside")


def tool_calls(result: Any) -> Rows:
    for way, said in {"one": "one call required", "list": "one or more calls required"}.items():
        found = result[way]
        right, named = (
            f"{one['count']} ({one['interval'][0]:.0%} to {one['interval'][1]:.0%})"
            for one in (found["right_call"], found["right_name"])
        )
        what = f"tool calls of SmolLM2-135M, {result['requests']} requests, {result['tools']} tools, {said}"
        yield Row(what, f"right name and arguments: {right}; right name: {named}")


def imported(result: Any) -> Rows:
    what = "SmolLM2-135M from its GGUF file"
    yield Row(f"{what}: strings with llama.cpp's ids", f"{result['strings_equal']:,} of {result['strings']:,}")
    same = f"{result['prompts_equal']} of {result['prompts']}, {result['tokens']} tokens each"
    yield Row(f"{what}: prompts with llama.cpp's greedy text, F32", same)


def quantization(result: Any) -> Rows:
    for model, found in result.items():
        name = "SmolLM2-135M" if model == "smollm2" else f"a model of stories, {found['parameters'] / 1e6:.1f}M"
        for scheme, report in found["schemes"].items():
            rows = {row["name"]: row for row in report["rows"]}
            original, rounded = rows["original"], rows["rounded to nearest"]
            final = next((row for key, row in rows.items() if key == "GPTQ"), rounded)
            ours = f"{final['bits_per_weight']:.2f} bits per weight, {final['bytes'] / 1e6:.1f} MB: {change(final)}"
            peer = f"original: {original['bytes'] / 1e6:.1f} MB, {original['bits_per_byte']:.4f} bits per byte"
            peer += "" if final is rounded else f"; rounding to nearest: {change(rounded)}"
            yield Row(f"{scheme}{'' if final is rounded else ' with GPTQ'}, {name}", ours, peer)


def change(row: Any) -> str:
    judged = row["judgement"]
    low, high = f"{judged['low']:+.2%}", f"{judged['high']:+.2%}"
    return f"{judged['change']:+.2%} ({low} to {high}) bits per byte, KL {judged['kl']:.4f}"


def data(result: Any) -> Rows:
    ours, theirs, ratios = (sorted(result[key]) for key in ("ours_mb_per_s", "datasets_mb_per_s", "ratios"))
    ratio = times({"median": median(ratios), "low": ratios[0], "high": ratios[-1]})
    peer = f"{median(theirs):.1f} MB/s, datasets.map with tokenizers: tokenization alone"
    what = "text to shards: reading, cleaning, duplicates, encoding (vocabulary 4,096)"
    yield Row(what, f"{median(ours):.1f} MB/s ({ours[0]:.1f} to {ours[-1]:.1f})", peer, ratio)


def memory(result: Any) -> Rows:
    yield Row("preparing 1 GB of text, all processes", f"peak of {result['peak_mb']:,.0f} MB")


def large_data(result: Any) -> Rows:
    repeated, read = result["duplicates"][-1], result["loader"][-1]
    memory = f"{repeated['more_memory'] / 1e6:,.0f} MB"
    yield Row(f"finding duplicates among {repeated['documents']:,} documents", f"{repeated['seconds']:.2f} s, {memory}")
    yield Row(f"opening shards of {read['documents']:,} documents", f"{read['seconds_to_open']:.3f} s")


def scoring(result: Any) -> Rows:
    rates, full = result["pairs_per_second"], result["full"]
    for name, ratio in result["ratios"].items():
        peer = f"{rates[name]:,.0f}, {name}, transformers"
        yield Row("minimal pairs scored, 10.9M parameters", f"{rates['tinyslm']:,.0f} pairs/s", peer, times(ratio))
    yield Row(f"all {full['pairs']:,} pairs of BLiMP", f"{full['seconds']:,.0f} s")


FORMATS = {"default": "each by default (bf16, fp32)", "bf16": "bf16", "fp32": "fp32"}


def finetuning(result: Any) -> Rows:
    rates, memory = result["tokens_per_second"], result["peak_memory"]
    name = f"{'all weights' if result.get('full') else 'LoRA'} of SmolLM2-135M, {FORMATS[result['dtype']]}"
    ratio = result["ratios"]["tinyslm"]
    yield Row(name, f"{rates['tinyslm']:,.0f} tokens/s", f"{rates['TRL']:,.0f}, TRL and peft", times(ratio))
    ours, theirs = memory["tinyslm"], memory["TRL"]
    yield Row(f"{name}: peak memory", f"{ours / 1e9:.1f} GB", f"{theirs / 1e9:.1f} GB", f"{ours / theirs:.2f}")


def rewards(result: Any) -> Rows:
    rates, memory = result["tokens_per_second"], result["peak_memory"]
    name = f"GRPO of SmolLM2-135M, {result['dtype']}"
    peer = f"{rates['TRL']:.2f}, TRL{' with continuous batching' if result['continuous batching'] else ''}"
    yield Row(name, f"{rates['tinyslm']:.2f} completions/s", peer, times(result["ratios"]["tinyslm"]))
    ours, theirs = memory["tinyslm"], memory["TRL"]
    yield Row(f"{name}: peak memory", f"{ours / 1e9:.1f} GB", f"{theirs / 1e9:.1f} GB", f"{ours / theirs:.2f}")


def qlora(result: Any) -> Rows:
    points = f"{result['accuracy']['points']:+.1f} points of accuracy"
    yield Row("adapters of a 4-bit base, a small model", points, "adapters of the dense base")


def shares(values: Iterable[float]) -> str:
    """A share with its interval."""
    value, low, high = values
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def own_job(result: Any) -> Rows:
    scores, (base, *others) = (
        result["scores"],
        ["base", "sft", *(set(result["scores"]) - {"nearest row", "base", "sft"})],
    )
    for name in others:
        yield Row(
            f"{result['job']}, {name} of SmolLM2-135M",
            shares(scores[name]),
            f"{shares(scores['nearest row'])}, the nearest row; {shares(scores[base])}, the model before",
        )


def chatbot(result: Any) -> Rows:
    what = f"{result['questions']} questions about stories, {result['minutes']:.0f} minutes from random weights"
    before, after = (f"score {100 * result[name]:.1f} %" for name in ("before", "after"))
    gain = f"{100 * result['low']:+.1f} to {100 * result['high']:+.1f} points"
    yield Row(f"{what}, {result['parameters'] / 1e6:.1f}M parameters", after, f"{before}, taught stories only", gain)


def logic_pack(result: Any) -> Rows:
    for task, one in result["tasks"].items():
        yield Row(
            f"{task}, after {result['minutes']:g} minutes", shares(one["after"]), f"{shares(one['before'])} before"
        )


def pack(result: Any) -> Rows:
    for task, columns in result["tasks"].items():
        taught = [name for name in columns if name not in ("baseline", "base")]
        best = max(taught, key=lambda name: columns[name]["score"])
        peer = f"{shares(columns['baseline']['score'])}, a program without a model" if "baseline" in columns else ""
        before = f"{shares(columns['base']['score'])}, the model before" if "base" in columns else ""
        learner = f"{result['parameters'] / 1e6:.1f}M from nothing" if result.get("new") else "SmolLM2-135M"
        yield Row(
            f"{task}, {learner}, {best}, {result['step']} updates",
            shares(columns[best]["score"]),
            "; ".join(filter(None, (peer, before))),
        )


def excel_pairs(result: Any) -> Rows:
    yield Row(
        f"{result['pairs']:,} requests with formulas, {result['functions']} functions", f"{result['seconds']:g} s"
    )
    right = result.get("right", 0)
    yield Row(f"{result['executed']:,} of them executed", f"{right:,} right, {result['executed'] - right} wrong")


def linting(result: Any) -> Rows:
    faults = list(result["faults"].values())
    ours, theirs = (f"{sum(one[name] for one in faults)} of {len(faults)}" for name in ("tinyslm", "soup"))
    alarms = sum(map(len, result["false_alarms"].values()))
    yield Row("kinds of faults found in fine-tuning data", ours, f"{theirs}, soup data doctor and lint")
    yield Row("alarms about sound data", str(alarms))


def tokenization(result: Any) -> Rows:
    found = by_vocabulary(result["runs"])
    for text in dict.fromkeys(text for text, _, _ in found):
        best = [
            f"{min(points, key=points.__getitem__):,} tokens for {params / 1e6:g}M in {seconds:g} s"
            for (name, params, seconds), points in found.items()
            if name == text
        ]
        yield Row(f"vocabulary with the fewest bits per byte: {text}", "; ".join(best))


AREAS = (
    Area(
        "Training",
        {
            "throughput": throughput,
            f"throughput{WITHOUT_BF16}": throughput_without_bf16,
            "attention": attention,
            "head loss": head_loss,
            "shakespeare": shakespeare,
            "stories": stories,
        },
    ),
    Area("GPU", {"gpu": gpu}),
    Area(
        "Several processes",
        {"processes": processes, "processes data": processes_data, "processes serving": processes_serving},
    ),
    Area(
        "Plans",
        {
            "planner": plans,
            f"planner{WITHOUT_BF16}": plans_without_bf16,
            "planner search": searches,
            "quickstart": quickstart,
        },
    ),
    Area("Engine", {"engines compiled": compiled, "engines": engines, "structured": structured}),
    Area(
        "Server and tool calls",
        {
            "server overhead": server_overhead,
            "server load": server_load,
            "container": container,
            "tool calls": tool_calls,
        },
    ),
    Area(
        "Exports and quantization",
        {
            "import": imported,
            "quantization": quantization,
            "quantization of SmolLM2": quantization,
        },
    ),
    Area(
        "Fine-tuning",
        {
            "finetuning": finetuning,
            "finetuning bf16": finetuning,
            "finetuning fp32": finetuning,
            "finetuning all weights": finetuning,
            "rewards": rewards,
        },
    ),
    Area(
        "Jobs taught",
        {
            "qlora": qlora,
            "shell commands": own_job,
            "product extraction": own_job,
            "logic pack": logic_pack,
            "chatbot": chatbot,
        },
    ),
    Area("Packs: spreadsheets", {"excel pairs": excel_pairs, "excel pack": pack, "excel pack, new model": pack}),
    Area("Packs: prices and security", {"prices pack": pack, "security pack": pack}),
    Area("Checks and scores", {"linting": linting, "scoring": scoring}),
    Area("Data", {"data": data, "memory": memory, "large data": large_data, "tokenization": tokenization}),
)
