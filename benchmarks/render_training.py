"""The rows of docs/results.md about how fast training steps are."""

from typing import Any

from render_engine import Row, spread


def attention(result: Any) -> list[Row]:
    rows: list[Row] = []
    for found in result["shapes"]:
        b, h, t, k = found["shape"]
        ms, peer = found["ms"], found["better_peer"]
        errors = {name: max(each) for name, each in found["errors"].items()}
        figure = (
            f"{ms['tinyslm']:.2f} ms, {spread(found['ratio'])} times as fast as {peer} ({ms[peer]:.2f} ms); largest "
            f"error {errors['tinyslm']:.4f} (SDPA {errors['SDPA']:.4f}, written out {errors['written out']:.4f})"
        )
        rows.append((f"causal attention in bf16, both ways: batch {b}, heads {h}, {t} tokens, width {k}", figure, "2"))
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
        share, times = one["share"], f"{one['parameters'] / 1e6:.2f}M parameters, batch {batch} x {context}"
        figure = (
            f"{one['tokens_per_second']:,.0f} tokens/s, {100 * share['median']:.0f} % ({100 * share['low']:.0f} to "
            f"{100 * share['high']:.0f}) of {one['ceiling_gflops']:,.0f} GFLOP/s; optimizer "
            f"{100 * one['optimizer_share']:.1f} % of the step; peak {one['peak_mb']:,.0f} MB (said beforehand: "
            f"{one['predicted_peak_mb']:,.0f})"
        )
        rows.append((f"whole training steps, share of bf16 matrix products: {times}", figure, TARGETS.get(name, "")))
    return rows


TARGETS = {"3M": "60 %", "10M": "75 %, optimizer under 3 %", "135M": "under 8 GB"}


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


def plot(results: Any) -> str:
    """The picture of shares against sizes, where it was drawn."""
    sizes = results.get("share of ceiling", {}).get("result", {})
    return PLOT if len(sizes) > 1 else ""


PLOT = """
![Share of the bf16 matrix products' own rate that whole training steps reach, against size](share-of-ceiling.svg)
"""
