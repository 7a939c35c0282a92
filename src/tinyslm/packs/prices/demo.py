"""The demo of the pack: a page in, its fields out, with the unit price computed and checked."""

from __future__ import annotations

import json
from pathlib import Path

from tinyslm.core.errors import TinyslmError, disk_error_free_write
