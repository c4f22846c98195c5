"""What is written of a patient during one admission? A state that drifts from note to note, and each note's text.

What makes one note resemble another is known here: its kind and its author, the patient's conditions and traits, what is in
focus at the time, values that drift, and sentences carried forward.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from cardioembed_study.notes.generator import phrases
from cardioembed_study.notes.generator.phrases import Author, Entry, Phrase, Section

# Chances, ours: set so that common words alone neither find a patient's next note nor miss it; none is measured in MIMIC-III.
COPY, EDIT = 0.35, 0.4  # a sentence is carried forward from the last note of its kind; and then introduced as such
LOYAL = 0.9  # a trait is told as it is, and not as another patient's
TURN = 0.5  # a condition in focus gives way to another before the next note
FOCUS, EVENTS = 8, 2  # conditions in focus at a time, and what else goes on during a stay
PULL, SHIFT = 0.08, 0.7  # how fast a value returns to its level, and how much of each condition's shift counts
CLOSING = 0.7  # a note has its closing line
NAMED = (4, 7)  # conditions called by their name where a note says whom it is about
WHOLE = ("history", "meds", "course", "titles")  # told of all conditions, not of those in focus
SLOT = re.compile(r"\{(\w+)\}")


@dataclass
class Stay:
    """One admission while its notes are written: what is fixed, and what the last note left behind."""

    rng: Random
    traits: dict[str, str]
    facts: dict[str, str]
    home: dict[str, float]  # the level that each value returns to
    entries: list[Entry]
    when: datetime
    focus: list[Entry]
    values: dict[str, float]
    said: dict[tuple[str, int], list[str]]  # the last sentences, by style and section


def patient(rng: Random) -> tuple[dict[str, str], dict[str, float]]:
    """Return what is particular to a patient and stays so: traits, and the usual vital signs and laboratory values.

    >>> traits, levels = patient(Random(17))
    >>> sorted(traits)[:4], 40 < levels["hr"] < 120
    (['allergy', 'arm', 'cough', 'diet'], True)
    """
    words = phrases.bank("words")
    traits = {name: rng.choice(options.splitlines()) for name, options in words["traits"].items()}
    levels = {name: rng.gauss(vital["mean"], vital["spread"]) for name, vital in words["vitals"].items()}
    return traits, levels


def begin(
    rng: Random,
    traits: dict[str, str],
    levels: dict[str, float],
    codes: Sequence[str],
    facts: dict[str, str],
    when: datetime,
) -> Stay:
    """Return an admission of which nothing has been written yet.

    Args:
        rng: the patient's generator.
        traits: from ``patient``.
        levels: from ``patient``.
        codes: of the admission's diagnoses, without dots.
        facts: texts of the slots that are no traits, values or masked items.
        when: it begins.

    Raises:
        ValueError: if a code is none of ICD-9-CM.
    """
    known, home = [phrases.entry(code) for code in codes], dict(levels)
    for signs in known:
        for name, shift in signs.get("levels", {}).items():
            home[name] += SHIFT * shift
    events = phrases.bank("events")
    for name in rng.sample(sorted(events), EVENTS):
        known.append({about: phrases.lines(block) for about, block in events[name].items()})
    focus = rng.sample(known, min(FOCUS, len(known)))
    values = {name: _stepped(rng, name, level) for name, level in home.items()}
    return Stay(rng, traits, facts, home, known, when, focus, values, said={})


def advance(stay: Stay, when: datetime) -> None:
    """Move on to the time of the next note: values drift, and a condition may leave the focus for another."""
    stay.when = when
    for name, value in stay.values.items():
        stay.values[name] = _stepped(stay.rng, name, value + PULL * (stay.home[name] - value))
    if stay.rng.random() < TURN:
        stay.focus[stay.rng.randrange(len(stay.focus))] = stay.rng.choice(stay.entries)


def text(stay: Stay, style: str, author: Author) -> str:
    """Return a note, and leave in ``stay`` the sentences that the next one of its kind may carry forward.

    Args:
        stay: of the patient.
        style: name of the kind of note in ``styles.yaml``.
        author: from ``phrases.author``.
    """
    kind, rng = phrases.styles()[style], stay.rng
    order = list(enumerate(kind.sections))
    if kind.shuffle and rng.random() < 0.5:
        rng.shuffle(order)
    used: set[Phrase] = set()
    blocks = [_line(stay, kind.opening)]
    for place, section in order:
        if rng.random() < section.chance:
            heads = section.heads.split("|")
            head = heads[author.number % len(heads)]
            sentences = author.joiner.join(_sentences(stay, (style, place), section, author, used))
            if sentences:
                blocks.append(f"{head}{author.separator if head else ''}{sentences}{'.' if kind.prose else ''}")
    if rng.random() < CLOSING:
        blocks.append(_line(stay, kind.closing))
    return phrases.misspelt("\n".join(filter(None, blocks)), rng)


def _sentences(stay: Stay, place: tuple[str, int], section: Section, author: Author, used: set[Phrase]) -> list[str]:
    """Return a section's sentences: carried forward, or new ones; none that its note has already."""
    rng, carried = stay.rng, phrases.bank("words")["carried"].splitlines()
    before = list(stay.said.get(place, ()))
    shown: dict[str, str] = {}
    for _ in range(rng.randint(*section.lines)):
        if before and rng.random() < COPY:
            sentence = before.pop(rng.randrange(len(before)))
            edited = rng.random() < EDIT
            shown.setdefault(sentence, f"{rng.choice(carried)} {sentence}" if edited else sentence)
        elif phrase := _phrase(stay, section, used):
            sentence = phrases.shortened(_filled(stay, phrase), author.words)
            shown.setdefault(sentence, sentence)
    stay.said[place] = list(shown)
    return [sentence[0].upper() + sentence[1:] if author.capitals else sentence for sentence in shown.values()]


def _phrase(stay: Stay, section: Section, used: set[Phrase]) -> Phrase:
    """Return a phrase about the patient's conditions, or about anybody; an empty one if chance finds none that is new."""
    rng, about = stay.rng, section.about
    told_of = stay.entries if about in WHOLE else stay.focus
    known = [phrase for signs in told_of for phrase in signs.get(about, ())]
    for _ in range(6):
        own = known and rng.random() < section.own
        phrase = rng.choice(known if own else phrases.lines(phrases.bank("common")[about]))
        if phrase not in used:
            used.add(phrase)
            return phrase
    return ()


def _line(stay: Stay, block: str) -> str:
    return _filled(stay, stay.rng.choice(phrases.lines(block))) if block else ""


def _filled(stay: Stay, phrase: Phrase) -> str:
    """Return a phrase with its choices made and its slots filled."""
    return _slots_filled(stay, "".join(part[0] if len(part) == 1 else stay.rng.choice(part) for part in phrase))


def _slots_filled(stay: Stay, line: str) -> str:
    return SLOT.sub(lambda slot: _slot(stay, slot[1]), line)


def _slot(stay: Stay, name: str) -> str:
    """Return what stands for a slot now."""
    rng, words = stay.rng, phrases.bank("words")
    if name in stay.values:
        return f"{stay.values[name]:.{words['vitals'][name]['digits']}f}"
    if name in stay.traits:
        return stay.traits[name] if rng.random() < LOYAL else rng.choice(words["traits"][name].splitlines())
    if name in words["marks"]:
        return f"[**{_slots_filled(stay, rng.choice(words['marks'][name].splitlines()))}**]"
    if name == "known":
        named = [signs["names"] for signs in stay.entries if "names" in signs]
        named = named or [phrases.lines(stay.facts["complaint"])]
        some = rng.sample(named, min(rng.randint(*NAMED), len(named)))
        return ", ".join(dict.fromkeys(_filled(stay, rng.choice(names)) for names in some))
    if name in ("when", "before", "later"):
        days = {"when": 0, "before": -rng.randint(1, 400), "later": rng.randint(7, 30)}[name]
        day = stay.when + timedelta(days=days)
        return f"{day.month}-{day.day}" if rng.random() < 0.7 else f"{day.year}-{day.month}-{day.day}"
    if name in ("few", "tens", "number"):
        return str({"few": rng.randint(2, 9), "tens": 5 * rng.randint(3, 16), "number": rng.randint(10, 9999)}[name])
    return f"{rng.randrange(24)}:{rng.randrange(60):02d}" if name == "clock" else stay.facts[name]


def _stepped(rng: Random, name: str, value: float) -> float:
    """Return a value one random step on, within its limits."""
    vital = phrases.bank("words")["vitals"][name]
    return min(max(value + rng.gauss(0, vital["step"]), vital["low"]), vital["high"])
