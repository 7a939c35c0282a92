"""Shapes and settings drawn at random for a text and a budget, from what somebody with experience might try.

The width is drawn evenly on a logarithmic scale, as are learning rates, between half and twice those of the rules in
`planning/rates.py`; everything else evenly from a few usual values. What would make fewer than `FEWEST_STEPS` updates
in the time, by the planner's measurements, or need more memory than there is, is drawn again: nobody would try it.
"""

import math
import random
from collections.abc import Iterator, Sequence
from itertools import islice

from tinyslm.core.config import build_config, flatten, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.hardware.limits import memory_bytes
from tinyslm.planning.choice import Candidate, tokenizer_settings
from tinyslm.planning.planner import Planner
from tinyslm.planning.rates import EPOCHS_WITHOUT_DROPOUT, rates
from tinyslm.training.config import RunConfig
from tinyslm.training.memory import peak_bytes

DIMS, DEPTHS = range(64, 769, 64), range(2, 13)
CONTEXTS, UPDATES = (128, 256, 512), (1024, 2048, 4096, 8192, 16384)
DROPOUTS, MOMENTA, DECAYS = (0.0, 0.05, 0.1, 0.2), (0.8, 0.9, 0.95), (0.6, 0.9)
FARTHEST = math.log(2.0)
"""Learning rates lie within this factor of the rule's."""
FEWEST_STEPS = 50
TRIES = 10_000


def draw(paths: Sequence[str], minutes: float, count: int, seed: int) -> list[dict]:
    """Settings as `{"model.dim": 128, ...}`."""
    found = list(islice(drawn(Planner.look(paths), minutes, random.Random(seed)), count))
    if len(found) < count:
        raise SystemExit(f"Hardly anything makes {FEWEST_STEPS} updates in {minutes:g} minutes here.")
    return found


def drawn(planner: Planner, minutes: float, chance: random.Random) -> Iterator[dict]:
    for _ in range(TRIES):
        wide = [math.log(dim) for dim in (DIMS[0], DIMS[-1])]
        dim = DIMS.step * round(math.exp(chance.uniform(*wide)) / DIMS.step)
        context, update = chance.choice(CONTEXTS), chance.choice(UPDATES)
        vocab_size = chance.choice(sorted(planner.survey.bytes_per_token))
        shape = {"dim": dim, "depth": chance.choice(DEPTHS), "context": context}
        settings = {"model": shape, "tokenizer": tokenizer_settings(vocab_size), "train": {"batch": update // context}}
        fixed = {"model": {"vocab_size": vocab_size}, "train": {"minutes": minutes}}
        try:
            config = build_config(RunConfig, merge(settings, fixed))
        except TinyslmError:
            continue
        steps = Candidate.of(config, planner.survey, planner.costs).steps(60 * minutes)
        if steps < FEWEST_STEPS or peak_bytes(config) > memory_bytes()[1]:
            continue
        epochs = steps * update * planner.survey.bytes_in_token(vocab_size) / planner.survey.training_bytes
        rule = rates(dim, update, steps, epochs)["optimizer"]
        chosen = {name: rule[name] * math.exp(chance.uniform(-FARTHEST, FARTHEST)) for name in ("muon_lr", "lr")}
        settings["optimizer"] = {name: float(f"{rate:.3g}") for name, rate in chosen.items()}
        settings["optimizer"]["muon_momentum"] = chance.choice(MOMENTA)
        settings["schedule"] = {"decay": chance.choice(DECAYS)}
        shape["dropout"] = chance.choice(DROPOUTS) if epochs > EPOCHS_WITHOUT_DROPOUT else 0.0
        yield dict(flatten(settings))
