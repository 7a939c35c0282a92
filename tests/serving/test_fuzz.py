"""A few of the requests that `benchmarks/server_fuzz.py` makes from the server's own description."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "server_fuzz.py"


def test_no_request_makes_the_server_fail() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--cases", "40"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["cases"] >= 40
    assert {"200", "400"} <= set(found["statuses"])
