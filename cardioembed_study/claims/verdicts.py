"""What can be said of each published number, and what of each property that several of them assert?

A claim is one published number (``ledger``). It has one class: what published numbers say together (``checks``), what other
places of the same authors say, what we measured of the very same model and task, or why it was not checked. A property is one
sentence with its rule (``properties``); its outcome is shown once and given to no claim.
``python -m cardioembed_study.claims.verdicts [FOLDER OF RECORDS]`` counts classes and outcomes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cardioembed_study import paths, records
from cardioembed_study.claims import checks, evidence, ledger, properties
from cardioembed_study.claims.checks import NEAR, Check
from cardioembed_study.claims.evidence import Measured, Results
from cardioembed_study.claims.ledger import SETTING, Claim
from cardioembed_study.claims.properties import DEFINITION, REFUTED, Property

ARITHMETIC, OWN, FOLLOWS = "arithmetic does not hold", "its sources differ", "follows from published numbers"
AGREES, DIFFERS, PROTOCOL = "agrees with our measurement", "differs from our measurement", "another protocol"
UNTESTED, UNCHECKED = "not tested", ("closed data", "model out of reach", "never published")
CLASSES = {  # in the order in which a claim gets the first that applies; the last ones are the files'
    ARITHMETIC: "The number does not follow from the published numbers that it is said to follow from.",
    OWN: "Another place of the same authors gives another value for the same thing. Which of the two is meant, we do not say.",
    AGREES: f"We measured the same model on the same task and are within {NEAR:g} points.",
    DIFFERS: f"We measured the same model on the same task and are more than {NEAR:g} points away.",
    PROTOCOL: "An official result for the same model and task has another protocol: a query instruction, another version. "
    "The two stand side by side; neither refutes the other.",
    FOLLOWS: "The number follows from other published numbers, as stated; what they rest on could not be checked.",
    SETTING: "A setting, a size, a count of a corpus, a log, a time or a fact of background. It asserts nothing to test.",
    UNTESTED: "Data and model are open. We did not run this recipe, base or task.",
    UNCHECKED[0]: "Not checked here: it needs books under copyright, or MIMIC-III, which is for credentialed users.",
    UNCHECKED[1]: "Not checked here: it needs a model of 8 billion parameters, or one behind a service.",
    UNCHECKED[2]: "Not checked here: the evaluation pairs, or the code, log or weights behind it, were not released.",
}


@dataclass(frozen=True)
class Verdict:
    """What can be said of a claim: its class; our number, if we measured the same; why; a check or page of the book."""

    claim: str
    kind: str
    ours: str
    why: str
    link: str


@dataclass(frozen=True)
class Outcome:
    """What our records say of a property by its rule."""

    property: Property
    outcome: str
    measured: Measured | None

    @property
    def words(self) -> str:
        """Return the outcome, and what it rests on or what is refuted where the outcome alone says more than the rule."""
        rule = self.property.rule
        if rule.holds == DEFINITION:
            return f"{self.outcome}, {DEFINITION}"
        bound = rule.refuted.removeprefix("high < ")
        least = self.outcome == REFUTED and rule.holds == "low > 0" and bound not in (rule.refuted, "0")
        return self.outcome + f": no gain of {bound} or more" * least


@dataclass(frozen=True)
class Judged:
    """The class of every claim, in the ledger's order, the outcome of every property, and the SHA-256 of the rules."""

    claims: tuple[Verdict, ...]
    outcomes: tuple[Outcome, ...]
    rules: str
    results: Results


def judge(claims: Mapping[str, Claim], results: Results) -> Judged:
    """Return the class of each claim and the outcome of each property.

    Args:
        claims: from ``ledger.load``.
        results: measurement to model to record.
    """
    about: dict[str, list[Check]] = {key: [] for key in claims}
    for check in checks.compute(claims):
        for key in check.claims:
            about[key].append(check)
    found = [(one, evidence.TESTS[one.test](results)) for one in properties.load(claims).values()]
    return Judged(
        tuple(_verdict(claims, claim, about[key], results) for key, claim in claims.items()),
        tuple(Outcome(one, one.outcome(measured), measured) for one, measured in found),
        properties.digest(),
        results,
    )


def load(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the records of a folder by measurement and model; none if there is no such folder."""
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.*.json")):
        measurement, _, model = path.name.removesuffix(".json").partition(".")
        results.setdefault(measurement, {})[model] = records.read(path)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the outcome of each property and how many claims have which class."""
    parser = argparse.ArgumentParser(prog="python -m cardioembed_study.claims.verdicts", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=paths.BOOK / "results" / "open", help="of records")
    judged = judge(ledger.load(), load(parser.parse_args(arguments).folder))
    sys.stdout.writelines(f"{one.property.id}: {one.outcome}\n" for one in judged.outcomes)
    counts = Counter(verdict.kind for verdict in judged.claims)
    sys.stdout.write(f"all: {len(judged.claims)}\n")
    sys.stdout.writelines(f"  {counts[name]:4d} {name}\n" for name in CLASSES)
    return 0


def _verdict(claims: Mapping[str, Claim], claim: Claim, about: Sequence[Check], results: Results) -> Verdict:
    """Return a claim's class, the first that applies; ``why`` names everything that does."""
    applies = [
        (ARITHMETIC, f"Stated: {check.stated}. Computed: {check.computed}.", f"claims-arithmetic#{check.name}")
        for check in about
        if not check.holds and check.decides
    ]
    elsewhere = f"Elsewhere: {_values(claims, claim.conflicts)}." if claim.conflicts else ""
    if elsewhere and claim.kind != SETTING:
        applies.append((OWN, elsewhere, ""))
    ours = _measured(claim, results) if claim.measured else None
    if ours is not None:
        said = f"{ours:.2f}, {ours - claim.value:+.2f} points from the official score"
        applies.append((AGREES if abs(ours - claim.value) <= NEAR else DIFFERS, f"Ours: {said}.", evidence.BENCHMARKS))
    if claim.beside:
        applies.append((PROTOCOL, f"By another protocol: {_values(claims, claim.beside)}.", ""))
    agreeing = [check for check in about if check.holds and check.decides]
    if any(claim.id in check.results for check in agreeing):
        applies.append((FOLLOWS, CLASSES[FOLLOWS], ""))
    reasons = [reason for _, reason, _ in applies] or [CLASSES[claim.kind]]
    reasons += [elsewhere] * (elsewhere not in ("", *reasons))
    beside = [("Agrees with published numbers", one) for one in agreeing]
    beside += [("Compare", one) for one in about if not one.decides]
    reasons += [f"{word}: {check.stated}; {check.computed}." for word, check in beside]
    links = [*(link for *_, link in applies), *(f"claims-arithmetic#{check.name}" for _, check in beside)]
    kind = applies[0][0] if applies else claim.kind
    return Verdict(
        claim.id, kind, f"{ours:.2f}" if ours is not None else "", " ".join(reasons), next(filter(None, links), "")
    )


def _measured(claim: Claim, results: Results) -> float | None:
    """Return the claim's model's main score in percent, if a record has the task."""
    found = (evidence.metrics(results, "mteb", claim.model) or {}).get(claim.measured)
    return found and 100 * found["main_score"]


def _values(claims: Mapping[str, Claim], ids: Sequence[str]) -> str:
    found = [claims[key] for key in ids]
    return "; ".join(f"{ledger.published(c.value, c.unit)} ({c.source}, {c.place})" for c in found)


if __name__ == "__main__":
    raise SystemExit(main())
