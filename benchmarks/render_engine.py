"""The rows of docs/results.md about the engine and the server."""

from typing import Any

Row = tuple[str, str, str]
SMOLLM2 = "SmolLM2-135M-Instruct"
LLAMA_CPP = "llama.cpp (pip wheel xllamacpp) Q4_0"
"""The peer, with its build."""


def spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def engines(result: Any) -> list[Row]:
    """Each part that was run."""
    rows: list[Row] = []
    for part, describe in PARTS.items():
        if part in result:
            rows += describe(result[part])
    return rows


def beside(what: str, found: Any, peer: str, target: str = "") -> list[Row]:
    """One row for each of ours, with its ratio to the peer."""
    rates = found["tokens_per_second"]
    return [
        (
            what.format(name),
            f"{rates[name]:,.0f} tokens/s, {spread(ratio)} times {peer} ({rates[peer]:,.0f})",
            target,
        )
        for name, ratio in found["ratios"].items()
    ]


def four_bits(found: Any) -> list[Row]:
    what = f"decoding, one stream, 4 bits, {SMOLLM2}: {{}}"
    return beside(what, found, LLAMA_CPP, "1.0 times, the best of ours")


def bf16(found: Any) -> list[Row]:
    return beside(f"decoding, one stream, bf16, {SMOLLM2}: {{}}", found, "transformers.generate", "2 times")


def streams(found: Any) -> list[Row]:
    rows: list[Row] = []
    targets = {"8": "1.5 times", "32": "2 times"}
    for count, one in found.items():
        what = f"decoding, {count} streams in all, {SMOLLM2}: {{}}"
        rows += beside(what, one, LLAMA_CPP, targets.get(str(count), ""))
    return rows


def compiled(result: Any) -> list[Row]:
    """Ours in 4 bits against a llama.cpp that was compiled for the processor, decoding and reading prompts."""
    rows: list[Row] = []
    for count, found in result["compiled"].items():
        for what, one in found.items():
            (peer,) = one["tokens_per_second"].keys() - one["ratios"].keys()
            rows += beside(f"{what}, {count} streams in all, {SMOLLM2}: {{}}", one, peer)
    return rows


def look_up(found: Any) -> list[Row]:
    rows: list[Row] = []
    for kind in ("extracting", "editing"):
        rows += beside(f"{kind}, one stream, 4 bits, {SMOLLM2}: {{}}", found[kind], LLAMA_CPP, "1.5 times")
    share = f"{found['right']:,} of {found['guessed']:,}"
    return [*rows, ("tokens guessed by looking up, and right, in these", share, "")]


def prefix(found: Any) -> list[Row]:
    return [
        (
            f"time to the first token behind 500 known tokens, {SMOLLM2}: {name}",
            f"{1e3 * one['seconds']['known']:.0f} ms; new {1e3 * one['seconds']['new']:.0f} ms: {spread(one['ratio'])}",
            "under 0.2",
        )
        for name, one in found.items()
    ]


def small(found: Any) -> list[Row]:
    what = f"decoding, one stream, {found['parameters'] / 1e6:.1f}M parameters, fp32: {{}}"
    return beside(what, found, "transformers.generate", "1,500 tokens/s, 6 times")


PARTS = {
    "four_bits": four_bits,
    "look_up": look_up,
    "bf16": bf16,
    "streams": streams,
    "prefix": prefix,
    "small": small,
}


def tool_calls(result: Any) -> list[Row]:
    ways = {"one": "one call required", "list": "one or more calls required", "auto": "calls or text"}
    what = f"tool calls of SmolLM2-135M-Instruct, {result['requests']} requests, {result['tools']} tools"
    rows: list[Row] = []
    for way, said in ways.items():
        if found := result.get(way):
            right, name = _share(found["right_call"]), _share(found["right_name"])
            figure = f"right name and arguments: {right}; right name: {name}; {found['tokens']:,} tokens"
            rows.append((f"{what}, {said}", figure, ""))
    return rows


def _share(found: Any) -> str:
    low, high = (100 * limit for limit in found["interval"])
    return f"{found['count']} ({low:.0f} to {high:.0f} %)"


def tool_calls_before(result: Any) -> list[Row]:
    return [(f"{what}: before objects were closed", figure, target) for what, figure, target in tool_calls(result)]


def structured(result: Any) -> list[Row]:
    model = f"{result['parameters'] / 1e6:.1f}M parameters"
    rows: list[Row] = [
        (
            f"documents valid under {result['schemas']} JSON schemas, {model}",
            f"{result['valid']:,} of {result['count']:,}, {result['tokens_per_second']:,.0f} tokens/s in all",
            "all",
        )
    ]
    for room in ("tight", "ample"):
        found = result[room]
        rates, where = found["one_stream"], f"one stream, {model}, {room} room"
        rows += [
            (
                f"masks, {where}",
                f"{100 * found['mask_share']:.1f} % of the time, {found['mask_microseconds']:.0f} microseconds a token "
                f"(all that a grammar does: {100 * found['grammar_share']:.0f} %)",
                "under 5 %",
            ),
            (
                f"tokens/s with a schema beside without, {where}",
                f"{rates['schema']:,.0f} beside {rates['free']:,.0f}: {found['one_stream_ratio']:.2f} times",
                "1.0 times",
            ),
        ]
    return rows


def server_overhead(result: Any) -> list[Row]:
    rows: list[Row] = []
    for way in ("streaming", "whole"):
        request, token = result[way]["ms_a_request"], result[way]["us_a_token"]
        figure = (
            f"{request['median']:.1f} ms a request ({request['low']:.1f} to {request['high']:.1f}), "
            f"{token['median']:.0f} microseconds a token ({token['low']:.0f} to {token['high']:.0f})"
        )
        rows.append((f"`/v1/chat/completions` over the bare engine: {way}", figure, "under 3 ms and 50 microseconds"))
    return rows


def server_load(result: Any) -> list[Row]:
    counts, first, whole = result["counts"], result["first_token_seconds"], result["answer_seconds"]
    memory = result["memory_mb"]
    gone = sum(number for kind, number in counts.items() if kind.startswith("hung up"))
    what = f"{result['clients']} clients at once for {result['minutes']:g} minutes, a third hanging up: {{}}"
    return [
        (
            what.format("requests"),
            f"{counts['sent']:,} sent, {gone:,} hung up, {result['lost']} lost, {result['wrong']} mixed up",
            "none lost or mixed up",
        ),
        (
            what.format("p99"),
            f"first token {first['p99']:.2f} s, whole answer {whole['p99']:.2f} s (medians {first['p50']:.2f} and "
            f"{whole['p50']:.2f})",
            "reported",
        ),
        (
            what.format("memory"),
            f"{memory['second third']:.0f} MB in the second third, {memory['last third']:.0f} in the last",
            "flat",
        ),
    ]


def server_fuzz(result: Any) -> list[Row]:
    told = ", ".join(f"{count:,} times {status}" for status, count in sorted(result["statuses"].items()))
    return [("requests made from the server's own description", f"{result['cases']:,}: {told}", "10,000, no 500")]
