"""Solution: letters after the first one are no capitals behind a small letter."""

OLD = r"|(?:[^\w\r\n]|_)?[^\W\d_]+|\d{1,3}|"
NEW = r"|(?:[^\w\r\n]|_)?[^\W\d_](?:(?!(?<=[^\W\d_A-Z])[A-Z])[^\W\d_])*|\d|"

EDITS = [(OLD, NEW)]
WRONG = [
    ("digits only", [(NEW, OLD.replace("{1,3}", ""))], 3, "is split into ['parseHttpRequest']"),
    ("first letter too", [(r"[^\W\d_](?:(?!", "(?:(?!"), (r"[^\W\d_])*|", r"[^\W\d_])+|")], 1, "loses 'H'"),
    ("every capital", [(r"(?!(?<=[^\W\d_A-Z])[A-Z])", "(?![A-Z])")], 3, "is split into ['H', 'E', 'L', 'L', 'O']"),
    ("groups capture", [("(?i:'s", "((?i:'s"), ("|'d)|(?:", "|'d))|(?:")], 1, "loses"),
]
