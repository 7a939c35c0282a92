"""What a process of test_memory.py does: train as `tinyslm train` does, then print the most memory it had, in bytes.

It takes one JSON object: {"paths", "out", "config"}.
"""

import json
import sys
from pathlib import Path

from one_life import live

if __name__ == "__main__":
    live(**json.loads(sys.argv[1]))
    # Not `ru_maxrss`, which a process inherits from the one that starts it.
    print(1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]))
