"""Write docs/reference/formats.md: python docs/make_formats.py (some minutes).

A small random model of every family is exported to every format and scheme, and tried in the program that will run it.
What the page says is what came out. `tests/docs/test_formats.py` tries the most exact scheme of each format again.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tinyslm.core.console import say
from tinyslm.export.checks import Reference, judge, measure
from tinyslm.export.format import Options, Original
from tinyslm.export.formats import PLACES, RUNTIMES, Target, targets
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.families import FAMILIES
from tinyslm.model.folder import save_model
from tinyslm.tokenizer.training import train_tokenizer

PAGE = Path(__file__).parent / "reference" / "formats.md"
SHAPE = {"dim": 256, "heads": 4, "ffn_dim": 512, "depth": 2, "context": 128, "init_std": 0.06}
WINDOW = 24
WORKS = "yes"
STRINGS = 120
TOP = """<!-- Made by docs/make_formats.py: run it when families, formats or schemes change. -->

# What can be exported where

Each "yes" is a model that was written and then run by the program named: ids of strings, greedy tokens, probabilities,
chat template and stop tokens were compared with the original (see [Exporting](../exporting.md)). The models are small
and random, 256 wide; export names the tensors whose width does not fit a scheme's blocks.
"""

Claims = dict[str, dict[str, str]]
"""By `format:scheme`, and there by family: "yes", or why not."""


def main() -> None:
    """Write the page."""
    wanted = targets([f"{name}:all" for name in PLACES])
    claims: Claims = {str(target): {} for target in wanted}
    with tempfile.TemporaryDirectory() as place:
        for number, family in enumerate(FAMILIES):
            original = write_original(family, Path(place) / f"model-{number}")
            for target, found in tried(original, wanted, Path(place)):
                say(f"{family} {target}: {found}")
                claims[str(target)][family] = found
    PAGE.write_text(page(claims), encoding="utf-8")


def write_original(family: str, folder: Path) -> Original:
    """A small random model of a family, with a tokenizer of its own, as a folder."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([Path(__file__).read_text(encoding="utf-8")], vocab_size=320)
    shape = ModelConfig(family=family, vocab_size=tokenizer.vocab_size, **SHAPE)
    if shape.window:
        shape = ModelConfig(family=family, vocab_size=tokenizer.vocab_size, **SHAPE, window=WINDOW)
    model = Decoder(shape).eval()
    save_model(model, folder, tokenizer)
    return Original(folder, model, tokenizer)


def tried(original: Original, wanted: Sequence[Target], place: Path) -> Iterator[tuple[Target, str]]:
    """Whether each target works for a model: "yes", or why not."""
    reference = Reference(original, count=STRINGS)
    for number, target in enumerate(wanted):
        why_not = target.format.supports(original.model)
        yield target, why_not or _tried(original, target, reference, place / f"{original.folder.name}-{number}")


def _tried(original: Original, target: Target, reference: Reference, folder: Path) -> str:
    folder.mkdir()
    scheme = target.format.schemes[target.scheme]
    options = Options()
    written = target.format.write(original, target.scheme, folder / f"model{scheme.suffix}", options)
    with target.format.open(written.path, original.source, options.threads) as runtime:
        verdict = judge(measure(runtime, reference, scheme), scheme)
    return WORKS if verdict == "ok" else verdict


def page(claims: Claims) -> str:
    """The page: a table for each format, and below it why what does not work does not."""
    return TOP + "".join(_section(name, claims) for name in PLACES)


def read_page(text: str) -> Claims:
    """What a page claims."""
    claims: Claims = {}
    for section in text.split("\n## ")[1:]:
        name = re.match(r"`(\w+)`", section)
        assert name, section[:40]
        header, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"
        ]
        reasons = dict(re.findall(r"^(\d+)\. (.*)$", section, re.MULTILINE))
        for family, *cells in rows:
            for scheme, cell in zip(header[1:], cells, strict=True):
                found = WORKS if cell == WORKS else reasons[cell.partition(" ")[2].strip("()")]
                claims.setdefault(f"{name[1]}:{scheme}", {})[family.strip("`")] = found
    return claims


def _section(name: str, claims: Claims) -> str:
    schemes = [target.partition(":")[2] for target in claims if target.startswith(f"{name}:")]
    families = list(claims[f"{name}:{schemes[0]}"])
    found = {(family, scheme): claims[f"{name}:{scheme}"][family] for family in families for scheme in schemes}
    reasons = list(dict.fromkeys(reason for reason in found.values() if reason != WORKS))
    lines = [f"| family | {' | '.join(schemes)} |", f"| --- |{' --- |' * len(schemes)}"]
    for family in families:
        cells = (found[family, scheme] for scheme in schemes)
        shown = [cell if cell == WORKS else f"no ({reasons.index(cell) + 1})" for cell in cells]
        lines.append(f"| `{family}` | {' | '.join(shown)} |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    below = ["", *notes] if notes else []
    return "\n".join(["", f"## `{name}`: {RUNTIMES[name][0]}", "", *lines, *below, ""])


if __name__ == "__main__":
    main()
