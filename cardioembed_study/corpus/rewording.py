"""What does a sentence say in other words, with the same quantities, negations, sides and directions?

A rule keeps most words of a sentence. Rules see words, not grammar: some of what they write is clumsy.
"""

from __future__ import annotations

import re
from collections import Counter

from cardioembed_study.corpus import shingles

LEAST_CHANGED = 0.25  # ours: of the different words of sentence and paraphrase, the share that only one of them has
LENGTHS = range(8, 41)  # words; ours: a shorter sentence leaves little to change, a longer one is seldom plain
_ORGANS = " (?:function|disease|failure|injury|damage)"
_TABLE = rf"""
approximately = about; about(?= \d) = approximately; usually = generally; typically = usually; commonly = frequently
often = frequently; primarily = mainly; mainly = chiefly; rapidly = quickly; quickly = rapidly; entire = whole
additional = further; because of = owing to; (?<!is )(?<!are )(?<!was )because = since; due to = because of
although = though; whereas = while; therefore = thus; thus, = therefore,; upon = on; via = by way of
for example, = for instance,; in addition, = moreover,; additionally, = moreover,; in contrast, = by contrast,
as a result, = consequently,; as a result of = owing to; however, = nevertheless,
as well as(?! \w+ing)(?! they)(?! it)(?! you) = and also; along with = together with; in order to = to
during = in the course of; (?<!as )(?<!so )(?<!how )(?<!too )many(?! of) = numerous
(?<!the )(?<!these )several(?! of) = a number of; various = different; health care provider = clinician
health care providers = clinicians; each other = one another; people = persons; (?<!ways )(?<!way )in which = where
(?<!the )(?<!no )(?<!a )(?<!ir )need to = have to; varies = differs
used to(?= (?:treat|prevent|manage|describe|measure|assess|reduce|identify|diagnose|control)) = employed to
(?<!less )(?<!more )specific(?! gravity) = particular; throughout(?! is) = all through; regarding = concerning
depending on = according to; essential = vital; crucial = vital; necessary = needed; beneficial = helpful
harmful = damaging; (?<!male )individuals = people; physician = doctor; physicians = doctors; client = patient
clients = patients; medication = medicine; medications = medicines
(?<!fair )(?<!equal )(?<!same )(?<!water )treatment(?! plant| med| plan) = therapy; side effects(?! on) = adverse effects
adverse effects(?! on) = side effects; heart attack = myocardial infarction; myocardial infarction = heart attack
heart failure = cardiac failure; blood sugar = blood glucose; shortness of breath = dyspnea; platelets = thrombocytes
kidney(?={_ORGANS}) = renal; renal(?={_ORGANS}) = kidney; liver(?={_ORGANS}) = hepatic; hepatic(?={_ORGANS}) = liver
red blood cell = erythrocyte; red blood cells = erythrocytes; white blood cell = leukocyte; white blood cells = leukocytes
neuron = nerve cell; neurons = nerve cells; (?<!constant )(?<!variable )region = area; regions = areas; type of = kind of
types of = kinds of; amount of = quantity of; amounts of = quantities of; variety of = range of; portion of = part of
ability to = capacity to; is able to = can; are able to = can; assessment = evaluation; assess = evaluate; role in = part in
located = situated; results in = leads to; result in = lead to; resulting in = leading to; leads to = results in
lead to = result in; leading to = resulting in; is caused by = results from; are caused by = result from; caused by = due to
associated with = linked to; consists of = is made up of; (?<!may )(?<!can )(?<!to )consist of = are made up of
is composed of = consists of; are composed of = consist of; is made up of = consists of; is found in = occurs in
is called = is known as; are called = are known as; called(?! up| on| for| in| to| by) = termed; is known as = is called
are known as = are called; known as = called; is referred to as = is called; are referred to as = are called
refers to = means; is responsible for = is in charge of; are responsible for = are in charge of; helps to = serves to
is used to = serves to; are used to = serve to; be used to = serve to; used in = employed in; used for = employed for
provides(?! for)(?!.* with ) = gives; provide(?! for)(?!.* with ) = give; requires = needs; require = need; occurs = happens
occur = happen; occurred = happened; begins = starts; begin = start; allows(?: for)? = permits; allow(?: for)? = permit
allowing(?: for)? = permitting; enables = allows; ensure that = make sure that; assist = help; maintains = sustains
maintain = sustain; promotes = fosters; promote = foster; regulates = controls; regulate = control; administered = given
administer = give; contributes to = adds to; contribute to = add to; protects = shields; protect = shield
secretes = releases; secrete = release; secreted = released; absorbed = taken up; recommended = advised; recommend = advise
should(?! not| also| always| they| it | he | she | you| the | a | any | this| there) = ought to; is based on = rests on
are based on = rest on; (?<!be )(?<!been )(?<!was )(?<!were )based on = on the basis of
"""
_ENTRIES = [entry.split(" = ") for line in _TABLE.strip().splitlines() for entry in line.split("; ")]
_SYNONYMS = sorted(  # the wording without its conditions, the longest first; what to look for; what to write
    ((re.sub(r"\(\?.*?\)+\??", "", old), re.compile(rf"(?<![\w-]){old}(?!\w)"), new) for old, new in _ENTRIES),
    key=lambda entry: -len(entry[0]),
)
_MARK = 0xE000  # private characters of Unicode stand for what is replaced, so that no rule changes another's words
_PART = r"[^,;:()?]+"
_LEADS = "If|When|Because|Although|While|Once|After|Before|Until|Unless|During|Within|Throughout|In|At|On|With|Without"
_LEADING = re.compile(rf"({_LEADS}) ({_PART}), (?!then )({_PART})\.")
_TRAILING = re.compile(rf"((?:The|An?|Some|Most|Many|Each|Both) {_PART}?) (because|when|if|although|until) ({_PART})\.")
_NAMED = re.compile(rf"((?:The|Each|An?) {_PART}?) (?:is|are) (?:called|known as|termed) (?:an? )?({_PART})\.")
_SET_PHRASE = re.compile(
    r"so|addition|fact|general|contrast|turn|particular|short|other words|the other hand|first|last|least"
)
_BOUND = re.compile(  # to what stands before it, so that a part of a sentence with it cannot be moved
    r"\b(?:its?|itself|the[yms]e?|their|this|those|such|s?he|his|her|your?|ones?|that|which|who|whose|when|where|whether|how"
    r"|because|if|so|but|although|while|than|as)\b",
    re.I,
)
_VERB = re.compile(r"\b(?:is|are|was|were|can|may|will|must|should|has|have|does|do|cannot)\b")
_TIED = re.compile(r"\b(?:only|even|just|especially|except|or|and|time|period|point|condition|state|day|\w+ing)$")
_UNIT = (
    r"%|(?:percent|mmhg|mmol|[mµkdμ]?[gl]|mcg|[cmk]?m|units?|hours?|days?|weeks?|months?|years?|minutes?)\b(?:/\w+)?"
)
_COUNT = r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|half|twice|double|once|first|second|third)\b"
_QUANTITY = re.compile(rf"\d[\d.,]*(?:\s?(?:{_UNIT}))?|{_COUNT}")


def paraphrase(sentence: str) -> str | None:
    """Return the sentence in other words and, where a rule allows, another order; ``None`` if too little can be changed.

    Args:
        sentence: one sentence of prose, cleaned.

    >>> paraphrase("If the client has kidney disease, the physician should reduce the amount of the medication.")
    'The doctor ought to reduce the quantity of the medicine if the patient has renal disease.'
    """
    tokens = shingles.words(sentence)
    if len(tokens) not in LENGTHS or not re.fullmatch(r"[A-Z][^?!:;\"“”\ue000-\uf8ff]*\.", sentence):
        return None
    made = _reworded(_reordered(sentence))
    changed = 1 - shingles.jaccard(frozenset(tokens), frozenset(shingles.words(made)))
    stammers = re.search(r"\b(\w+),? \1\b", made)
    return made if changed >= LEAST_CHANGED and not stammers and faithful(sentence, made) else None


def faithful(sentence: str, paraphrase: str) -> bool:
    """Whether both have the same quantities with their units, negations, sides and directions, each as often.

    Their order is not compared: two quantities that change places go unseen.

    >>> faithful("Give 5 mg without food.", "Give 5 g without food."), faithful("It rises.", "It never rises.")
    (False, False)
    """
    a, b = (Counter(_QUANTITY.findall(text.lower().rstrip("."))) for text in (sentence, paraphrase))
    return a == b and shingles.same_meaning(shingles.words(sentence), shingles.words(paraphrase))


def _reordered(sentence: str) -> str:
    """Return the sentence with a name or a clause moved, or as it is."""
    if (found := _NAMED.fullmatch(sentence)) and not (_VERB.search(found[1]) or _BOUND.search("".join(found.groups()))):
        return f"The name for {_lower(found[1])} is {found[2]}."
    if found := _LEADING.fullmatch(sentence):
        word, clause, main = found.groups()
        if not (_SET_PHRASE.fullmatch(clause) or _BOUND.search(main)):
            return f"{main[0].upper()}{main[1:]} {word.lower()} {clause}."
    if found := _TRAILING.fullmatch(sentence):
        main, word, clause = found.groups()
        if _VERB.search(main) and not (_BOUND.search(main) or _TIED.search(main) or _BOUND.search(clause)):
            return f"{word.capitalize()} {clause}, {_lower(main)}."
    return sentence


def _reworded(sentence: str) -> str:
    """Return the sentence with every wording of the table replaced, and "a" or "an" as the new word wants it."""
    rest = _lower(sentence)
    for n, (bare, pattern, _) in enumerate(_SYNONYMS):
        rest = pattern.sub(chr(_MARK + n), rest) if bare in rest else rest
    rest = re.sub(r"(\b[Aa]n? )?([\ue000-\uf8ff])", _replaced, rest)
    return rest[0].upper() + rest[1:]


def _replaced(match: re.Match) -> str:
    new = _SYNONYMS[ord(match[2]) - _MARK][2]
    return (f"{match[1][0]}{'n' * (new[0] in 'aeiou')} " if match[1] else "") + new


def _lower(text: str) -> str:
    """Return a sentence without its capital; an abbreviation keeps its own."""
    return text[0].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
