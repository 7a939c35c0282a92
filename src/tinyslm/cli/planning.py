"""What the verbs that plan and train share: limits from options, and plans and data in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyslm.planning.plan import Plan
    from tinyslm.planning.train import Limits


def given_settings(config: Path | None, settings: Sequence[str]) -> dict[str, Any]:
    """What the user fixed in a file and by options, nested. Raises `TinyslmError` that names every mistake in them."""
    from tinyslm.cli.settings import nested
    from tinyslm.cli.settings import settings as read_settings
    from tinyslm.core.config import override, read_config_file
    from tinyslm.training.config import RunConfig

    read_settings(RunConfig, config, settings)
    return override(RunConfig, read_config_file(config) if config else {}, nested(RunConfig, settings))


def limits(params: str | None, memory: float | None) -> Limits:
    """The limits of a plan from options. params: such as `3M`; memory: in GB."""
    from tinyslm.planning.train import Limits

    return Limits(None if params is None else number(params, "--params"), None if memory is None else int(memory * 1e9))


def number(text: str, option: str) -> int:
    """`3M`, `250k` or `1_000_000` as a whole number."""
    from tinyslm.core.errors import TinyslmError
    from tinyslm.core.quantities import parse_count

    try:
        return parse_count(text)
    except ValueError:
        raise TinyslmError(f"{option} {text}: must be a number.", "Such as 500k, 10M or 1.5B.") from None


def describe_text(plan: Plan) -> str:
    """One line: how much text there is, and how hard it is."""
    from tinyslm.core.quantities import counted, size

    data = plan.data
    documents = counted(data.documents, "document")
    repeated = f" ({size(data.bytes - data.unique_bytes)} repeated)" if data.bytes > data.unique_bytes else ""
    return f"{size(data.bytes)} of text{repeated} in {documents}; xz makes {data.xz_bits:.2f} bits per byte of it."


def describe_plan(plan: Plan) -> str:
    """Two lines: what was chosen, and what to expect."""
    from tinyslm.core.quantities import count, counted, duration, size

    model, expected = plan.settings.model, plan.expectation
    share = f"{expected.epochs:.0%} of the text is read"
    often = f"the text is read {expected.epochs:.1f} times" if expected.epochs >= 1.05 else share
    return (
        f"Planned: {count(expected.parameters)} parameters (dim {model.dim}, depth {model.depth}, context "
        f"{model.context}), vocabulary {model.vocab_size:,}, {counted(expected.steps, 'step')} of "
        f"{plan.settings.train.batch * model.context:,} tokens; {often}.\n"
        f"Expected: {expected.bits_per_byte:.3f} bits per byte ({expected.low:.3f} to {expected.high:.3f}) after "
        f"{duration(expected.seconds)}, in {size(expected.memory_bytes)} of memory."
    )


def describe_expected(planned: Mapping[str, float]) -> str:
    """What a plan expected, as a run's result has it: bits per byte with their interval."""
    return f"{planned['bits_per_byte']:.4f} bits per byte ({planned['low']:.4f} to {planned['high']:.4f})"


def describe_data(manifest: Mapping[str, Any]) -> str:
    """One line: how much text, in how many tokens."""
    from tinyslm.core.quantities import count, counted, size

    train, valid = manifest["splits"]["train"], manifest["splits"]["valid"]
    return (
        f"{counted(train['documents'], 'document')} ({size(train['utf8_bytes'])}, {count(train['tokens'])} tokens) "
        f"to train on, "
        f"{valid['documents']:,} ({size(valid['utf8_bytes'])}) to validate on; "
        f"vocabulary {manifest['tokenizer']['vocab_size']:,}."
    )
