"""Run `tinyslm` and die by SIGKILL before the n-th record is committed: killed_batch.py N ARGUMENTS."""

import os
import signal
import sys

from tinyslm.batch.journal import Journal
from tinyslm.cli import main


def dying(left: int):
    def put(self, key, record):
        nonlocal left
        left -= 1
        if not left:
            self._database.execute("INSERT INTO records VALUES (?, ?)", (key, "half"))
            os.kill(os.getpid(), signal.SIGKILL)
        whole(self, key, record)

    whole = Journal.put
    return put


if __name__ == "__main__":
    Journal.put = dying(int(sys.argv[1]))
    sys.argv = ["tinyslm", *sys.argv[2:]]
    main()
