"""What the tests of the command line share: tiny settings, how a command ended."""

import sys
from dataclasses import dataclass
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("tinyslm"))
SHAPE = {"model.dim": 32, "model.depth": 1, "model.head_dim": 16, "model.context": 32}
TINY = [
    f"--{key}={value}"
    for key, value in {**SHAPE, "train.steps": 5, "train.batch": 4, "train.log_every": 1, "train.device": "cpu"}.items()
]


@dataclass
class Ended:
    """How a command ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    def mistake(self) -> str:
        """The two lines of a mistake, as one; checks that there is nothing else on standard error but warnings."""
        lines = [line for line in self.err.splitlines() if not line.startswith("warning: ")]
        assert (self.code, len(lines)) == (2, 2), self
        assert lines[0].startswith("error: "), self
        assert "Traceback" not in self.out + self.err
        return " ".join(lines)


def entries(folder: Path) -> set[str]:
    """Everything below a folder, hidden things too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
