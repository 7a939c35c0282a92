"""For all tests."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from fork_server import ForkServer

settings.register_profile("no clock", deadline=None)  # on a busy machine an example may take any time
settings.load_profile("no clock")

# The models here are so small that a second thread only waits for the first; processes that tests start inherit it.
# Set before torch is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# In the background of a shell, programs and those that they start take no notice of Ctrl-C, which is tested here.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Starts `tinyslm` and `python -c` without waiting for imports; not for tests of starts, signals and limits."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def no_mode_is_left_behind() -> Iterator[None]:
    """What is done without gradients gives them back: whoever calls it may train next."""
    yield
    if torch := sys.modules.get("torch"):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
