"""The front matter of a Space's `README.md`, and its check against a schema of what the hub accepts.

https://huggingface.co/docs/hub/spaces-config-reference
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.deploy.bundle import Contents

SHORT_DESCRIPTION = 60  # characters, at most
_OF_THE_CARD = ("license", "license_name", "language", "tags")
_EDIT = "Correct README.md: https://huggingface.co/docs/hub/spaces-config-reference"


def front_matter(contents: Contents, card: Mapping[str, Any], sdk: Mapping[str, Any]) -> dict[str, Any]:
    """What the hub shows of the Space and how it is run; of the model card the licence, the base and the tags."""
    base = card.get("base_model")
    return {
        "title": contents.title,
        "emoji": "💬",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": contents.sdk,
        **sdk,
        "pinned": False,
        "short_description": one_line(f"{contents.title}, a small language model", SHORT_DESCRIPTION),
        **{name: card[name] for name in _OF_THE_CARD if name in card},
        **({"models": [base]} if isinstance(base, str) else {}),
    }


def check_front_matter(folder: Path) -> str:
    """Check a Space's front matter as the hub does; gives what was found, in words.

    Raises `TinyslmError` if a field is missing, unknown or wrong, or names a file that is not there.
    """
    from jsonschema import Draft202012Validator

    from tinyslm.export import facts

    schema = json.loads((files("tinyslm.deploy.space") / "front_matter.schema.json").read_text(encoding="utf-8"))
    found = facts.front_matter(folder)
    if not found:
        raise TinyslmError(f"{folder / 'README.md'} has no front matter, which makes a folder a Space.", _EDIT)
    errors = sorted(Draft202012Validator(schema).iter_errors(found), key=lambda error: error.json_path)
    if errors:
        where = errors[0].json_path.removeprefix("$.").removeprefix("$")
        problem = f"The front matter of the Space is wrong: {where + ': ' if where else ''}{errors[0].message}."
        raise TinyslmError(one_line(problem, 300), _EDIT)
    app = found.get("app_file")
    if app is not None and not (folder / app).is_file():
        raise TinyslmError(f"The front matter of the Space names {app}, which does not exist.", _EDIT)
    return f"{len(found)} fields, as the hub's reference has them"
