"""Start llama.cpp's server inside this process, from the package `xllamacpp`.

It listens on a free port of 127.0.0.1, to whoever knows a key made for it alone.
"""

import secrets
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra

F32 = 0
"""ggml's number for single precision."""


def start_server(
    path: Path, *, context: int, sequences: int, threads: int, batch: int | None = None, exact: bool = False
) -> tuple[Any, str]:
    """A server that has loaded a GGUF file, and its key. It stops when the last reference to it goes.

    context: tokens for each of the `sequences` that it can generate at once. batch: most tokens of a prompt read in one
    step. exact: attention in single precision, where llama.cpp takes half precision. Raises `TinyslmError` if llama.cpp
    does not load the file.
    """
    try:
        import xllamacpp
    except ImportError:
        raise require_extra("gguf", "Running GGUF files in llama.cpp") from None
    key = secrets.token_hex(16)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.api_keys = [key]
    params.verbosity = -1
    params.n_ctx = context * sequences
    params.n_parallel = sequences
    if batch is not None:
        params.n_batch = params.n_ubatch = batch
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_threads_http = 1
    params.warmup = False
    params.fit_params = False
    params.ctx_shift = False
    if exact:
        params.cache_type_k = params.cache_type_v = F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_ram_mib = 0
    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # it raises RuntimeError, and what its parts raise
        raise TinyslmError(
            f"llama.cpp does not load {path}: {error}.", "Export it again, or get the file again."
        ) from None
    # A server that is stopped before its loop has begun never ends, so wait for an answer of the loop.
    server.handle_completions({"prompt": [0], "n_predict": 1, "cache_prompt": False}, lambda _: False)
    return server, key
