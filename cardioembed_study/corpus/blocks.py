"""What is a block, and how is it written on one line? Shared by the readers of every format."""

from __future__ import annotations

import re
from dataclasses import dataclass

PROSE = ("paragraph", "item", "caption")  # kinds whose text is split into sentences
NOT_PROSE = re.compile(  # titles of parts that are about the book, not about the subject
    r"[\d. ]*(?:references|bibliography|(?:further|suggested|recommended) readings?|(?:table of )?contents|index|preface"
    r"|foreword|acknowledge?ments?|about the (?:authors?|book)|reviewers|list of (?:figures|tables|abbreviations)"
    r"|funding(?: information| statement)?|(?:conflicts? of|competing|declaration of) interests?|author contributions?"
    r"|data availability(?: statement)?|ethics statement|ccs concepts|key ?words"
    r"|art attribution|cover|title page|copyright(?: page)?|dedication|colophon)\W*$",
    re.I,
)
FOR_LEARNERS = re.compile(  # titles of parts that set tasks
    r"[\d. ]*(?:(?:chapter |learning )(?:objectives?|outcomes?|goals?)|links? to learning|(?:foot|end)notes?"
    r"|(?:chapter )?review questions?|multiple[ -]choice.{0,20}|self[ -](?:test|check|assessment))\W*$",
    re.I,
)
REFERENCE = "\ufffc"  # stands for a link without words until the sentence around it is known


GLOSSARY = re.compile(r"[\d. ]*(?:glossary|key terms)", re.I)


def in_glossary(section: tuple[str, ...]) -> bool:
    """Whether the titles above a text are those of a glossary; its entries may stand below "A" or "X–Z".

    >>> in_glossary(("Valves", "2.7 Glossary", "A")), in_glossary(("Glossary", "How to read it"))
    (True, False)
    """
    above = [title for title in section if len(title) > 3] or section
    return bool(GLOSSARY.match(above[-1]))


@dataclass(frozen=True)
class Block:
    """One paragraph, list item, caption, glossary meaning, question or answer.

    Args:
        kind: paragraph, item, caption, glossary, question or answer.
        section: titles from the document's own downwards.
        text: one line, inline markup resolved; for a glossary entry the meaning alone.
        terms: terms marked where they are introduced; for a glossary entry the one defined.
    """

    kind: str
    section: tuple[str, ...]
    text: str
    terms: tuple[str, ...] = ()


def superscript(before: str, raised: str) -> str:
    """Return raised text as it is written on one line: powers get ``^``, charges and units stay as they are.

    >>> superscript("10", "3"), superscript("kg/m", "2"), superscript("Ca", "2+"), superscript("benefit.", "12")
    ('^3', '2', '2+', '')
    """
    text, last = raised.strip(), before.rstrip()[-1:]
    if re.fullmatch(r"[\d,–-]+", text) and last in '.,;:)”"' and last:
        return ""  # a footnote's number
    is_power = last.isdigit() and re.fullmatch(r"[−–-]?[\dn]+", text)
    return "^" + raised if is_power else raised


_LETTER = r"(?:\s*[a-zA-Z]\b)?"
_POINTER = rf"{REFERENCE}(?:the (?:figure|table){REFERENCE})?{_LETTER}"
_EMPTY = re.compile(rf"\s?\((?:[Ss]ee\s+|[Aa]s shown in\s+)?{_POINTER}(?:[\s,;]*(?:and\s+|to\s+)?{_POINTER})*[\s.]*\)")
_NAMED = re.compile(rf"(^|[.?!]\s+)?{REFERENCE}(the (?:figure|table)){REFERENCE}(?:\s?[a-d]\b)?")


def tidy(text: str) -> str:
    """Return one line: spaces single, empty brackets gone, links without words named.

    >>> tidy("Flow falls  ( ) , then stops .")
    'Flow falls, then stops.'
    """
    text = _NAMED.sub(_name_link, _EMPTY.sub("", " ".join(text.split())))
    text = re.sub(r" ?\((?:[Ss]ee)?[\s,;.]?\)", "", text)
    return re.sub(r" (?=[,;)]|[.:?!](?:\s|$))", "", " ".join(text.split())).replace("( ", "(").replace("??", "?")


def _name_link(match: re.Match) -> str:
    return match[2] if match[1] is None else match[1] + match[2][0].upper() + match[2][1:]
