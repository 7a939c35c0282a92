"""The bundle "space": a Hugging Face Space, with the files and the front matter that the hub's documentation asks for.

https://huggingface.co/docs/hub/spaces-config-reference
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.deploy.bundle import BUNDLES, Bundle, Contents, Progress

SHORT_DESCRIPTION = 60  # characters, at most
SDKS = ("static", "gradio", "docker")


def _metadata(contents: Contents, card: Mapping[str, Any]) -> dict[str, Any]:
    """The front matter of a Space: its own fields, and of the model card the licence, the base and the tags."""
    base = card.get("base_model")
    return {
        "title": contents.title,
        "emoji": "💬",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": contents.sdk,
        "short_description": one_line(f"{contents.title}, a small language model", SHORT_DESCRIPTION),
        "pinned": False,
        **{name: card[name] for name in ("license", "license_name", "tags") if name in card},
        **({"models": [base]} if isinstance(base, str) else {}),
    }


def _accept(contents: Contents) -> None:
    if contents.sdk != "static":
        raise TinyslmError(f"A Space with the sdk {contents.sdk} cannot be made yet.", "Use --sdk static.")
    if "page" not in BUNDLES:
        raise TinyslmError("A static Space cannot be made yet.", "Use --to page.")
    BUNDLES["page"].accept(contents)


def _write(contents: Contents, folder: Path, progress: Progress) -> None:
    BUNDLES["page"].write(contents, folder, progress)


def _check(contents: Contents, folder: Path, progress: Progress) -> Mapping[str, str]:
    return BUNDLES["page"].check(contents, folder, progress)


def _usage(_contents: Contents, folder: Path) -> str:
    return f"tinyslm deploy {folder} --push USER/NAME"


SPACE = Bundle(
    name="space",
    about="a Hugging Face Space",
    write=_write,
    check=_check,
    usage=_usage,
    accept=_accept,
    metadata=_metadata,
    sdks=SDKS,
)
