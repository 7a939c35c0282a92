"""Texts that the tokenizer tests train on."""

import inspect
import textwrap

SCRIPTS = [
    "It's 12345 o'clock, WE'LL see: naïve Straße, façade.  Two  spaces.\n\n\tTabs\t\tand\r\nline ends\n",
    "пример текста, ещё пример текста. ελληνικά και ελληνικά. 漢字かな交じり文。漢字。 한국어 문장 한국어",
    "العربية العربية עברית עברית हिन्दी हिन्दी ไทยไทย 👩‍👩‍👧 🏳️‍🌈 🇩🇪 👩‍👩‍👧",
]


def corpus() -> list[str]:
    """Python source and many scripts, enough for some hundred merges."""
    return [inspect.getsource(module) for module in (inspect, textwrap)] + SCRIPTS * 3
