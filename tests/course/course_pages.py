"""What the tests of the course share."""

import json
from typing import Any

from playwright.sync_api import Page

from tinyslm.course.chapters import CHAPTERS

SENTENCE = "The statement is a list, and the list is a statement."
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
PAGES = {name: f"{number}-{name}.html" for number, name in enumerate(CHAPTERS, 1)}
"""The files of the chapters."""


def data_of(page: Page, widget: str) -> Any:
    """The numbers that a page gives to one of its widgets."""
    return json.loads(page.locator(f'[data-widget="{widget}"] script').text_content() or "")
