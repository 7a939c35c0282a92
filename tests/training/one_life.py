"""What a process of the interruption tests does: begin the run, or go on with it, until it ends or is killed.

Run as a program it takes one JSON object: {"paths", "out", "config"}.
"""

import json
import sys
from pathlib import Path
from typing import Any


def live(paths: list[str], out: str, config: dict[str, Any]) -> None:
    """Train on `paths` into `out`; one thread, so that processes do not wait for each other."""
    import torch

    from tinyslm.core.config import build_config
    from tinyslm.training.config import RunConfig
    from tinyslm.training.pipeline import resume, train

    torch.set_num_threads(1)
    if Path(out, "config.json").exists():
        resume(out)
    else:
        train(paths, out, config=build_config(RunConfig, config))


if __name__ == "__main__":
    from tinyslm.core.errors import TinyslmError
    from tinyslm.training.interrupt import Interrupted

    try:
        live(**json.loads(sys.argv[1]))
    except Interrupted as stopped:
        print(f"interrupted after step {stopped.step}")
    except TinyslmError as error:
        sys.exit(f"{error.problem}\n{error.remedy}")
