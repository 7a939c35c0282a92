"""Where the server listens, and its limits."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tinyslm.core.config import Section, build_config, read_config_file
from tinyslm.core.errors import TinyslmError

KEYS_VARIABLE = "TINYSLM_KEYS"


class ServerSettings(Section):
    """Limits are per request unless they say otherwise."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; any other than loopback needs keys.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    keys: Path | None = Field(
        default=None, description=f"File of hashed keys (see --make-key); the variable {KEYS_VARIABLE} may hold more."
    )
    models: Path | None = Field(
        default=None,
        description='File of more models and adapters: NAME = "PATH" below [models] and [adapters]; SIGHUP rereads it.',
    )
    public: bool = Field(
        default=False,
        description="Everybody who reaches the server may use it without a key, and other sites may show its pages in "
        "frames: for a demo, as in a Hugging Face Space.",
    )
    pack: tuple[str, ...] = Field(
        default=(), description="Pack whose page is served too, at /NAME: excel; may be given several times."
    )
    gradio: bool = Field(default=False, description="Also serve a chat interface made with Gradio, at /gradio.")
    cors: tuple[str, ...] = Field(
        default=(),
        description="Origin whose pages may use the server: https://example.com; may be given several times.",
    )
    allow_host: tuple[str, ...] = Field(
        default=(), description="Host name by which a proxy calls this server; may be given several times."
    )
    max_header: int = Field(default=32_768, gt=0, description="Maximum bytes of the request line and the headers.")
    header_seconds: float = Field(
        default=20, gt=0, description="Seconds from the opening of the connection until the headers are complete."
    )
    max_connections: int = Field(
        default=512, gt=0, description="Maximum open connections per address; all clients of a proxy share its address."
    )
    max_body: int = Field(default=4_000_000, gt=0, description="Maximum bytes of a body.")
    max_prompt: int = Field(default=0, ge=0, description="Maximum tokens of a prompt; 0: the context of the model.")
    max_answer: int = Field(default=0, ge=0, description="Maximum tokens of an answer; 0: the rest of the context.")
    max_choices: int = Field(default=16, gt=0, description="Maximum choices per prompt (n).")
    max_prompts: int = Field(default=64, gt=0, description="Maximum prompts, or texts to embed, of a request.")
    max_seconds: float = Field(default=600, gt=0, description="Maximum seconds until an answer is complete.")
    max_requests: int = Field(
        default=256, gt=0, description="Maximum answers under way, including waiting ones; then 429."
    )
    max_memory: float = Field(
        default=0, ge=0, description="Maximum GB of the process: unused models are unloaded to make room. 0: no limit."
    )
    max_idle: float = Field(
        default=30, ge=0, description="Minutes until an unused model is unloaded, except the first; 0: never."
    )
    grace: float = Field(default=30, ge=0, description="Seconds that answers have to end when the server shuts down.")
    log_json: bool = Field(default=False, description="Log JSON, one object per line.")
    log_prompts: bool = Field(default=False, description="Log prompts and answers.")

    @field_validator("cors")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            whole = parts.netloc and origin == f"{parts.scheme}://{parts.netloc}"
            if not whole or parts.scheme not in ("http", "https"):
                raise ValueError(f"{origin} is not an origin: give scheme, name and port, such as https://example.com")
        return origins

    @model_validator(mode="after")
    def _allow_host_without_port(self) -> Self:
        for name in self.allow_host:
            if not name or any(character in name for character in "/:@ "):
                raise ValueError(f"{name!r} is not a host name: give it without scheme and port")
        return self

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    def check_reachable(self, has_keys: bool) -> None:
        """Raise `TinyslmError` if other machines could use the server without a key, unless it is `public`."""
        if not self.local and not has_keys and not self.public:
            raise TinyslmError(
                f"Listening on {self.host} lets other machines use the server, which has no keys.",
                "Make one: tinyslm serve --make-key NAME --keys FILE, and give --keys FILE; or listen on 127.0.0.1; "
                "or give --public if everybody may use it.",
            )


class ModelList(Section):
    """A file of models, and of adapters of the first model, by the names that clients use."""

    models: dict[str, Path] = Field(default_factory=dict, description="Model folders, run folders or GGUF files.")
    adapters: dict[str, Path] = Field(default_factory=dict, description="Adapters, or run folders with one.")


def read_model_list(file: Path) -> ModelList:
    """The content of a file for --models, whose relative paths begin at its folder. Raises `TinyslmError`."""
    found = build_config(ModelList, read_config_file(file, "--models"), str(file))
    return ModelList(
        models={name: file.parent / path for name, path in found.models.items()},
        adapters={name: file.parent / path for name, path in found.adapters.items()},
    )


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
