"""What a process of the interruption tests does: begin the run, or go on with it, until it ends or is killed.

Run as a program it takes one JSON object: {"paths", "out", "config"}, and "largest_file" in bytes if there is a limit.
`live_by_updates` goes on with a run whose clock goes by its updates.
"""

import json
import sys
from pathlib import Path
from typing import Any


def live(paths: list[str], out: str, config: dict[str, Any]) -> None:
    """Train on `paths` into `out`."""
    from tinyslm.core.config import build_config
    from tinyslm.planning.train import resume, train
    from tinyslm.training.config import RunConfig

    if Path(out, "config.json").exists():
        resume(out)
    else:
        train(paths, out, settings=build_config(RunConfig, config))


def live_by_updates(out: str, slow_after: int) -> None:
    """Go on with the run in `out` on a machine where an update takes a quarter of a second, and later half a second."""
    from tinyslm.training.pipeline import finish
    from tinyslm.training.run import Run

    run: Run | None = None

    def clock() -> float:
        step = run.progress.step if run else 0
        return 0.25 * step + 0.25 * max(0, step - slow_after)

    run = Run.resume(Path(out), clock=clock)
    finish(run)


def main(largest_file: int = 0, **order: Any) -> None:
    """Live, and say in words how it ended."""
    import resource

    from tinyslm.core.errors import TinyslmError
    from tinyslm.training.interrupt import Interrupted

    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    try:
        live(**order)
    except Interrupted as stopped:
        print(f"interrupted after step {stopped.step}")
    except TinyslmError as error:
        print(f"{error.problem}\n{error.remedy}")
        sys.exit(2)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
