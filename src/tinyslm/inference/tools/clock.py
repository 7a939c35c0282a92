"""A tool that tells the date and the time."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tinyslm.inference.tools.tool import ToolError, tool


@tool
def clock(zone: str = "") -> str:
    """Tell the present date, weekday and time.

    Args:
        zone: a time zone such as "Europe/Vienna" or "UTC"; empty: the one of this computer.
    """
    try:
        now = datetime.now(ZoneInfo(zone)) if zone else datetime.now().astimezone()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolError(f"There is no time zone {zone}.") from None
    return now.strftime("%A, %Y-%m-%d %H:%M:%S %Z").strip()
