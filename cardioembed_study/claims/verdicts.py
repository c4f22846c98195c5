"""What can be said of each published number?

A claim is one published number; ``data_manifests/claims/*.yaml`` hold them all (``ledger``). What several of them say
together is ``checks``', what our own records say of the property that a number asserts is ``evidence``'s.
``python -m cardioembed_study.claims.verdicts [FOLDER OF RECORDS]`` counts the verdicts.
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
from cardioembed_study.claims import checks, evidence, ledger
from cardioembed_study.claims.checks import Check
from cardioembed_study.claims.evidence import Finding, Results
from cardioembed_study.claims.ledger import Claim

OFFICIAL = "official."  # how ids of official measurements begin
REPRODUCED, NOT_REPRODUCED = "reproduced on substitute", "not reproduced on substitute"
OWN, OFFICIALLY = "contradicted by its own sources", "contradicted by an official measurement"
ARITHMETIC, UNCHECKED = "arithmetic does not hold", "cannot be checked here"
VERDICTS = {
    REPRODUCED: "The number itself cannot be measured here; the property that it asserts holds on open texts and models.",
    NOT_REPRODUCED: "The number itself cannot be measured here; the property that it asserts does not hold on ours.",
    OWN: "Another place of the same authors gives another value for the same thing.",
    OFFICIALLY: "An official result for the same model and task, or the released model, gives another value, be it by a prompt.",
    ARITHMETIC: "The number does not follow from the numbers that it is said to follow from.",
    UNCHECKED: "What would be needed is not open, or not stated; the reason stands beside it.",
}
PRECEDENCE = (ARITHMETIC, OFFICIALLY, OWN, NOT_REPRODUCED, REPRODUCED, UNCHECKED)
HEADLINES = (
    "cardioembed.table1.CardioEmbed.acc_at_1",
    "cardioembed.gain_over_base_text",
    "cardioembed.table2.CardioEmbed.SciFact.ndcg_at_10",
    "cardioembed.card_adapter",
    "comparative.table1.BioLinkBERT.separation",
    "comparative.median_lora",
    "medembed.json.bge-base-en-v1.5.TRECCOVID.ndcg_at_10",
    "medembed.csv_base_v0.medical-bge-base-v0-mix1.avg.ndcg_at_10",
    "mimic.loss.chapter_weight",
    "mimic.recall.hierarchical.top5_recall",
)


@dataclass(frozen=True)
class Verdict:
    """What can be said of a claim: ``ours`` is our number with n and interval, or nothing; ``link`` a page of the book."""

    claim: str
    verdict: str
    ours: str
    why: str
    link: str


def judge(claims: Mapping[str, Claim], results: Results) -> list[Verdict]:
    """Return a verdict for each claim, in the ledger's order.

    Where several apply, the first of ``PRECEDENCE`` is given, and ``why`` names them all.

    Args:
        claims: from ``ledger.load``.
        results: measurement to model to record; what is missing makes a claim one that cannot be checked here.
    """
    about: dict[str, list[Check]] = {key: [] for key in claims}
    for check in checks.compute(claims):
        for key in check.claims:
            about[key].append(check)
    findings: dict[str, Finding] = {"": None}
    for name in {claim.tests for claim in claims.values()} - {""}:
        tested = evidence.PROPERTIES[name]
        official = [claims[tested.official].value] if tested.official else []
        findings[name] = tested.test(results, *official)
    return [_verdict(claims, claim, about[key], findings[claim.tests]) for key, claim in claims.items()]


def load(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the records of a folder by measurement and model; none if there is no such folder."""
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.*.json")):
        measurement, _, model = path.name.removesuffix(".json").partition(".")
        results.setdefault(measurement, {})[model] = records.read(path)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how many claims of each source have which verdict."""
    parser = argparse.ArgumentParser(prog="python -m cardioembed_study.claims.verdicts", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=paths.BOOK / "results" / "open", help="of records")
    claims = ledger.load()
    judged = judge(claims, load(parser.parse_args(arguments).folder))
    counts = Counter((f"{v.claim.split('.')[0]}.{claims[v.claim].source}", v.verdict) for v in judged)
    for source in dict.fromkeys(source for source, _ in counts):
        sys.stdout.write(f"{source}: {sum(n for (s, _), n in counts.items() if s == source)}\n")
        sys.stdout.writelines(f"  {counts[source, name]:4d} {name}\n" for name in VERDICTS if counts[source, name])
    total = Counter(v.verdict for v in judged)
    sys.stdout.write(f"all: {len(judged)}\n")
    sys.stdout.writelines(f"  {total[name]:4d} {name}\n" for name in VERDICTS)
    return 0


def _verdict(claims: Mapping[str, Claim], claim: Claim, about: Sequence[Check], finding: Finding) -> Verdict:
    """Return a claim's verdict: everything that applies, gathered, then put in order."""
    applies: list[tuple[str, str, str]] = [  # verdict, reason, link
        (ARITHMETIC, f"Stated: {check.stated}. Computed: {check.computed}.", f"claims-arithmetic#{check.name}")
        for check in about
        if not check.holds and check.decides
    ]
    if not claim.id.startswith(OFFICIAL):
        others = [claims[key] for key in claim.conflicts]
        official = [c for c in others if c.id.startswith(OFFICIAL)]
        own = [c for c in others if c not in official]
        applies += [(OFFICIALLY, f"Officially: {_values(official)}.", "")] if official else []
        applies += [(OWN, f"Elsewhere: {_values(own)}.", "")] if own else []
    holds, ours, link = finding or (False, "", "")
    if finding:
        tested = evidence.PROPERTIES[claim.tests]
        said = f"{'Holds' if holds else 'Does not hold'} on {tested.texts} and a small model: {tested.sentence}"
        applies.append((REPRODUCED if holds else NOT_REPRODUCED, said, link))
    applies.sort(key=lambda item: PRECEDENCE.index(item[0]))
    applies = applies or [(UNCHECKED, _reason(claim), "")]
    informing = [check for check in about if not check.decides]
    reasons = [*dict.fromkeys(reason for _, reason, _ in applies)]
    reasons += [f"Compare: {check.stated}; {check.computed}." for check in informing]
    links = [*(link for *_, link in applies), *(f"claims-arithmetic#{check.name}" for check in informing)]
    return Verdict(claim.id, applies[0][0], ours, " ".join(reasons), next(filter(None, links), ""))


def _reason(claim: Claim) -> str:
    """Return why a claim cannot be checked, and what record would allow it."""
    why = claim.why or "no other source gives this number, and neither texts nor model are open"
    awaits = " The property that it asserts awaits a record: "
    missing = awaits + evidence.PROPERTIES[claim.tests].sentence if claim.tests else ""
    return f"{why[0].upper()}{why[1:]}.{missing}"


def _values(claims: Sequence[Claim]) -> str:
    return "; ".join(f"{c.value:,.10g} {c.unit.replace('percent', '%', 1)} ({c.source}, {c.place})" for c in claims)


if __name__ == "__main__":
    raise SystemExit(main())
