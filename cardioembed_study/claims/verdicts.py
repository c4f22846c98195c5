"""What can be said of each published number? The ledger of claims, and their verdicts.

A claim is one published number; ``data_manifests/claims/*.yaml`` hold them all (``ledger``). What several of them say
together is ``arithmetic``'s, what our own records say of the property that a number asserts is ``substitutes``'.
``python -m cardioembed_study.claims.verdicts [FOLDER OF RECORDS]`` counts the verdicts.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cardioembed_lib import files
from cardioembed_study import paths, records
from cardioembed_study.claims import arithmetic_paper, arithmetic_peers, arithmetic_study, evidence, note_evidence
from cardioembed_study.claims import ledger as claims_ledger
from cardioembed_study.claims.arithmetic import Check
from cardioembed_study.claims.evidence import Finding, Results
from cardioembed_study.claims.ledger import Claim

FOLDER = paths.MANIFESTS / "claims"
OFFICIAL = "official"  # the file of official measurements
CHECKS = (*arithmetic_paper.CHECKS, *arithmetic_study.CHECKS, *arithmetic_peers.CHECKS)
NEAR = 0.5  # points between a model's official score and ours that we call the same
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


def ledger(folder: Path = FOLDER) -> dict[str, Claim]:
    """Return every claim by its id, in the order of the files; see ``ledger.load`` for what is refused."""
    return claims_ledger.load(folder, SUBSTITUTES)


def sources(folder: Path = FOLDER) -> dict[str, dict[str, str]]:
    """Return title and bibliography key of every source, by ``<file>.<source>``."""
    return claims_ledger.sources(folder)


def checks(ledger: Mapping[str, Claim]) -> list[Check]:
    """Return every check of the published numbers, in the order of the publications.

    Raises:
        KeyError: a check needs a claim that the ledger lacks, both named.
    """
    values, done = {key: claim.value for key, claim in ledger.items()}, []
    for check in CHECKS:
        try:
            done.append(check(values))
        except KeyError as error:
            missing = str(error.args[0])
            near = files.near_miss(missing, values)
            raise KeyError(
                f"check {check.__name__} needs the claim {missing!r}, which is not in the ledger; {near}"
            ) from None
    return done


def verdicts(ledger: Mapping[str, Claim], results: Results) -> list[Verdict]:
    """Return a verdict for each claim, in the ledger's order.

    Where several apply, the first of ``PRECEDENCE`` is given, and ``why`` names them all.

    Args:
        ledger: from ``ledger``.
        results: measurement to model to record; what is missing makes a claim one that cannot be checked here.
    """
    by_claim: dict[str, list[Check]] = {key: [] for key in ledger}
    for check in checks(ledger):
        for key in check.claims:
            by_claim[key].append(check)
    findings = {name: SUBSTITUTES[name](results) for name in dict.fromkeys(c.tests for c in ledger.values()) if name}
    return [_verdict(ledger, claim, by_claim[key], findings) for key, claim in ledger.items()]


def load(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the records of a folder by measurement and model; none if there is no such folder."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.*.json")):
        measurement, _, model = path.name.removesuffix(".json").partition(".")
        found.setdefault(measurement, {})[model] = records.read(path)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how many claims of each source have which verdict."""
    parser = argparse.ArgumentParser(prog="python -m cardioembed_study.claims.verdicts", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=paths.BOOK / "results" / "open", help="of records")
    known = ledger()
    found = verdicts(known, load(parser.parse_args(arguments).folder))
    counts = Counter((f"{v.claim.split('.')[0]}.{known[v.claim].source}", v.verdict) for v in found)
    for source in dict.fromkeys(source for source, _ in counts):
        sys.stdout.write(f"{source}: {sum(n for (s, _), n in counts.items() if s == source)}\n")
        sys.stdout.writelines(f"  {counts[source, name]:4d} {name}\n" for name in VERDICTS if counts[source, name])
    total = Counter(v.verdict for v in found)
    sys.stdout.write(f"all: {len(found)}\n")
    sys.stdout.writelines(f"  {total[name]:4d} {name}\n" for name in VERDICTS)
    return 0


def _verdict(
    ledger: Mapping[str, Claim], claim: Claim, asked: Sequence[Check], findings: Mapping[str, Finding]
) -> Verdict:
    """Return a claim's verdict: everything that applies, gathered, then put in order."""
    applies: list[tuple[str, str, str]] = []  # verdict, reason, link
    for check in asked:
        link = f"claims-arithmetic#{check.name}"
        if not check.holds and check.decides:
            applies.append((ARITHMETIC, f"Stated: {check.stated}. Computed: {check.computed}.", link))
    others = [ledger[key] for key in claim.conflicts]
    official = [c for c in others if c.id.startswith(f"{OFFICIAL}.")]
    if claim.id.startswith(f"{OFFICIAL}."):
        official, others = [], []
    own = [c for c in others if c not in official]
    if official:
        applies.append((OFFICIALLY, f"Officially: {_values(official)}.", ""))
    if own:
        applies.append((OWN, f"Elsewhere: {_values(own)}.", ""))
    ours = ""
    finding = findings.get(claim.tests)
    if finding:
        holds, ours, link = finding
        texts = "generated notes" if claim.tests in note_evidence.PROPERTIES else "open texts"
        said = f"{'Holds' if holds else 'Does not hold'} on {texts} and a small model: {_property(claim.tests)}"
        applies.append((REPRODUCED if holds else NOT_REPRODUCED, said, link))
    if not applies:
        applies.append((UNCHECKED, _reason(claim), ""))
    applies.sort(key=lambda item: PRECEDENCE.index(item[0]))
    informing = [f"Compare: {c.stated}; {c.computed}." for c in asked if not c.decides]
    why = " ".join([*dict.fromkeys(reason for _, reason, _ in applies), *informing])
    link = next((link for _, _, link in applies if link), "")
    if not link and informing:
        link = next(f"claims-arithmetic#{c.name}" for c in asked if not c.decides)
    return Verdict(claim.id, applies[0][0], ours, why, link)


def _reason(claim: Claim) -> str:
    """Return why a claim cannot be checked, and what record would allow it."""
    why = claim.why or "no other source gives this number, and neither texts nor model are open"
    missing = f" The property that it asserts awaits a record: {_property(claim.tests)}" if claim.tests else ""
    return f"{why[0].upper()}{why[1:]}.{missing}"


def _property(name: str) -> str:
    function = SUBSTITUTES[name]
    return (getattr(function, "func", function).__doc__ or "").partition("\n")[0]


def _values(claims: Sequence[Claim]) -> str:
    return "; ".join(f"{c.value:,.10g} {c.unit.replace('percent', '%', 1)} ({c.source}, {c.place})" for c in claims)


def _as_official(results: Results, task: str, claim: str) -> Finding:
    """Our measurement of the packaged model agrees with its official score."""
    found = (evidence.metrics(results, "mteb", "all-MiniLM-L6-v2") or {}).get(task)
    if not found:
        return None
    official, ours = ledger()[claim].value, 100 * found["main_score"]
    interval = f" (95 % {100 * found['low']:.2f} to {100 * found['high']:.2f})" if "low" in found else ""
    said = f"{ours:.2f}{interval}, {ours - official:+.2f} points from the official score"
    return abs(ours - official) <= NEAR, said, evidence.BENCHMARKS


SUBSTITUTES: dict[str, Callable[[Results], Finding]] = (
    evidence.PROPERTIES
    | note_evidence.PROPERTIES
    | {
        f"official_{task.lower()}": partial(
            _as_official, task=task, claim=f"official.minilm.all-MiniLM-L6-v2.{task}.{metric}"
        )
        for task, metric in (("BIOSSES", "spearman"), ("SciFact", "ndcg_at_10"), ("NFCorpus", "ndcg_at_10"))
    }
)


if __name__ == "__main__":
    raise SystemExit(main())
