"""For all tests."""

import os

# The models here are so small that a second thread only waits for the first; processes that tests start inherit it.
# Set before torch is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
