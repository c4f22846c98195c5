"""Which sentences does a paragraph hold, without the marks of the page it was printed on?

The paper (section 2.1) removes markup, headers, captions and citations, and sentences under 20 characters. What a
clinician would miss stays: units, decimals, negations, ``Fig. 2`` within a sentence, ranges such as ``CI [2, 4]``.

Sentences come from nupunkt (MIT, pure Python, maintained): its Punkt algorithm with our own medical abbreviations in
place of its legal model, and two rules of ours for what Punkt cannot know (``vitamin K. It``; ``1. Check``).
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import cache

from nupunkt import PunktParameters, PunktSentenceTokenizer

from cardioembed_study.corpus.blocks import REFERENCE, superscript, tidy

MIN_CHARS = 20  # paper section 2.1: shorter sentences are dropped
_ABBREVIATIONS_WORDS = (
    "a.k.a a.m al approx avg b.d b.i.d ca cf d.c dept diff dr drs e.g ed eds eq eqs esp et etc fib fig figs freq "
    "h.s hr i.e i.m i.v incl intl jr lat m.d max med min mr mrs ms mt n.d n.p.o no nos nr o.d o.s o.u p p.m p.o "
    "p.r.n para ph.d pp prof pt pts q.d q.d.s q.h q.i.d q.o.d ref refs resp rev s.c sec sect sp spp sr st stat "
    "subsp t.d.s t.i.d tab u.k u.s var viz vol vs wk wks y.o yr yrs"
)
ABBREVIATIONS = frozenset(_ABBREVIATIONS_WORDS.split())
_MAY_END_WORDS = (
    "etc. a.m. p.m. i.v. i.m. s.c. p.o. b.d. b.i.d. h.s. o.d. o.s. o.u. p.r.n. q.d. q.d.s. q.h. q.i.d. q.o.d. t.d.s. "
    "t.i.d. y.o."
)
MAY_END = frozenset(_MAY_END_WORDS.split())
_UNITS_WORDS = "min. ms. hr. wk. wks. yr. yrs."
UNITS = frozenset(_UNITS_WORDS.split())
_NEVER_END_WORDS = "approx ca cf dr drs e.g eq eqs fig figs i.e incl mr mrs ms prof viz vs"
NEVER_END = frozenset(_NEVER_END_WORDS.split())
_STARTERS_WORDS = (
    "A After All Also Although An And As At Because Both But By Each For From He Her His How However If In It Its Later "
    "Many Most No None Not On Once One Other Others Patients She Similarly Since Some Such That The Their Then There "
    "Therefore These They This Those Thus To Until Use We What When Where Whereas Which While With Without You"
)
STARTERS = frozenset(_STARTERS_WORDS.split())
_BEFORE_A_NAME_WORDS = "and by de der du for from like of or the to van von with"
BEFORE_A_NAME = frozenset(_BEFORE_A_NAME_WORDS.split())
_REFERENCE_WORD = r"(?:figs?\.?|figures?|tables?|box(?:es)?|chapters?|sections?|eqs?\.?|equations?|plates?|videos?)"
_POINTER = re.compile(rf"(?:see|also|and|to|or|in|as|shown|{_REFERENCE_WORD}|[a-z]?\d[\d.–-]*[a-z]?|[a-z])", re.I)
_KIND = re.compile(rf"{_REFERENCE_WORD}", re.I)
_YEAR = r"(?:(?:19|20)\d\d(?:/(?:19|20)\d\d)?(?:-?[a-z])?|n\.d\.?(?:[-.]?[a-z])?)"
_AUTHOR_YEAR = re.compile(
    r"(?:(?:[Ss]ee|[Ss]ee also|e\.g\.|e\.g\.,|cf\.|from|adapted from)\s)?(?:(?:van|von|de|del|den|der|la|le|al)[\s-]){0,3}"
    rf"(?:[A-Z][^;]{{1,150}}(?:,|\bal\.),?\s)?{_YEAR}(?:,\s(?:{_YEAR}|(?:pp?\.|para\.?|sec\.|table|figure)\s?[\w.–-]{{1,12}}))*"
)
_MONTH = re.compile(r"(?:January|February|March|April|May|June|July|August|September|October|November|December)\b")
_CREDIT = re.compile(
    r"\(?(?:photo |image |figure |data )?(?:credits?|courtesy|attribution|sources?(?=:)|modified from|adapted from|reproduced"
    r"|micrographs? provided)\b",
    re.I,
)
_BRACKETED = re.compile(r"\s?\(([^()]{1,600})\)")
_NUMBERED = re.compile(r"\s?\[\d{1,3}(?:\s?[,;–-]\s?\d{1,3}){0,20}\](?![A-Za-z])")
_RANGE = re.compile(r"(?:\b(?:CI|IQR|range|interval|limits)\s?[:=,]?|=)\s?$", re.I)
_FOOTNOTE = re.compile(r"(?<=[a-z]{3}[.?!])\d{1,3}(?:[,–-]\d{1,3}){0,9}(?=\s[A-Z]|$)")
_URL = re.compile(r"\s?(?:https?://\s?|www\.|doi:\s?10\.)[^\s<>()\[\]]+")
_EMAIL = re.compile(r"[\w.-]@[\w-]{1,60}\.\w")
_NO_SPACE = re.compile(r"(?<=[a-z]{3}[.?!])(?=[A-Z][a-z])")
_TAG = re.compile(r"</?(?:a|b|br|div|em|i|img|p|s|small|span|strong|sub|sup|u)(?:\s[\w-]+=[^<>]*)?\s?/?>", re.I)
_RAISED = re.compile(r"<(sup|sub)>([^<>]*)</\1>", re.I)
_FORMULA = re.compile(r"\$([^$]{1,200})\$")
_SYMBOLS_WORDS = (
    "times × cdot · div ÷ pm ± leq ≤ le ≤ geq ≥ ge ≥ neq ≠ approx ≈ sim ~ rightarrow → to → circ ° infty ∞ lambda λ"
)
_SYMBOLS = dict(re.findall(r"(\w+) (\S)", _SYMBOLS_WORDS))
_CHARACTERS = {ord(c): None for c in "\u00ad\u200b\u200c\u200d\u2060\ufeff"} | {
    0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0x2212: "−", 0x00B5: "μ",
}  # fmt: skip
_SENDS_AWAY = re.compile(
    r"(?:(?:please )?(?:watch|view|visit|click|scan|listen to|explore|go to|read|use|play|check out)\s"
    r"(?:through )?(?:(?:the|this|these|our|an?)\s)?"
    r"(?:\w+\s){0,3}?(?:videos?|web\s?sites?|sites?|web\s?pages?|links?|articles?|animations?|podcasts?|simulations?|tutorials?"
    r"|scenarios?|case study)\b"
    r"|this (?:video|animation|website|podcast|interactive)\b|by the end of this (?:section|chapter|module)"
    r"|answers? (?:will|may) vary|(?:retrieved|available|accessed) (?:from|at|on)\b|image credit|©|all rights reserved)",
    re.I,
)
_BIBLIOGRAPHY = re.compile(  # and an author's address
    r"\b(?:19|20)\d\d;\s?\d+(?:\(\d+\))?:|\b\d{1,3}\(\d{1,2}\), ?e?\d|\bdoi\b|\(n\.d\.\)"
    r"|\b\d{1,4} \((?:19|20)\d\d\), (?:no\.|\d)|\barXiv:\d|^\d{0,2} ?(?:departments?|division|faculty|school) of\b.*\bUniversit",
    re.I,
)


def clean(text: str) -> str:
    """Return one paragraph as one line: without markup, citations, credits and addresses.

    >>> clean("Flow halves [12, 14] (Okafor et al., 2018; see Fig. 2).")
    'Flow halves (Okafor et al., 2018; see Fig. 2).'
    >>> clean("Flow halves [12, 14] (Okafor et al., 2018) at 5.5&nbsp;mmol/L (Fig. 2).")
    'Flow halves at 5.5 mmol/L.'
    """
    text = _unmarked(unicodedata.normalize("NFC", text).translate(_CHARACTERS))
    text = _URL.sub(lambda match: "." if match[0].endswith(".") else "", text)
    text = _NUMBERED.sub(lambda match: _unless_range(text, match), text)
    text = _BRACKETED.sub(_unless_citation, text)
    text = _FOOTNOTE.sub("", text)
    return tidy(_NO_SPACE.sub(" ", re.sub(r"(?<![.;,])([.;,])\1(?![.;,])", r"\1", text)))


def _unmarked(text: str) -> str:
    return " ".join(html.unescape(_FORMULA.sub(_formula, _TAG.sub("", raised(text)))).split())


def raised(text: str) -> str:
    """Return a text with ``<sup>`` and ``<sub>`` as they are written on one line.

    >>> raised("10<sup>3</sup> Ca<sup>2+</sup>")
    '10^3 Ca2+'
    """
    return _RAISED.sub(
        lambda m: superscript(text[max(0, m.start() - 3) : m.start()], m[2]) if m[1].lower() == "sup" else m[2], text
    )


def _formula(match: re.Match) -> str:
    """Return a short LaTeX formula as text; money between two dollar signs is left alone."""
    return formula(match[1]) if re.search(r"[\\^_]", match[1]) else match[0]


def formula(latex: str) -> str:
    r"""Return LaTeX as one line of text.

    >>> formula(r"\mathrm{Ca}^{2+}"), formula(r"10^{3}"), formula(r"\alpha_1 \geq \frac{1}{2}"), formula(r"37^{\circ}C")
    ('Ca2+', '10^3', 'α1 ≥ 1/2', '37°C')
    """
    text = re.sub(r"\\(?:mathrm|text|mathbf|mathit|rm|left|right)\b\s?", "", latex)
    text = text.replace("\\,", " ").replace("\\%", "%")
    text = re.sub(r"\\d?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda match: _symbol(match[1]), text)
    return re.sub(r"[{}\\]|(?<=[A-Za-z)}])\^|\^(?=\{?°)|^\^|_", "", text)


def _symbol(name: str) -> str:
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    try:
        return _SYMBOLS.get(name) or unicodedata.lookup(f"GREEK {case} LETTER {name.removeprefix('var')}")
    except KeyError:
        return ""


def _unless_range(text: str, match: re.Match) -> str:
    return match[0] if _RANGE.search(text[max(0, match.start() - 12) : match.start()]) else ""


def _unless_citation(match: re.Match) -> str:
    inner = match[1].strip(" .")
    return "" if _CREDIT.match(inner) or _is_pointer(inner) or _is_citation(inner) else match[0]


def _is_pointer(inner: str) -> bool:
    """Whether a bracket holds nothing but "see Figure 3a and Table 2"."""
    words = re.split(r"[\s,;:]+", inner.strip(" .,;"))
    return any(_KIND.fullmatch(word) for word in words) and all(_POINTER.fullmatch(word) for word in words)


def _is_citation(inner: str) -> bool:
    """Whether every part of a bracket is an author and a year; "(May 12, 2019)" is a date."""
    parts = [part.strip() for part in inner.split(";")]
    named = any(part[:1].isalpha() and not _MONTH.match(part) for part in parts)
    return named and all(_AUTHOR_YEAR.fullmatch(part) and not _MONTH.match(part) for part in parts)


@cache
def _tokenizer() -> PunktSentenceTokenizer:
    return PunktSentenceTokenizer(PunktParameters(abbrev_types=set(ABBREVIATIONS)), include_common_abbrevs=False)


def sentences(text: str) -> list[str]:
    """Return the sentences of one cleaned paragraph, none dropped.

    >>> sentences("Vitamin K. was low, e.g. 0.1 ng/mL. Fig. 2 shows it.")
    ['Vitamin K. was low, e.g. 0.1 ng/mL.', 'Fig. 2 shows it.']
    """
    found = _tokenizer().texts(text)
    return _with_numbers([part for sentence in found for part in _divided(sentence)])


def _divided(sentence: str) -> list[str]:
    """Divide at full stops that Punkt took for an abbreviation's: after a unit, a letter, ``etc.``."""
    if not re.search(r"\. [A-Z]", sentence):
        return [sentence]
    words, parts, start = sentence.split(" "), [], 0
    for n in range(len(words) - 1):
        if words[n].endswith(".") and words[n + 1][0].isupper() and _ends(words[n - 1] if n else "", *words[n : n + 2]):
            parts.append(" ".join(words[start : n + 1]))
            start = n + 1
    return [*parts, " ".join(words[start:])]


def _ends(before: str, word: str, after: str) -> bool:
    """Whether ``word`` ends a sentence, between the word before it and the capitalised word after it."""
    starts = after.strip(",;:") in STARTERS
    opens = starts or after[1:2].islower()
    abbreviation = word.lower().strip("(.")
    if (word in UNITS or re.fullmatch(r"[a-zμ]\.", word)) and before[-1:].isdigit():
        return opens or word not in UNITS
    if word.lower() in MAY_END or abbreviation in ("no", "nos"):
        return opens  # after "no." in the sense of number comes a number
    if word in ("U.S.", "U.K."):
        return starts
    if re.fullmatch(r"\(?[A-Za-zμ]\.", word):
        return starts or not _is_initial(before, after)
    if abbreviation in ABBREVIATIONS and word[:2].isupper():
        return opens  # "MS", "SR": not the title, nor senior
    return abbreviation in ABBREVIATIONS and abbreviation not in NEVER_END and "." not in abbreviation and starts


def _is_initial(before: str, after: str) -> bool:
    """Whether a letter with a full stop is part of a name: "by J. Osei", not "vitamin K. Clotting"."""
    return before.lower() in BEFORE_A_NAME or not before[:1].islower() or bool(re.fullmatch(r"[A-Z]\.", after))


def _with_numbers(parts: list[str]) -> list[str]:
    """Join the number of a list entry to its sentence: "1." "Check the airway."."""
    joined: list[str] = []
    for part in parts:
        if joined and re.fullmatch(r"\(?(?:\d{1,2}|[A-Za-z])[.)]", joined[-1]):
            joined[-1] += " " + part
        else:
            joined.append(part)
    return joined


def is_noise(sentence: str) -> bool:
    """Whether a sentence says nothing of the subject: a reference, a pointer to a film, a formula, a row of numbers.

    >>> is_noise("Watch this video to see a valve close."), is_noise("No murmur was heard.")
    (True, False)
    """
    letters = sum(map(str.isalpha, sentence))
    if REFERENCE in sentence or letters < 0.4 * len(sentence.replace(" ", "")) or "....." in sentence:
        return True
    if len(re.findall(r"[^\W\d_]{2,}", sentence)) < 3:
        return True
    if _CREDIT.match(sentence) or "©" in sentence or "___" in sentence or _EMAIL.search(sentence):
        return True
    if sentence[0].islower() and re.search(r"(?:[,;]|; and|, and| or)$", sentence):
        return True  # one entry of a list that is a single sentence
    return bool(_SENDS_AWAY.match(sentence) or _BIBLIOGRAPHY.search(sentence))


_RESIDUE = re.compile(
    r"\{[:.#]|\]\(|\]\{|\*\*|\\[A-Za-z\[\]()]|</?[a-zA-Z][\w-]*(?:\s[\w:-]+=[^<>]*)?/?>|&(?:[a-zA-Z]{2,8}|#\w{2,6});"
    r"|\$(?!\d)|:::|data-type=|#(?:fig|tab|tbl)-|\[link\]|```|<!--|\[\^|\[@|https?://"
)


def residue(text: str) -> str | None:
    """Return the first piece of markup that is left in a cleaned text, or nothing.

    >>> residue("The **cusp** closes."), residue("A dose costs $4 if p < 0.05.")
    ('**', None)
    """
    found = _RESIDUE.search(text)
    return found[0] if found else None
