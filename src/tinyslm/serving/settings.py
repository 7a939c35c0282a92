"""What a server listens on, and what it puts up with."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tinyslm.core.config import Section
from tinyslm.core.errors import TinyslmError

KEYS_VARIABLE = "TINYSLM_KEYS"


class ServerSettings(Section):
    """Limits count for each request unless they say otherwise."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; any but this machine's own needs keys.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    keys: Path | None = Field(
        default=None, description=f"File of hashed keys (see --make-key); the variable {KEYS_VARIABLE} holds more."
    )
    cors: tuple[str, ...] = Field(
        default=(), description="Web page that may use the server, such as https://example.com; may be given often."
    )
    allow_host: tuple[str, ...] = Field(
        default=(), description="Name by which a proxy in front calls this server; may be given several times."
    )
    max_header: int = Field(default=32_768, gt=0, description="Most bytes of a request's line and headers.")
    header_seconds: float = Field(
        default=20, gt=0, description="Seconds for the headers to be complete, from the opening of the connection."
    )
    max_connections: int = Field(
        default=512, gt=0, description="Most open connections per address; all clients of a proxy share its address."
    )
    max_body: int = Field(default=4_000_000, gt=0, description="Most bytes of a request.")
    max_prompt: int = Field(default=0, ge=0, description="Most tokens of a prompt; 0: what the model can read.")
    max_answer: int = Field(default=0, ge=0, description="Most tokens of an answer; 0: what the context has room for.")
    max_choices: int = Field(default=16, gt=0, description="Most answers to one prompt (n).")
    max_prompts: int = Field(default=64, gt=0, description="Most prompts, or texts to embed, of one request.")
    max_seconds: float = Field(default=600, gt=0, description="Longest time until an answer is complete.")
    max_requests: int = Field(
        default=256, gt=0, description="Most answers under way at once, waiting ones included; then 429."
    )
    max_memory: float = Field(
        default=0, ge=0, description="GB that the process may take; models nobody uses make room. 0: no limit."
    )
    max_idle: float = Field(
        default=30, ge=0, description="Minutes until a model nobody uses is unloaded, but for the first; 0: never."
    )
    grace: float = Field(default=30, ge=0, description="Seconds that answers get to end when the server is stopped.")
    log_prompts: bool = Field(default=False, description="Show prompts and answers in the log.")

    @field_validator("cors")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or not parts.netloc
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{origin} is no origin: give scheme, name and port, such as https://example.com")
        return origins

    @model_validator(mode="after")
    def _allow_host_without_port(self) -> Self:
        for name in self.allow_host:
            if not name or any(character in name for character in "/:@ "):
                raise ValueError(f"{name!r} is no host name: give it without scheme and port")
        return self

    @property
    def local(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return is_loopback(self.host)

    def check_reachable(self, has_keys: bool) -> None:
        """Raise `TinyslmError` when others could use the server without a key."""
        if not self.local and not has_keys:
            raise TinyslmError(
                f"Listening on {self.host} lets other machines use the server, and it has no keys.",
                "Make one: tinyslm serve --make-key NAME --keys FILE, and give --keys FILE; or listen on 127.0.0.1.",
            )


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
