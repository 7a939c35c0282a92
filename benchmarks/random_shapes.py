"""Shapes and settings drawn at random for a text and a budget, from what somebody with experience might try.

    python benchmarks/random_shapes.py TEXT [TEXT ...] --minutes 1 --shapes 20 --seed 1

The width is drawn evenly on a logarithmic scale, as are learning rates, between half and twice those of the rules in
`planning/rates.py`; everything else evenly from a few usual values. What would make fewer than `FEWEST_STEPS` updates
in the time, by the planner's measurements, or need more memory than there is, is drawn again: nobody would try it. The
last line printed is a list of settings as JSON. `planner.py search` trains them.
"""

import argparse
import json
import math
import random
from collections.abc import Sequence

from tinyslm.core.config import build_config, flatten, merge
from tinyslm.core.errors import TinyslmError
from tinyslm.hardware.limits import memory_bytes
from tinyslm.planning.choice import Candidate, tokenizer_settings
from tinyslm.planning.planner import Planner
from tinyslm.planning.rates import EPOCHS_WITHOUT_DROPOUT, rates
from tinyslm.training.config import RunConfig
from tinyslm.training.memory import peak_bytes

DIMS, DEPTHS = range(64, 769, 64), range(2, 13)
CONTEXTS = (128, 256, 512)
UPDATES = (1024, 2048, 4096, 8192, 16384)
DROPOUTS = (0.0, 0.05, 0.1, 0.2)
MOMENTA, DECAYS = (0.8, 0.9, 0.95), (0.6, 0.9)
FARTHEST = 2.0
"""Learning rates lie within this factor of the rule's."""
FEWEST_STEPS = 50
MOST_TRIES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--shapes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(json.dumps(draw(arguments.paths, arguments.minutes, arguments.shapes, arguments.seed)))


def draw(paths: Sequence[str], minutes: float, count: int, seed: int) -> list[dict]:
    """Settings as `{"model.dim": 128, ...}`."""
    planner = Planner.look(paths)
    chance, drawn = random.Random(seed), []
    for _ in range(MOST_TRIES):
        if len(drawn) < count and (settings := one_of_them(planner, minutes, chance)):
            drawn.append(settings)
    if len(drawn) < count:
        raise SystemExit(f"Hardly anything makes {FEWEST_STEPS} updates in {minutes:g} minutes on this machine.")
    return drawn


def one_of_them(planner: Planner, minutes: float, chance: random.Random) -> dict | None:
    """One drawing, or nothing where it makes no sense."""
    wide = [math.log(dim) for dim in (DIMS[0], DIMS[-1])]
    dim = DIMS.step * round(math.exp(chance.uniform(*wide)) / DIMS.step)
    context, update = chance.choice(CONTEXTS), chance.choice(UPDATES)
    vocab_size = chance.choice(sorted(planner.survey.bytes_per_token))
    shape = {"dim": dim, "depth": chance.choice(DEPTHS), "context": context}
    train = {"batch": update // context, "minutes": minutes}
    settings = {"model": shape, "tokenizer": tokenizer_settings(vocab_size), "train": train}
    try:
        config = build_config(RunConfig, merge(settings, {"model": {"vocab_size": vocab_size}}))
    except TinyslmError:
        return None
    steps = Candidate.of(config, planner.survey, planner.costs).steps(60 * minutes)
    if steps < FEWEST_STEPS or peak_bytes(config) > memory_bytes()[1]:
        return None
    epochs = steps * update * planner.survey.bytes_in_token(vocab_size) / planner.survey.training_bytes
    ruled = rates(dim, update, steps, epochs)["optimizer"]
    farthest = math.log(FARTHEST)
    drawn = {name: ruled[name] * math.exp(chance.uniform(-farthest, farthest)) for name in ("muon_lr", "lr")}
    settings["optimizer"] = {name: float(f"{rate:.3g}") for name, rate in drawn.items()}
    settings["optimizer"]["muon_momentum"] = chance.choice(MOMENTA)
    settings["schedule"] = {"decay": chance.choice(DECAYS)}
    shape["dropout"] = chance.choice(DROPOUTS) if epochs > EPOCHS_WITHOUT_DROPOUT else 0.0
    del train["minutes"]  # given to the command by itself
    return dict(flatten(settings))


if __name__ == "__main__":
    main()
