"""A text and a machine to plan for, without looking at either."""

from tinyslm.planning.cost import MachineCosts
from tinyslm.planning.survey import Survey

LENGTHS = {320: 1.0, 1024: 2.5, 2048: 3.0, 4096: 3.6}


def text(megabytes: float, **changes: object) -> Survey:
    """A text of so many million bytes, as hard as English stories."""
    size = int(megabytes * 1e6)
    values = {
        "bytes": size,
        "unique_bytes": size,
        "training_bytes": int(0.95 * size),
        "held_out_bytes": size - int(0.95 * size),
        "documents": max(1, size // 2500),
        "seconds": 0.0,
        "xz_bits": 2.5,
        "context_bits": 2.2,
        "probe_bits": 3.3,
        "probed_bytes": 800_000,
        "probing_seconds": 1.5,
        "bytes_per_token": LENGTHS,
    }
    return Survey(**{**values, **changes})


MACHINE = MachineCosts(
    device="cpu",
    dtype="bfloat16",
    threads=2,
    block_products=4.0,
    attention_products=8.0,
    table_products=5.0,
    logits=0.0005,
    values=0.005,
    positions=0.3,
    blocks=0.001,
    muon_products=5.0,
    weights=0.01,
    matrices=0.001,
    measuring_seconds=3.0,
)
