"""Programs of the fork server do the same and end as programs that are started."""

import os
import select
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="programs are forked on Linux only")
PROGRAM = "import os, sys; print(os.getcwd(), sys.argv[1:], os.environ['TOLD'], sys.stdin.read())"


def test_a_forked_program_has_its_own_folder_arguments_environment_and_files(fork_server, tmp_path):
    said = [
        subprocess.run(
            [python, "-c", PROGRAM, "a", "b c"], input="in", cwd=tmp_path, env={**os.environ, "TOLD": "é"},
            capture_output=True, text=True, check=True,
        ).stdout
        for python in (fork_server.python, sys.executable)
    ]  # fmt: skip
    assert said[0] == said[1] == f"{tmp_path} ['a', 'b c'] é in\n"


@pytest.mark.parametrize(
    "program",
    [
        "print('done')",
        "import sys; print('x'); sys.exit(7)",
        "import sys; sys.exit('a reason')",
        "import os; os.kill(os.getpid(), 9)",
        "raise KeyboardInterrupt",
        "import atexit; atexit.register(print, 'last')",
        "import threading; threading.Timer(0.1, print, ['later']).start()",
        "import torch; print(torch.get_num_threads())",
    ],
)
def test_a_forked_program_ends_as_one_that_is_started(fork_server, program):
    ends = [
        subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
        for python in (fork_server.python, sys.executable)
    ]
    forked, started = ((end.returncode, end.stdout, end.stderr.splitlines()[-1:]) for end in ends)
    assert forked == started


def test_forked_programs_draw_different_random_numbers(fork_server):
    program = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1))"
    command = [fork_server.python, "-c", program]
    drawn = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(2)]
    assert not set(drawn[0]) & set(drawn[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_reaches_the_forked_program(fork_server, number):
    program = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    with subprocess.Popen(
        [fork_server.python, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as client:
        watched = os.pidfd_open(int(client.stdout.readline()))
        client.send_signal(number)
        assert client.wait() == -number
    assert select.select([watched], [], [], 60)[0], "the forked program still runs"
    os.close(watched)
