"""What docs/results.md says about training: how fast steps are, what is learned in a time, and what plans promise."""

from collections.abc import Collection
from typing import Any

from render_engine import Row, spread
from training_plots import plans_chart, shares_chart, stories_chart


def attention(result: Any) -> list[Row]:
    rows: list[Row] = []
    for found in result["shapes"]:
        b, h, t, k = found["shape"]
        ms, peer = found["ms"], found["better_peer"]
        errors = {name: max(each) for name, each in found["errors"].items()}
        figure = (
            f"{ms['tinyslm']:.2f} ms, {spread(found['ratio'])} times as fast as {peer} ({ms[peer]:.2f} ms); largest "
            f"error {errors['tinyslm']:.2g} (SDPA {errors['SDPA']:.2g}, written out {errors['written out']:.2g})"
        )
        what = (
            f"causal attention in {result.get('dtype', 'bf16')}, both ways: batch {b}, heads {h}, {t} tokens, width {k}"
        )
        rows.append((what, figure, "2"))
    return rows


def head_loss(result: Any) -> list[Row]:
    seconds, memory = result["seconds"], result["peak_mb"]
    rows: list[Row] = []
    for dtype, ratios in result["ratios"].items():
        ours, plain = f"tinyslm, {dtype}", f"plain, {dtype}"
        what = f"cross-entropy of {result['positions']:,} positions, vocabulary {result['vocab_size']:,}, {dtype}: {{}}"
        speed = f"{seconds[ours]:.2f} s, {spread(ratios['seconds'])} times as fast as plain ({seconds[plain]:.2f} s)"
        peak = f"{memory[ours]:,.0f} MB, {spread(ratios['memory'])} times less than plain ({memory[plain]:,.0f} MB)"
        rows += [(what.format("time"), speed, "faster"), (what.format("peak memory"), peak, "4 times less")]
    return rows


def share_of_ceiling(result: Any) -> list[Row]:
    rows: list[Row] = []
    for name, one in result.items():
        batch, context = one["batch"]
        optimizer = ", AdamW" if one.get("optimizer") == "adamw" else ""
        share, times = one["share"], f"{one['parameters'] / 1e6:.2f}M parameters, batch {batch} x {context}{optimizer}"
        figure = (
            f"{one['tokens_per_second']:,.0f} tokens/s, {100 * share['median']:.0f} % ({100 * share['low']:.0f} to "
            f"{100 * share['high']:.0f}) of {one['ceiling_gflops']:,.0f} GFLOP/s; optimizer "
            f"{100 * one['optimizer_share']:.1f} % of the step; peak {one['peak_mb']:,.0f} MB (said beforehand: "
            f"{one['predicted_peak_mb']:,.0f})"
        )
        rows.append((f"whole training steps, share of matrix products alone: {times}", figure, TARGETS.get(name, "")))
    return rows


TARGETS = {"3M": "60 %", "135M": "under 8 GB"}
TARGETS |= dict.fromkeys(("10M", "10M, AdamW", "10M, large updates"), "75 %, optimizer under 3 %")


def gpu_step(result: Any) -> list[Row]:
    what, target = "training GPT-2's 124M shape on a GPU: {}", "50 % of the peak, 1.3 times the plain loop"
    if "not_measured" in result:
        return [(what.format("all"), f"not measured: {result['not_measured']}", target)]
    rows: list[Row] = []
    peer = result["tokens_per_second"]["transformers, torch.compile"]
    for name, ratio in result["ratios"].items():
        rate, peak = result["tokens_per_second"][name], result["share_of_peak"]
        share = f", {100 * peak[name]:.0f} % of the peak" if peak else ""
        figure = f"{rate:,.0f} tokens/s{share}, {spread(ratio)} times transformers compiled ({peer:,.0f})"
        rows.append((what.format(f"{name}, {result['device']}"), figure, target))
    return rows


def stories(result: Any) -> list[Row]:
    if "contenders" not in result:
        return []
    what = f"stories, vocabulary 4,096, {result['minutes']:g} minutes of training: {{}}"
    rows: list[Row] = []
    for one in result["contenders"]:
        shape = ", ".join(f"{key} {value}" for key, value in one["shape"].items())
        figure = (
            f"{one['bits_per_byte']:.4f} bits per byte ({one['low']:.4f} to {one['high']:.4f}), "
            f"{one['parameters'] / 1e6:.1f}M parameters ({shape}), {one['steps']:,} steps, {one['tokens']:,} tokens, "
            f"{one['seconds']:.0f} s"
        )
        rows.append((what.format(one["name"] if one["size"] else f"{one['name']}, planned"), figure, ""))
    for dtype, found in result["fewer"].items():
        figure = f"{100 * found['share']:.1f} % fewer bits per byte than {found['peer']}"
        rows.append((what.format(f"tinyslm beside the best GPT-2 in {dtype}"), figure, FEWER.get(dtype, "")))
    return rows


FEWER = {"fp32": "15 % fewer", "bf16": "10 % fewer"}


def plans(result: Any) -> list[Row]:
    rows: list[Row] = []
    for one in result.get("runs", []):
        what = f"planned and trained in {_minutes(one)}: {one['text']}"
        if "failed" in one:
            rows.append((what, f"failed: {one['failed'].splitlines()[0]}", PROMISED))
            continue
        expected, shape = one["expected"], one["shape"]
        figure = (
            f"ended after {one['seconds']:.1f} s ({one['time_off']:+.1%}); peak {one['peak_bytes'] / 1e6:,.0f} MB "
            f"({one['memory_off']:+.1%}); {one['bits_per_byte']:.4f} bits per byte, {expected['bits_per_byte']:.3f} "
            f"({expected['low']:.3f} to {expected['high']:.3f}) expected ({one['bits_off']:+.3f}); "
            f"{one['parameters'] / 1e6:.2f}M parameters (dim {shape['dim']}, depth {shape['depth']}, context "
            f"{shape['context']}, batch {shape['batch']}, vocabulary {shape['vocab_size']:,})"
        )
        rows.append((what, figure, PROMISED))
    return rows


PROMISED = "5 % of the time, 15 % of the memory, 0.05 bits per byte"


def searches(result: Any) -> list[Row]:
    rows: list[Row] = []
    for one in result.get("searches", []):
        what = f"planned beside a random search, {_minutes(one)} each: {one['text']}"
        number, failed = len(one["rows"]), f", {one['failed']} more failed" if one["failed"] else ""
        if one["ratio"] is None:
            rows.append((what, f"not measured: {number} of the search{failed}, and no plan to compare", WITHIN))
            continue
        better = sum(each["compared"] < one["planned"] for each in one["rows"])
        figure = (
            f"{one['planned']:.4f} bits per byte planned, {one['best']:.4f} the best of {number}{failed}: "
            f"{one['ratio']:.3f} times; {better} of {number} are better than planned"
        )
        rows.append((what, figure, WITHIN))
    return rows


WITHIN = "1.02 times"


def seeds(result: Any) -> list[Row]:
    rows: list[Row] = []
    for one in result.get("seeds", []):
        deviation = "" if one["deviation"] is None else f", standard deviation {one['deviation']:.4f}"
        figure = f"{one['mean']:.4f} bits per byte ({one['low']:.4f} to {one['high']:.4f}){deviation}"
        rows.append((f"{len(one['scores'])} seeds of one plan, {_minutes(one)}: {one['text']}", figure, "reported"))
    return rows


def _minutes(one: Any) -> str:
    return "1 minute" if one["minutes"] == 1 else f"{one['minutes']:g} minutes"


def draw(results: Any) -> dict[str, str]:
    """The pictures that the results are enough for, by their names in docs/."""
    pictures = {}
    stories = results.get("stories", {}).get("result", {})
    if any(len(one["curve"]) > 1 for one in stories.get("contenders", [])):
        pictures[STORIES] = stories_chart(stories).svg(standing_alone=True)
    runs = [one for one in results.get("planner", {}).get("result", {}).get("runs", []) if "failed" not in one]
    if len(runs) > 1:
        pictures[PLANS] = plans_chart(runs).svg(standing_alone=True)
    found = {kind: results.get(f"share of ceiling{ending}", {}).get("result", {}) for kind, ending in KINDS.items()}
    if kinds := {kind: sizes for kind, sizes in found.items() if len(sizes) > 1}:
        pictures[SHARES] = shares_chart(kinds).svg(standing_alone=True)
    return pictures


def show(pictures: Collection[str]) -> str:
    """The pictures of this page about training."""
    there = {name: text for name, text in PICTURES.items() if name in pictures}
    return "".join(f"\n![{text}]({name})\n" for name, text in there.items())


WITHOUT = " without bf16"
"""Ends the names of results from a processor that has no instructions for bf16."""
KINDS = {"bf16": "", "fp32": WITHOUT}
STORIES, PLANS, SHARES = "stories.svg", "plans.svg", "share-of-ceiling.svg"
PICTURES = {
    STORIES: "Bits per byte of stories against seconds of training, for each contender",
    PLANS: "Measured bits per byte of planned runs against those expected, with their intervals",
    SHARES: "Share of the matrix products' own rate that whole training steps reach, against size",
}
