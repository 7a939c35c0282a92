"""Keeping a run to its time: the plan, what was seen of the machine, and the corrections, as they are decided.

Every decision is written to `pace.json` in the run folder before it takes effect. So it is taken once: a run that was
killed after it and goes on from an earlier checkpoint takes the same one again, whatever the clock says by then.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tinyslm.core.files import write_json
from tinyslm.core.json_files import read_json
from tinyslm.training.budget import Costs, fitting_steps, is_due
from tinyslm.training.compiling import Compiling
from tinyslm.training.config import LoopConfig
from tinyslm.training.timetable import Correction, Timetable


@dataclass(frozen=True)
class Pace:
    """What a run with a given time has decided.

    steps: planned at the start, which took `seconds` (preparing the text included). costs: measured then. compiling:
    whether updates are compiled.
    """

    steps: int
    seconds: float
    costs: Costs
    corrections: tuple[Correction, ...] = ()
    compiling: Compiling | None = None

    @classmethod
    def read(cls, file: Path) -> "Pace":
        """The pace that `file` holds; raises `TinyslmError` when it does not."""
        return read_json(file, cls, remedy="Restore it from a copy, or start a new run with another --out.")

    def write(self, file: Path) -> None:
        """Store it, whole or not at all."""
        write_json(file, asdict(self))


class Pacer:
    """Decides the corrections of a run that may take `train.minutes`."""

    def __init__(self, file: Path, pace: Pace, train: LoopConfig) -> None:
        assert train.minutes, "only a run with a time has a pace"
        self.pace = pace
        self._file = file
        self._train = train
        self._budget = train.minutes * 60

    def correction(
        self, step: int, seconds: float, costs: Costs, corrections: tuple[Correction, ...]
    ) -> Correction | None:
        """What is decided after update `step`, `seconds` into the run, after `corrections`; None: nothing now."""
        decided = self.pace.corrections[len(corrections) :]
        if decided:  # before the run was interrupted
            return decided[0] if decided[0].step == step else None
        last = corrections[-1] if corrections else Correction(0, 0.0, self.pace.steps, self.pace.seconds)
        position = Timetable(self.pace.steps, corrections).position(step)
        if step >= last.steps or not is_due(position, seconds, last, self._budget, costs):
            return None
        steps = step + fitting_steps(self._budget - seconds, position, costs, self._train)
        correction = Correction(step, position, steps, seconds)
        self.pace = replace(self.pace, corrections=(*self.pace.corrections, correction))
        self.pace.write(self._file)
        return correction


def pace_event(correction: Correction, before: int) -> dict[str, Any]:
    """The event that tells of a correction; before: updates in the whole run as they were planned until then."""
    return {"event": "pace", **asdict(correction), "before": before}
