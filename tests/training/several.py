"""Processes of a test that meet as torchrun's do."""

import socket
from datetime import timedelta

import torch


def free_port() -> int:
    """A port that nothing uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def join(rank: int, size: int, port: int) -> None:
    """Be one of the processes that meet at a port."""
    address, patience = f"tcp://127.0.0.1:{port}", timedelta(seconds=100)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=size, timeout=patience)
