"""Language detection by script and common words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

SCRIPTS = {
    "THAI": "th", "TAMIL": "ta", "TELUGU": "te", "BENGALI": "bn", "KANNADA": "kn", "GUJARATI": "gu",
    "GURMUKHI": "pa", "MALAYALAM": "ml", "HANGUL": "ko", "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh",
    "GREEK": "el", "HEBREW": "he",
}  # fmt: skip
"""Languages with a unique script, by the first word of the Unicode names of its letters."""

WORDS = {
    "LATIN": {
        "en": "the of and to in is that it you for was with are this be on not have as at they we",
        "de": "der die das und ist nicht ein eine ich zu den mit sie es von auf für im dem sich auch wie",
        "fr": "le la les de et est un une des en que pour dans qui il ne pas sur avec vous je du au",
        "es": "el la los de y es un una que en por para con no se las del como su más está lo al",
        "pt": "o a os de e é um uma que em para com não se as do da no na por mais como são você",
        "it": "il la di e è un una che in per con non si le del della sono i lo al come più gli nel",
        "nl": "de het een en van is dat niet in op te zijn met voor ik je maar aan ook er om",
        "pl": "i w nie na się jest z to że do jak o ale po co tak za od przez dla są oraz",
        "vi": "và của là có không được cho trong một người với các này đã những để khi tôi bạn",
        "fi": "ja on ei se että oli hän mutta en ovat niin kun minä sinä tämä joka mitä myös kuin voi",
        "sw": "na ya wa ni kwa la za katika hii kuwa si cha kama yake hiyo lakini pia watu mimi huu",
        "tr": "ve bir bu da de için ile çok ne daha gibi olan var ben sen ama değil mi",
    },
    "CYRILLIC": {
        "ru": "и в не на что с он как это по но из то за от так все для у был мы ты вы",
        "bg": "и в не на че с да се от за е по са като но ще това който към при има до",
        "uk": "і в не на що з та як це до але за від так для є він ми ви у його був",
    },
    "ARABIC": {
        "ar": "في من على إلى أن هذا هو التي هي ما لا عن مع كان الذي هذه أو كل",
        "fa": "و در به از که این را با است برای آن یک می های تا بر هم شود",
        "ur": "اور کے میں کی ہے سے کا کو نے ہیں یہ پر کہ تھا اس بھی ایک نہیں",
    },
    "DEVANAGARI": {
        "hi": "के है में की और का से को हैं यह पर एक ने नहीं कि भी था लिए हो",
        "mr": "आहे आणि या आहेत मध्ये च ते हे एक की तो ही होते नाही करून मी आपण साठी",
        "ne": "र छ को मा छन् हो पनि यो लाई गर्न भने थियो तर एक हुन् म हामी लागि",
    },
}
"""Common words of languages that share a script."""

LANGUAGES = frozenset(SCRIPTS.values()) | {name for words in WORDS.values() for name in words}


CLEAR_WORDS, CLEAR_MARGIN, CLEAR_SHARE = 4, 2.0, 0.12
"""Minimum evidence for `clear_language`: different common words, their number relative to any other language, and their
share of all words."""
CLEAR_LETTERS = 20
"""Minimum evidence for a language with a unique script: letters."""


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's language, one of `LANGUAGES`; `None` if it cannot be determined."""
    script, _ = _script(text)
    if script in SCRIPTS:
        return SCRIPTS[script]
    words = _words(text)
    counts = {
        name: sum(words[word] for word in common.split()) for name, common in WORDS.get(script, {}).items()
    }  # by language
    best = max(counts, key=lambda name: counts[name], default=None)
    return best if best is not None and counts[best] else None


def clear_language(text: str) -> str | None:
    """Like `language_of`, but also `None` if the evidence is weak, as in code, names and short texts."""
    script, letters = _script(text)
    if script in SCRIPTS:
        return SCRIPTS[script] if letters >= CLEAR_LETTERS else None
    if script not in WORDS:
        return None
    words = _words(text)
    found = {
        name: {word: words[word] for word in common.split() if len(word) > 1 and words[word]}
        for name, common in WORDS[script].items()
    }
    second, best = sorted(found, key=lambda name: sum(found[name].values()))[-2:]
    count = sum(found[best].values())
    clear = count >= max(CLEAR_MARGIN * sum(found[second].values()), CLEAR_SHARE * words.total())
    return best if clear and len(found[best]) >= CLEAR_WORDS else None


def _script(text: str) -> tuple[str, int]:
    """The script of most letters (Japanese if at least a tenth are kana), and the number of all letters."""
    scripts: Counter[str] = Counter()
    for char, count in Counter(text).items():
        if char.isalpha():
            scripts[unicodedata.name(char, "").partition(" ")[0]] += count
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > scripts.total() / 10:
        return "HIRAGANA", scripts.total()
    return max(scripts, key=lambda script: scripts[script], default=""), scripts.total()


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\W\d_][\w\u0300-\u036f\u0900-\u097f]*", text.casefold()))
