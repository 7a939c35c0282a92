"""The planner's scaling law: predict validation bits per byte from a model's shape, its text and the text's difficulty.

    bits = probe * l * f(run) / f(the probe's run)
    f = h^p * floor + h^q * near * held^-w + h^u * window * c^-g + (S^m + T^m)^(1/m)
    S = h^p * size * n^-a, T = h^q * text * d^(-b h^s)

It follows Hoffmann et al. (2022), and Kaplan et al. (2020) in that the term of the model's size (S) and that of the
text (T) are not added: the larger one has more weight. Runs of minutes depend on further quantities:

- `probe`: the bits per byte of a tiny model after a moment of training on this text (`probe.py`). `h`: the bits per
  byte of prediction from short contexts, divided by those of a compressor (`compressibility.py`). Where short contexts
  predict little and much is repeated, as in code, there is more to learn, and each further token helps more.
- `l`: bytes per token of the training text, divided by those of the held-out text. If the end of a text is of another
  kind, with other names, it takes more tokens.
- `n`: millions of weights in blocks, plus a share of those in the token table, plus another share of those in a
  separate output table. In few or narrow blocks they are worth less, because copying from the context needs one block
  to find the source and others to use it: 1 / (1 + (few / (depth * (dim / 128)^y))^4). Unique text limits what weights
  can hold: 1 / n = 1 / weights + 1 / (rho * unique).
- `d`: millions of tokens read, with corrections. Each further epoch is worth less: unique * (1 + r (1 -
  exp(-(epochs - 1) / r))) (Muennighoff et al., 2023), with r * h^v for r, because a first reading of code leaves more
  to learn than one of a play. Large updates waste tokens, fewer in longer runs: 1 / (1 + update / (critical *
  tokens^k)) (McCandlish et al., 2018: the critical size grows as the loss falls). Small updates follow noise, which
  costs more in code than in a play, because Muon's updates have a constant length even for weak gradients:
  1 / (1 + noisy * h^x / update). Longer tokens carry more information: times bytes per token to a power. Longer
  sequences are fewer: divided by the context to a power.
- `held`: bytes in the context. `c`: those that the model uses, because it learns to copy from far back only after much
  text: 1 / c = 1 / held + 1 / (reach * tokens^z). The effect is large in code, and small in stories.

The coefficients are fitted by `benchmarks/scaling_fit.py` and stored in `law.json`, with the ranges of the fitted runs.
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
"""The range of h in the fitted runs; other values are clipped to it."""
MOST_REPEATS = 15.4
"""The r of Muennighoff et al., an upper limit here: no text of the fit was read often enough to measure more."""
GUESSING = 8.0
"""Bits per byte of guessing each byte at random, an upper limit for trained models."""
SPREAD_OUTSIDE = 0.02
"""The increase of a prediction's relative spread for each factor of e outside the fitted range."""


class Conditions(NamedTuple):
    """The inputs of the law: weights in millions, text in millions of tokens, and the measures of `Survey`.

    probed: size of the probe's sample in millions of bytes.
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
    """The fitted numbers of the law; all are positive."""

    lasting: float = Field(gt=0, description="Exponent of h in the irreducible part and in the term of size (p).")
    passing: float = Field(gt=0, description="Exponent of h in the terms of text and of near context (q).")
    bend: float = Field(gt=0, description="Exponent of h in the exponent of the tokens (s).")
    floor: float = Field(gt=0, description="The part that no size and no text removes.")
    size: float = Field(gt=0, description="The term of size for a million weights.")
    size_power: float = Field(gt=0, description="Exponent of the weights (a).")
    text: float = Field(gt=0, description="The term of text for a million tokens.")
    text_power: float = Field(gt=0, description="Exponent of the tokens (b).")
    joining: float = Field(
        gt=0, description="Exponent that joins the terms of size and text: the larger dominates (m)."
    )
    window: float = Field(gt=0, description="The term of the context for one used byte.")
    window_power: float = Field(gt=0, description="Exponent of the used bytes (g).")
    near: float = Field(gt=0, description="The term of the near context for one byte.")
    near_power: float = Field(gt=0, description="Exponent of the bytes in the context (w).")
    distant: float = Field(gt=0, description="Exponent of h in the term of the context (u).")
    reach: float = Field(gt=0, description="Bytes of the context that a model uses after a million tokens.")
    reach_power: float = Field(gt=0, description="Exponent of the tokens read in that number (z).")
    few_blocks: float = Field(gt=0, description="Blocks of width 128 in which weights are worth half (few).")
    narrow: float = Field(gt=0, description="Exponent of the width of a block there (y).")
    table_share: float = Field(gt=0, description="Share of a weight of the token table.")
    output_share: float = Field(gt=0, description="Share of a weight of a separate output table.")
    repeats: float = Field(gt=0, description="Epochs after which another one is worth little (r).")
    rereading: float = Field(gt=0, description="Exponent of h in that number of epochs (v).")
    capacity: float = Field(gt=0, description="Weights per token of unique text (rho).")
    critical_update: float = Field(gt=0, description="Update size that wastes half of a million tokens (critical).")
    growth: float = Field(gt=0, description="Exponent of the tokens read in that update size (k).")
    noisy_update: float = Field(gt=0, description="Update size so small that noise wastes half of the tokens (noisy).")
    noise: float = Field(gt=0, description="Exponent of h in that update size (x).")
    token_power: float = Field(gt=0, description="Exponent of bytes per token: longer tokens carry more.")
    context_cost: float = Field(gt=0, description="Exponent of the context: longer sequences are fewer.")


class Range(Section):
    """The range of a quantity in the fitted runs."""

    low: float = Field(gt=0, description="The minimum.")
    high: float = Field(gt=0, description="The maximum.")

    def outside(self, value: float) -> float:
        """The natural logarithm of the factor by which a value is outside the range; 0 inside."""
        return max(0.0, math.log(self.low / value), math.log(value / self.high))


class Law(Section):
    """The coefficients of the law, its accuracy, and its range."""

    coefficients: Coefficients = Field(description="The fitted numbers.")
    spread: float = Field(gt=0, description="Relative standard deviation of the fitted runs around the law.")
    text_spread: float = Field(
        ge=0, description="Relative error for texts that are left out of the fit (root mean square)."
    )
    runs: int = Field(gt=0, description="Number of runs that the law was fitted on.")
    weights: Range = Field(description="Weights, in millions.")
    tokens: Range = Field(description="Tokens read, in millions.")
    vocabulary: Range = Field(description="Sizes of vocabularies.")
    update: Range = Field(description="Tokens in an update.")
    context: Range = Field(description="Tokens in the context.")

    def expect(self, run: Conditions) -> "Expected":
        """Predict the bits per byte, with a 95 % interval."""
        bits = min(predict(self.coefficients, run), GUESSING)
        outside = self.weights.outside(run.block_weights + run.table_weights + run.output_weights)
        outside += self.tokens.outside(run.tokens)
        spread = math.hypot(self.spread, self.text_spread, SPREAD_OUTSIDE * outside)
        return Expected(bits, bits * math.exp(-Z * spread), min(bits * math.exp(Z * spread), GUESSING))


class Expected(NamedTuple):
    """Predicted bits per byte, and the ends of the 95 % interval."""

    bits_per_byte: float
    low: float
    high: float


class Parts(NamedTuple):
    """The terms of f in the formula of the module's docstring; `both` joins `size` and `text`."""

    floor: float
    window: float
    near: float
    size: float
    text: float
    both: float

    @property
    def total(self) -> float:
        """The function f."""
        return self.floor + (self.window + self.near) + self.both


def predict(law: Coefficients, run: Conditions) -> float:
    """Bits per byte by the formula of the module's docstring."""
    longer = run.bytes_per_token / run.held_out_bytes_per_token
    return run.probe_bits * longer * _parts(law, run).total / _parts(law, _of_the_probe(run)).total


def predicted_parts(law: Coefficients, run: Conditions) -> Parts:
    """The terms of `predict`, in bits per byte: their `total` is the prediction."""
    parts = _parts(law, run)
    bits = predict(law, run) / parts.total
    return Parts(*(bits * part for part in parts))


def _parts(law: Coefficients, run: Conditions) -> Parts:
    blocks = run.depth * math.pow(run.dim / USUAL_DIM, law.narrow)
    weights = run.block_weights / (1 + math.pow(law.few_blocks / blocks, 4))
    weights += law.table_share * run.table_weights + law.output_share * run.output_weights
    capacity = law.capacity * run.unique_tokens
    weights = 1 / (1 / weights + 1 / capacity)
    shallow = min(SHALLOW[1], max(SHALLOW[0], run.context_bits / run.xz_bits))
    repeats = min(MOST_REPEATS, law.repeats * math.pow(shallow, law.rereading))
    tokens = worth(run.tokens, run.unique_tokens, repeats)
    critical = law.critical_update * math.pow(run.tokens, law.growth)
    noisy = law.noisy_update * math.pow(shallow, law.noise)
    tokens /= (1 + run.tokens_per_update / critical) * (1 + noisy / run.tokens_per_update)
    tokens *= math.pow(run.bytes_per_token, law.token_power)
    tokens *= math.pow(USUAL_CONTEXT / run.context, law.context_cost)
    lasting, passing = math.pow(shallow, law.lasting), math.pow(shallow, law.passing)
    of_size = lasting * law.size * math.pow(weights, -law.size_power)
    of_text = passing * law.text * math.pow(tokens, -law.text_power * math.pow(shallow, law.bend))
    of_both = math.pow(math.pow(of_size, law.joining) + math.pow(of_text, law.joining), 1 / law.joining)
    held = run.context * run.bytes_per_token
    used = 1 / (1 / held + 1 / (law.reach * math.pow(run.tokens, law.reach_power)))
    of_window = math.pow(shallow, law.distant) * law.window * math.pow(used, -law.window_power)
    of_near = passing * law.near * math.pow(held, -law.near_power)
    return Parts(lasting * law.floor, of_window, of_near, of_size, of_text, of_both)


def _of_the_probe(run: Conditions) -> Conditions:
    """The conditions of the probe's run on the same text."""
    table = probe.MODEL.vocab_size * probe.MODEL.dim
    return run._replace(
        block_weights=(probe.MODEL.parameters - table) / 1e6,
        table_weights=table / 1e6,
        output_weights=0.0,
        tokens=probe.TOKENS / 1e6,
        unique_tokens=run.probed,
        bytes_per_token=1.0,
        tokens_per_update=probe.BATCH * probe.MODEL.context,
        context=probe.MODEL.context,
        depth=probe.MODEL.depth,
        dim=probe.MODEL.dim,
    )


def worth(tokens: float, unique: float, repeats: float) -> float:
    """The equivalent number of new tokens for `tokens` read, of which `unique` are new."""
    if tokens <= unique:
        return tokens
    return unique * (1 + repeats * (1 - math.exp(-(tokens / unique - 1) / repeats)))


def conditions(survey: Survey, model: ModelConfig, batch: int, steps: float) -> Conditions:
    """The inputs of the law for a run."""
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
    """Read the law in the package."""
    text = files("tinyslm.planning").joinpath("law.json").read_text(encoding="utf-8")
    return build_config(Law, json.loads(text), origin="law.json")
