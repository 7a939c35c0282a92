"""What a model will score: validation bits per byte from its shape, the text it reads, and how hard the text is.

    bits = probe * l * f(run) / f(the probe's run)
    f = h^p * floor + h^q * near * held^-w + h^u * window * c^-g + (S^m + T^m)^(1/m)
    S = h^p * size * n^-a, T = h^q * text * d^(-b h^s)

after Hoffmann et al. (2022), and Kaplan et al. (2020) in that what the size and what the text leave are not just added:
the greater of them counts for more. With what matters in runs of minutes besides:

- `probe` is what a tiny model scored on this very text after a moment (`probe.py`), and `h` what short contexts make of
  the text, as a share of what a compressor makes of it (`compressibility.py`): where short contexts tell little and
  repeats much, as in code, there is more to learn, and each further token helps more;
- `l`: bytes in a token of the training text, as a share of those in a token of what is held out: a text whose end is of
  another kind, with other names, takes more tokens there;
- `n`: weights in blocks, a share of those in the table, and another share of an output table of its own, in millions.
  In few or narrow blocks they are worth less, as what is copied from the context takes one block to find and others to
  use: 1 / (1 + (few / (depth * (dim / 128)^y))^4). Unique text bounds what weights can hold: 1 / n = 1 / weights +
  1 / (rho * unique);
- `d`: tokens read, in millions. Reading again is worth less each time: unique * (1 + r (1 - exp(-(epochs - 1) / r)))
  (Muennighoff et al., 2023), with r * h^v for r: a first reading of code leaves more to learn than one of a play; large
  updates waste some, less so the more is read: 1 / (1 + update / (critical * tokens^k)) (McCandlish et al., 2018: the
  critical size grows as the loss falls); small ones follow noise, which costs code more than a play, as Muon's are of
  one length however little a gradient tells: 1 / (1 + noisy * h^x / update); a longer token tells more: times bytes per
  token to a power; and where sequences are long there are fewer of them: divided by the context to a power;
- `held`: bytes that the context holds; and `c`: those of them that are used, as what is far back is copied only when
  much has been read: 1 / c = 1 / held + 1 / (reach * tokens^z). That is much in code, and little in a story.

The coefficients are fitted by `benchmarks/scaling_fit.py` and lie in `law.json`, with the ranges they were fitted on.
"""

import json
import math
from importlib.resources import files
from typing import NamedTuple

from pydantic import Field

from tinyslm.core.config import Section, build_config
from tinyslm.model.config import ModelConfig
from tinyslm.planning import probe
from tinyslm.planning.survey import Survey

Z = 1.96
"""Standard deviations of a 95 % interval."""
USUAL_CONTEXT, USUAL_DIM = 256, 128
SHALLOW = (0.8, 1.55)
"""Between these is h of the texts of the fit; another text counts like the nearest."""
MOST_REPEATS = 15.4
"""What Muennighoff et al. found for r; no text of the fit was read so often that it could tell of more."""
GUESSING = 8.0
"""Bits per byte of guessing each byte: no model that was trained at all is worse."""
SPREAD_OUTSIDE = 0.02
"""What a prediction's relative spread gains with each factor e that a run lies outside of what was fitted."""


class Conditions(NamedTuple):
    """What a score follows from. Weights in millions, text in millions of tokens, all measured as `Survey` does.

    probed: millions of bytes that the probe's sample has. The measures of text are those of `Survey`.
    """

    xz_bits: float
    context_bits: float
    probe_bits: float
    probed: float
    block_weights: float
    table_weights: float
    output_weights: float
    tokens: float
    unique_tokens: float
    bytes_per_token: float
    held_out_bytes_per_token: float
    tokens_per_update: float
    context: float
    depth: float
    dim: float


class Coefficients(Section):
    """The fitted numbers of the law; all are above zero."""

    lasting: float = Field(gt=0, description="Power of h in what is left in the end (p).")
    passing: float = Field(gt=0, description="Power of h in what further text removes (q).")
    bend: float = Field(gt=0, description="Power of h in how fast text removes it (s).")
    floor: float = Field(gt=0, description="What no size and no text removes.")
    size: float = Field(gt=0, description="Part of the bits that a model of a million weights leaves.")
    size_power: float = Field(gt=0, description="How fast that shrinks with the weights.")
    text: float = Field(gt=0, description="Part of the bits that a million tokens leave.")
    text_power: float = Field(gt=0, description="How fast that shrinks with the tokens.")
    joining: float = Field(gt=0, description="How much more the greater of these two counts: power of each (m).")
    window: float = Field(gt=0, description="Part of the bits that using one byte of a context leaves.")
    window_power: float = Field(gt=0, description="How fast that shrinks with the bytes used (g).")
    near: float = Field(gt=0, description="Part of the bits that a context of one byte leaves in any text.")
    near_power: float = Field(gt=0, description="How fast that shrinks with the context (w).")
    distant: float = Field(gt=0, description="Power of h in what further bytes used remove (u).")
    reach: float = Field(gt=0, description="Bytes of the context that a million tokens teach to use.")
    reach_power: float = Field(gt=0, description="Power of the tokens read in those bytes (z).")
    few_blocks: float = Field(gt=0, description="Blocks of 128 in which weights are worth half (few).")
    narrow: float = Field(gt=0, description="Power of the width in what a block counts there (y).")
    table_share: float = Field(gt=0, description="What a weight of the table counts.")
    output_share: float = Field(gt=0, description="What a weight of an output table of its own counts.")
    repeats: float = Field(gt=0, description="Readings after which another one is worth little (r).")
    rereading: float = Field(gt=0, description="Power of h in that number of readings (v).")
    capacity: float = Field(gt=0, description="Weights that a token of unique text is worth (rho).")
    critical_update: float = Field(gt=0, description="Tokens in an update of which half are wasted in a million.")
    growth: float = Field(gt=0, description="Power of the tokens read in that number of tokens (k).")
    noisy_update: float = Field(gt=0, description="Tokens in an update so small that half are wasted.")
    noise: float = Field(gt=0, description="Power of h in that number of tokens (x).")
    token_power: float = Field(gt=0, description="What a longer token tells: bytes per token to this power.")
    context_cost: float = Field(gt=0, description="What long sequences cost at first: tokens in one to this power.")


class Range(Section):
    """From the least to the most that a quantity was in the runs of the fit."""

    low: float = Field(gt=0, description="The least.")
    high: float = Field(gt=0, description="The most.")

    def outside(self, value: float) -> float:
        """How far a value is outside, in factors of e."""
        return max(0.0, math.log(self.low / value), math.log(value / self.high))


class Law(Section):
    """The law with its coefficients, how well it fits, and where."""

    coefficients: Coefficients = Field(description="The fitted numbers.")
    spread: float = Field(gt=0, description="Relative standard deviation of the fitted runs around the law.")
    text_spread: float = Field(
        ge=0, description="How far off the law is on average for a text that is left out of the fit (root mean square)."
    )
    runs: int = Field(gt=0, description="Number of runs that the law was fitted on.")
    weights: Range = Field(description="Weights, in millions.")
    tokens: Range = Field(description="Tokens read, in millions.")
    vocabulary: Range = Field(description="Sizes of vocabularies.")
    update: Range = Field(description="Tokens in an update.")
    context: Range = Field(description="Tokens in the context.")

    def expect(self, found: Conditions) -> "Expected":
        """The bits per byte to be expected, with a 95 % interval."""
        bits = min(predict(self.coefficients, found), GUESSING)
        outside = self.weights.outside(found.block_weights + found.table_weights + found.output_weights)
        outside += self.tokens.outside(found.tokens)
        spread = math.hypot(self.spread, self.text_spread, SPREAD_OUTSIDE * outside)
        return Expected(bits, bits * math.exp(-Z * spread), min(bits * math.exp(Z * spread), GUESSING))


class Expected(NamedTuple):
    """Bits per byte, and the ends of the interval."""

    bits_per_byte: float
    low: float
    high: float


def predict(law: Coefficients, found: Conditions) -> float:
    """Bits per byte by the formula above."""
    longer = found.bytes_per_token / found.held_out_bytes_per_token
    return found.probe_bits * longer * _shape(law, found) / _shape(law, _of_the_probe(found))


def _shape(law: Coefficients, found: Conditions) -> float:
    """f of the formula."""
    blocks = found.depth * math.pow(found.dim / USUAL_DIM, law.narrow)
    weights = found.block_weights / (1 + math.pow(law.few_blocks / blocks, 4))
    weights += law.table_share * found.table_weights + law.output_share * found.output_weights
    capacity = law.capacity * found.unique_tokens
    weights = 1 / (1 / weights + 1 / capacity)
    shallow = min(SHALLOW[1], max(SHALLOW[0], found.context_bits / found.xz_bits))
    repeats = min(MOST_REPEATS, law.repeats * math.pow(shallow, law.rereading))
    tokens = worth(found.tokens, found.unique_tokens, repeats)
    critical = law.critical_update * math.pow(found.tokens, law.growth)
    noisy = law.noisy_update * math.pow(shallow, law.noise)
    tokens /= (1 + found.tokens_per_update / critical) * (1 + noisy / found.tokens_per_update)
    tokens *= math.pow(found.bytes_per_token, law.token_power)
    tokens *= math.pow(USUAL_CONTEXT / found.context, law.context_cost)
    lasting, passing = math.pow(shallow, law.lasting), math.pow(shallow, law.passing)
    of_size = lasting * law.size * math.pow(weights, -law.size_power)
    of_text = passing * law.text * math.pow(tokens, -law.text_power * math.pow(shallow, law.bend))
    of_both = math.pow(math.pow(of_size, law.joining) + math.pow(of_text, law.joining), 1 / law.joining)
    held = found.context * found.bytes_per_token
    used = 1 / (1 / held + 1 / (law.reach * math.pow(found.tokens, law.reach_power)))
    of_window = math.pow(shallow, law.distant) * law.window * math.pow(used, -law.window_power)
    of_window += passing * law.near * math.pow(held, -law.near_power)
    return lasting * law.floor + of_window + of_both


def _of_the_probe(found: Conditions) -> Conditions:
    """The conditions that the probe of the same text ran under."""
    table = probe.MODEL.vocab_size * probe.MODEL.dim
    return found._replace(
        block_weights=(probe.MODEL.parameters - table) / 1e6,
        table_weights=table / 1e6,
        output_weights=0.0,
        tokens=probe.TOKENS / 1e6,
        unique_tokens=found.probed,
        bytes_per_token=1.0,
        tokens_per_update=probe.BATCH * probe.MODEL.context,
        context=probe.MODEL.context,
        depth=probe.MODEL.depth,
        dim=probe.MODEL.dim,
    )


def worth(tokens: float, unique: float, repeats: float) -> float:
    """How many tokens of new text so many tokens are worth when only `unique` ones are new."""
    if tokens <= unique:
        return tokens
    return unique * (1 + repeats * (1 - math.exp(-(tokens / unique - 1) / repeats)))


def conditions(survey: Survey, model: ModelConfig, batch: int, steps: float) -> Conditions:
    """What the score of a run follows from."""
    table = model.vocab_size * model.dim
    output = 0 if model.tied else table
    bytes_per_token = survey.bytes_in_token(model.vocab_size)
    return Conditions(
        xz_bits=survey.xz_bits,
        context_bits=survey.context_bits,
        probe_bits=survey.probe_bits,
        probed=survey.probed_bytes / 1e6,
        block_weights=(model.parameters - table - output) / 1e6,
        table_weights=table / 1e6,
        output_weights=output / 1e6,
        tokens=max(1.0, steps * batch * model.context) / 1e6,
        unique_tokens=survey.training_bytes / bytes_per_token / 1e6,
        bytes_per_token=bytes_per_token,
        held_out_bytes_per_token=survey.bytes_in_token(model.vocab_size, held_out=True),
        tokens_per_update=batch * model.context,
        context=model.context,
        depth=model.depth,
        dim=model.dim,
    )


def read_law() -> Law:
    """The law that comes with the package."""
    text = files("tinyslm.planning").joinpath("law.json").read_text(encoding="utf-8")
    return build_config(Law, json.loads(text), origin="law.json")
