"""The settings of a run of a second."""

TINY = {
    "model": {"dim": 32, "heads": 2, "depth": 2, "context": 16, "dropout": 0.1},
    "data": {"workers": 1},
    "train": {"steps": 8, "batch": 4, "micro_batch": 2, "log_every": 1, "checkpoint_minutes": 0, "device": "cpu"},
}
