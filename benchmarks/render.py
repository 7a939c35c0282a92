"""docs/results.md from the kept results."""

import statistics
from collections.abc import Callable, Collection, Mapping
from typing import Any

import render_training
from render_engine import (
    Row,
    compiled,
    engines,
    server_fuzz,
    server_load,
    server_overhead,
    spread,
    structured,
    tool_calls,
    tool_calls_before,
)
from render_training import WITHOUT

TOP = """# Results

Every figure here was measured by the command beside it; `make bench` runs them all (about two hours on two cores), but
for those of plans, which take many hours and are run by their names (`python benchmarks/all.py --only planner`). Where
two things are compared they ran in the same session, alternating where that is possible; ratios are medians over the
rounds with the least and the greatest in brackets. The machine is a shared virtual one with two cores, so trust the
ratios rather than the absolute figures. This page is written by `benchmarks/all.py`.

| what | figure | target | command | measured on |
| --- | --- | --- | --- | --- |
"""

PLOT = """
![Tokens per second of each engine against the number of streams](engines.svg)
"""

NOTES = """
## What falls short, and why

"""


def render(results: Mapping[str, Any], pictures: Collection[str] = ()) -> str:
    """The page. pictures: the names of those drawn from the results."""
    rows = []
    for name, describe in ROWS.items():
        kept = results.get(name)
        found = describe(kept["result"]) if kept else []
        if kept is None or not found:
            rows.append(f"| {name} | not measured | | | |")
            continue
        where = f"{kept['date']}, {kept['machine']}"
        if kept["gflops_fp32"]:
            where += f", {kept['gflops_fp32']} GFLOP/s in fp32, {kept['gflops_bf16']} in bf16"
        kind = "processor without bf16: " if name.endswith(WITHOUT) else ""
        for what, figure, target in found:
            rows.append(f"| {kind}{what} | {figure} | {target} | `{kept['command']}` | {where} |")
    plots = render_training.show(pictures)
    plots += PLOT if "streams" in results.get("engines", {}).get("result", {}) else ""
    return TOP + "\n".join(rows) + "\n" + plots + NOTES + FALLS_SHORT.strip() + "\n"


def throughput(result: Any) -> list[Row]:
    rates, rows = result["tokens_per_second"], []
    peer = rates["transformers GPT-2, fp32"]
    for name, ratio in result["ratios"].items():
        what = f"training, 10.65M shape (6 layers, dim 384, context 256, batch 16): {name}"
        times = f"{spread(ratio)} times a plain fp32 loop over transformers' GPT-2 ({peer:,.0f})"
        rows.append((what, f"{rates[name]:,.0f} tokens/s, {times}", "2.5 times"))
    return rows


def shakespeare(result: Any) -> list[Row]:
    return [_goal(goal) for goal in result.values() if isinstance(goal, dict)]


def _goal(goal: Any) -> Row:
    """The loss of all seeds, and how long they took."""
    runs, losses = goal["runs"], [run["loss"] for run in goal["runs"]]
    took, trained = (
        " to ".join(f"{limit(run[kind] for run in runs):.1f}" for limit in (min, max))
        for kind in ("seconds", "training_seconds")
    )
    time = f"the command took {took} s" if goal["whole"] else f"training took {trained} s, the command {took} s"
    size = f"{runs[0]['parameters'] / 1e6:.2f}M parameters, {runs[0]['training_tokens'] / 1e6:.1f}M characters"
    return (
        f"Shakespeare characters, validation loss in {goal['seconds']} s, `recipes/{goal['recipe']}.toml`",
        f"{statistics.mean(losses):.4f} ({min(losses):.4f} to {max(losses):.4f}, {len(runs)} seeds), {size}; {time}",
        f"{goal['loss']} ({goal['source']})",
    )


def quickstart(result: Any) -> list[Row]:
    others = ", ".join(f"{name} {value:.3f}" for name, value in result["baselines"].items())
    functions = result["functions"]
    figure = (
        f"{result['bits_per_byte']:.3f} bits per byte ({result['low']:.3f} to {result['high']:.3f}) after "
        f"{result['training_seconds']:.0f} s; {others}"
    )
    parse = (
        f"{functions['completions that parse']} of {functions['headers']}, "
        f"originals {functions['originals that parse, cut the same way']}"
    )
    return [
        ("quickstart: Python standard library, 5 minutes", figure, ""),
        ("quickstart: completions of unseen function headers that parse", parse, ""),
    ]


def help_time(result: Any) -> list[Row]:
    figure = f"{result['median']:.2f} s ({result['low']:.2f} to {result['high']:.2f}), torch not imported"
    return [("`tinyslm --help`", figure, "0.4 s")]


def generation(result: Any) -> list[Row]:
    rates = result["tokens_per_second"]
    what = f"generation with the cache, {result['parameters'] / 1e6:.1f}M parameters, one stream, greedy"
    figure = f"{rates['tinyslm']:,.0f} tokens/s, {spread(result['ratio'])} times transformers.generate"
    return [(what, f"{figure} ({rates['transformers.generate']:,.0f})", "4 times")]


def data(result: Any) -> list[Row]:
    what = "text to shards: reading, cleaning, duplicates, encoding (vocabulary 4,096)"
    ours, ratios = sorted(result["ours_mb_per_s"]), sorted(result["ratios"])
    times = spread({"median": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]})
    figure = f"{statistics.median(ours):.1f} MB/s ({ours[0]:.1f} to {ours[-1]:.1f})"
    return [(what, f"{figure}, {times} times datasets.map with tokenizers, tokenization alone", "10 MB/s")]


def memory(result: Any) -> list[Row]:
    return [("preparing 1 GB of text, all processes", f"peak of {result['peak_mb']:,.0f} MB", "under 1 GB")]


def parity(result: Any) -> list[Row]:
    what = "logits against transformers in fp32, small random models, largest difference: {}"
    return [
        (what.format(family), ", ".join(f"{way} {found:.1e}" for way, found in ways.items()), "1e-4")
        for family, ways in result.items()
    ]


def loading(result: Any) -> list[Row]:
    rows = []
    for case, who in result["loads"].items():
        figures = "; ".join(
            f"{name} {max(found['times_the_weights']):.2f} times the weights, {found['seconds']:.1f} s"
            for name, found in who.items()
        )
        what = f"peak memory of loading {result['parameters'] / 1e6:.0f}M parameters: {case}"
        rows.append((what, figures, "near the weights"))
    return rows


def imported(result: Any) -> list[Row]:
    ids = f"{result['strings_equal']:,} of {result['strings']:,}"
    greedy = (
        f"{result['prompts_equal']} of {result['prompts']} ({result['of_these_ties']} ties within {result['tie']:g}), "
        f"{result['tokens']} tokens each"
    )
    what = "SmolLM2-135M-Instruct from its GGUF file, against llama.cpp: {}"
    return [(what.format("strings with equal ids"), ids, "all"), (what.format("equal greedy text, F32"), greedy, "all")]


def quantization(result: Any) -> list[Row]:
    rows = []
    for model, found in result.items():
        name = "SmolLM2-135M-Instruct" if model == "smollm2" else "stories"
        for scheme, report in found["schemes"].items():
            for row in report["rows"]:
                what = f"quantized, {name}, {found['parameters'] / 1e6:.1f}M parameters, {scheme}: {row['name']}"
                rows.append((what, quantized(row), "4.6 bits, +1 %" if scheme.startswith("int4") else ""))
    return rows


def quantized(row: Mapping[str, Any]) -> str:
    figures = [f"{row['bits_per_weight']:.2f} bits per weight", f"{row['bytes'] / 1e6:.1f} MB"]
    if judged := row["judgement"]:
        interval = f"({judged['low']:+.2%} to {judged['high']:+.2%})"
        figures += [f"{judged['bits_per_byte']:.4f} bits per byte, {judged['change']:+.2%} {interval}"]
        figures += [f"KL {judged['kl']:.4f}"]
    if speed := row["speed"]:
        figures += [f"{speed['prefill']:,.0f} tokens/s prefill, {speed['decode']:,.0f} decode"]
    return ", ".join(figures)


ROWS: dict[str, Callable[[Any], list[Row]]] = {
    "throughput": throughput,
    "attention": render_training.attention,
    "head loss": render_training.head_loss,
    "share of ceiling": render_training.share_of_ceiling,
    "gpu step": render_training.gpu_step,
    "shakespeare": shakespeare,
    "stories": render_training.stories,
    "planner": render_training.plans,
    "planner search": render_training.searches,
    "seeds": render_training.seeds,
    "quickstart": quickstart,
    "help": help_time,
    "generation": generation,
    "data": data,
    "memory": memory,
    "parity": parity,
    "loading": loading,
    "import": imported,
    "quantization": quantization,
    "quantization of SmolLM2": quantization,
    "engines": engines,
    "engines compiled": compiled,
    "structured": structured,
    "tool calls": tool_calls,
    "tool calls before": tool_calls_before,
    "server overhead": server_overhead,
    "server load": server_load,
    "server fuzz": server_fuzz,
}
ROWS |= {f"{name}{WITHOUT}": ROWS[name] for name in ("throughput", "attention", "share of ceiling", "planner")}

FALLS_SHORT = """
- **Training throughput** is 2.7 times that of the plain fp32 loop with the loop's own optimizer (AdamW), and 2.2 times
  with the default (Muon), where 2.5 was wanted. Whole steps with Muon reach 42 to 62 % of the processor's own bf16
  matrix-product rate, not 60 to 75 %. At 9.8M parameters it is 56 % with updates of 4,096 tokens, of which Muon takes
  17 %, 68 % with updates of 32,768 (2.5 %), and 72 % with AdamW (0.9 %); the layers' products themselves reach 86 %.
  What was tried against Muon's share, and two processes instead of two threads, are in [the log](LOG.md).
- **Processors without bf16** (no AVX-512, as most laptops) train in fp32, with kernels for AVX2. Whole steps reach 53
  to 70 % of the fp32 products' rate with Muon, 79 % with AdamW at 9.8M. The plain fp32 loop over GPT-2 has no slower
  products there: ours is 1.3 times as fast with AdamW, and with Muon, which takes a quarter of the step at that size,
  0.9 times. Attention is 1.4 to 2.1 times as fast as PyTorch's, least for short and for very long sequences. The
  machine's speed changed by half within these runs. The kernels for AVX-512 got the same order of loops, which was
  checked and not timed: rows with bf16 are of the former order.
- **Plans** with bf16: those of 15 minutes are by an earlier law, and so is the quickstart's row; then 15 minutes of
  the standard library came out 0.08 bits per byte better than planned. By the law as it is now, 15 minutes without
  bf16 were 0.02 better for code and 0.02 worse for stories, and Shakespeare's minute took 16 % less memory than said;
  5 minutes, and 15 of Shakespeare, were not run there. The law has since been fitted to those runs too, and to runs
  with larger updates and deeper models; the plans of 1 and 5 minutes are by the law as it is now. It was fitted on
  three texts; for a text of another kind its level comes from a probe, and how fast it is learned is a guess: code
  left out of the fit is missed by 25 %, Shakespeare by 2.0 %, stories by 0.3 %. A run's own score is of the
  validation text that its time allows, which for few long documents differs: the standard library's 1.44 of one
  minute is 1.52 on the documents by which plans and searches are compared. That minute is 1.4 % worse than an earlier
  plan's (1.5019), stories' 0.9 % better. Better shapes for 5 minutes are known, not from the search: for code 128 x 4
  with a context of 512 and updates of 4,096 tokens, 1.0985 where the plan has 1.1401; for stories 128 x 4 with a
  vocabulary of 4,096 and updates of 8,192, 1.4402 instead of 1.4811; for Shakespeare 128 x 5 with updates of 4,096,
  2.1135 instead of 2.1347 (one run each, within the same day; [the log](LOG.md)). In the search, one of 20 shapes
  beats Shakespeare's 5 minutes, by 0.9 %. The shapes of the searches were trained some days before the plans they
  stand beside, with the learning rates of that time, and the machine's speed differs from hour to hour by a fifth, at
  times by half; the 1-minute searches of stories and of the standard library were made when narrow models still
  shared keys and values, which costs them 0.5 %.
- **Shakespeare**: how many characters fit into two minutes depends on what else the shared machine does: 2.5 to 3.4
  million. An earlier single run with 2.5 million ended at 1.4825. The eight seconds are those of training; the whole
  command, with the libraries' import, the final score and the report, takes three to four more.
- **Quantizing SmolLM2** to 4.5 bits costs 4.1 % of bits per byte with GPTQ (KL 0.13), not 1 %; rounding under scales
  that are weighed by each layer's inputs costs 3.9 % (KL 0.19; scales without weights cost 8.5 %). Its "original" here
  is already of 4 bits (Q4_1 with an offset for each 32 values), on another grid than ours: this is rounding upon
  rounding, and says little about weights that were never rounded. It was not fine-tuned. The model trained here stays
  far below 1 %; its rows are from before scales were weighed. `quantize --calibrate` of SmolLM2 takes 4 minutes
  and 51 seconds on two cores, judging included. Speeds in these rows were taken while
  other programs ran: compare only the two of one scheme.
- **Decoding**: most rows above are against the prebuilt wheel `xllamacpp`, which is compiled for any x86-64 processor.
  Compiled for the processor it runs on (`-DGGML_NATIVE=ON`), llama.cpp is 1.3 to 3 times faster; "compiled for this
  processor" rows are against such a build, timed by its own llama-batched-bench in turns with ours. The torch engine,
  which runs where there is no compiler, is no faster than `transformers.generate`: both wait for the same products of
  single rows.
- **Schemas**: where a document has ample room and little is forced, it comes at 0.96 times the rate of free text.
  Following the grammar and keeping the document's end in sight cost more than the masks: 10 % of the time with ample
  room, 21 % where the end is near throughout.
- **GPU**: nothing was measured on one.

What each fault of the article's model costs has a table of its own in
[the article, corrected](the-article-corrected.md#what-each-fault-costs), from `python benchmarks/article_faults.py`.
"""
