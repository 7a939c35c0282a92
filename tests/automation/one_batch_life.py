"""Run `tinyslm` and die by SIGKILL in the middle of the n-th line that is appended: one_batch_life.py N ARGUMENTS."""

import os
import signal
import sys

from tinyslm.cli import main
from tinyslm.serving.automation.journal import Journal, as_json


def dying(left: int):
    def append(self, line):
        nonlocal left
        left -= 1
        if not left:
            data = as_json(line)
            self._file.write(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        whole(self, line)

    whole = Journal.append
    return append


if __name__ == "__main__":
    Journal.append = dying(int(sys.argv[1]))
    sys.argv = ["tinyslm", *sys.argv[2:]]
    main()
