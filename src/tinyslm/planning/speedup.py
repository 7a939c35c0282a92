"""What several processes would give a planned run, from the measured costs of one and of summing between two."""

from dataclasses import dataclass

from tinyslm.core.errors import TinyslmError
from tinyslm.planning.plan import Plan
from tinyslm.training.summing import Summing


@dataclass(frozen=True)
class Speedup:
    """An update with several processes.

    alone, together: its seconds with one process, and with all. summing: seconds of that in which gradients are summed,
    or None where that was not measured. tokens_per_second: of all together.
    """

    processes: int
    alone: float
    together: float
    summing: float | None
    tokens_per_second: float

    @property
    def times(self) -> float:
        """How many times as fast it is."""
        return self.alone / self.together


def speedup(plan: Plan, processes: int, summing: Summing | None) -> Speedup:
    """What a plan's updates would take on so many processes, each on a machine, socket or GPU like the measured one.

    They share the batch; each makes the optimizer's step; gradients are summed in fp32, as fast as was measured between
    two processes of this machine. Raises `TinyslmError` if the batch has too few sequences.
    """
    config = plan.settings
    if not 0 < processes <= config.train.batch:
        raise TinyslmError(
            f"A batch of {config.train.batch} sequences has work for 1 to {config.train.batch} processes, not for "
            f"{processes}.",
            f"Plan for fewer processes, or a larger batch: --train.batch {max(2, processes)}",
        )
    rows = -(-config.train.batch // processes)
    share = config.model_copy(update={"train": config.train.model_copy(update={"batch": rows, "micro_batch": 0})})
    alone, computing = (plan.machine.rates(one).update for one in (config, share))
    sums = summing.seconds(config.model.parameters, processes) if summing and processes > 1 else None
    together = alone if processes == 1 else computing + (sums or 0.0)
    tokens = config.train.batch * config.model.context
    return Speedup(processes, alone, together, sums, tokens / together)
