"""A tool that finds passages in a folder of notes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from tinyslm.agents.retrieval import Notes
from tinyslm.inference.tools.tool import Tool

MOST = 10  # passages returned at once


def retrieve_tool(folder: str | Path) -> Tool:
    """`search_notes` over the text files below `folder`, read once, now.

    Raises `TinyslmError` where there is no folder, or no note in it.
    """
    notes = Notes.read(folder)

    def search_notes(question: str, count: Annotated[int, Field(ge=1, le=MOST)] = 3) -> str:
        """Find the passages of the notes that fit a question best.

        Args:
            question: the question, in words that the notes may use.
            count: how many passages to return.
        """
        found = notes.search(question, count)
        return "\n\n".join(f"[{one.file}:{one.line}]\n{one.text}" for one in found) or "Nothing found."

    return Tool.from_function(search_notes)
