"""Any text as LaTeX that compiles: by command where there is one, else by its code point.

The commands are in LaTeX's kernel (2020 and later), so no text needs a package.
"""

import unicodedata
from itertools import pairwise

from recbole_llm.report.text import one_line

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': r"\symbol{34}",
    "`": r"\textasciigrave{}",
}
_MATHS = {
    "±": "pm",
    "×": "times",
    "÷": "div",
    "·": "cdot",
    "−": "-",
    "≤": "leq",
    "≥": "geq",
    "≠": "neq",
    "≈": "approx",
    "≡": "equiv",
    "∼": "sim",
    "∝": "propto",
    "∞": "infty",
    "∑": "sum",
    "∏": "prod",
    "√": "surd",
    "∂": "partial",
    "∇": "nabla",
    "∈": "in",
    "∉": "notin",
    "∪": "cup",
    "∩": "cap",
    "⊂": "subset",
    "⊆": "subseteq",
    "∅": "emptyset",
    "∀": "forall",
    "∃": "exists",
    "¬": "neg",
    "∧": "wedge",
    "∨": "vee",
    "⊕": "oplus",
    "⊗": "otimes",
    "∗": "ast",
    "★": "star",
    "☆": "star",
    "†": "dagger",
    "‡": "ddagger",
    "°": "^\\circ",
    "←": "leftarrow",
    "→": "rightarrow",
    "↑": "uparrow",
    "↓": "downarrow",
    "↔": "leftrightarrow",
    "⇐": "Leftarrow",
    "⇒": "Rightarrow",
    "⇑": "Uparrow",
    "⇓": "Downarrow",
    "⇔": "Leftrightarrow",
    "↦": "mapsto",
    "ℓ": "ell",
    "µ": "mu",
    "ϵ": "epsilon",
    "ε": "varepsilon",
    "ϑ": "vartheta",
    "ϕ": "phi",
    "φ": "varphi",
    "ϱ": "varrho",
    "ς": "varsigma",
    "ϖ": "varpi",
    "ο": "o",
}
_TEXTS = {
    "–": "--",
    "—": "---",
    "‐": "-",
    "‑": "-",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "…": r"\ldots{}",
    "•": r"\textbullet{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "©": r"\copyright{}",
    "®": r"\textregistered{}",
    "™": r"\texttrademark{}",
    "€": r"\texteuro{}",
    "£": r"\pounds{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
    "\u0331": "b",
}
_MATH_ACCENTS = {"\u0300": "grave", "\u0301": "acute", "\u0308": "ddot"}
_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega".split()
)
#: Greek capitals that look like a Latin letter, which LaTeX has no command for.
_LATIN_CAPITALS = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABEZHIKMNOPTX", strict=True))
_LIGATURES = "-',"  # LaTeX joins two of them to another mark


def escape(text: str) -> str:
    """Return text in which no character has a meaning for LaTeX, on one line.

    A character that has neither a command nor a Latin spelling, such as a Chinese one, becomes its
    code point: ``U+6DF1``. ``unmapped`` names these.
    """
    chars = unicodedata.normalize("NFC", one_line(text))
    return "".join(
        _escape_char(char) + ("{}" if char == following and char in _LIGATURES else "")
        for char, following in pairwise(chars + " ")
    )


def unmapped(text: str) -> list[str]:
    """Return the characters of a text that ``escape`` writes as code points, each once."""
    chars = dict.fromkeys(unicodedata.normalize("NFC", one_line(text)))
    return [char for char in chars if _escape_char(char) == _code_point(char)]


def _escape_char(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isascii():
        return char
    if char in _TEXTS:
        return _TEXTS[char]
    if unicodedata.category(char) == "Cf":  # invisible, such as a zero-width joiner
        return "{}"
    maths = _maths(char)
    return f"${maths}$" if maths else _spelled(char) or _code_point(char)


def _maths(char: str) -> str:
    """Return the command of a symbol or Greek letter in mathematics, or nothing."""
    if char in _MATHS:
        command = _MATHS[char]
        return f"\\{command}" if len(command) > 1 and command[0] != "^" else command
    if char in _LATIN_CAPITALS:
        return f"\\mathrm{{{_LATIN_CAPITALS[char]}}}"
    base, *marks = list(unicodedata.normalize("NFD", char))
    if marks:
        letter = _maths(base)
        known = letter and all(mark in _MATH_ACCENTS for mark in marks)
        for mark in marks if known else ():
            letter = f"\\{_MATH_ACCENTS[mark]}{{{letter}}}"
        return letter if known else ""
    name = unicodedata.name(char, "").replace("LAMDA", "LAMBDA")
    case, _, letter = name.removeprefix("GREEK ").partition(" LETTER ")
    letter = letter.lower() if name.startswith("GREEK ") else ""
    if letter not in _GREEK:
        return ""
    return f"\\{letter.capitalize() if case == 'CAPITAL' else letter}"


def _spelled(char: str) -> str:
    """Return a letter with its accents, or a variant such as a ligature in ASCII, or nothing."""
    plain = unicodedata.normalize("NFKD", char)
    if plain.isascii():
        return "".join(_ESCAPES.get(c, c) for c in plain)
    spelling, *marks = list(plain)
    if not spelling.isalpha() or not spelling.isascii():
        return ""
    for mark in marks:
        if mark not in _ACCENTS:
            return ""
        spelling = f"\\{_ACCENTS[mark]}{{{spelling}}}"
    return spelling


def _code_point(char: str) -> str:
    return f"U+{ord(char):04X}"
