"""What the worker process of `test_worker.py` runs."""

import os
import threading


def answer(request: dict) -> dict:
    match request["do"]:
        case "echo":
            return {"said": request["said"], "variables": sorted(os.environ)}
        case "crash":
            os.abort()
        case "raise":
            threading.excepthook = lambda arguments: None
            raise ValueError("a bug")
        case "loop":
            while True:
                pass
        case "fill":
            return {"size": len(bytearray(1 << 40))}
        case "talk":
            return {"text": "x" * 10_000}
    return {}
