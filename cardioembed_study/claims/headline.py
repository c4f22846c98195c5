"""What does the first page say of the papers' main claims? Six rows in words, each of published numbers and of records."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cardioembed_study.claims import checks, evidence
from cardioembed_study.claims.checks import Values
from cardioembed_study.claims.evidence import Results
from cardioembed_study.claims.ledger import Claim
from cardioembed_study.claims.properties import HOLDS, NOT_RUN, OPEN, REFUTED
from cardioembed_study.claims.verdicts import Judged, Outcome

Outcomes = Mapping[str, Outcome]
BENCHMARKS = ("SciFact", "NFCorpus")
SHORT = {HOLDS: "yes", REFUTED: "no", OPEN: "inconclusive", NOT_RUN: NOT_RUN}  # answers to a question


@dataclass(frozen=True)
class Row:
    """One claim of the first page: its id in the ledger, what it says, what was published, ours, and a page or a check."""

    claim: str
    words: str
    published: str
    ours: str
    plain: str
    link: str


def rows(claims: Mapping[str, Claim], judged: Judged) -> list[Row]:
    """Return the rows of the first page, "not run" where a record is missing; none where no property was judged."""
    values = {key: claim.value for key, claim in claims.items()}
    outcomes = {one.property.id: one for one in judged.outcomes}
    wanted = (accuracy, specialty, benchmarks, separation, notes, prompts) if outcomes else ()
    return [row(values, judged.results, outcomes) for row in wanted]


def accuracy(v: Values, results: Results, outcomes: Outcomes) -> Row:
    """Return the row of the gain in the domain."""
    name, found = "cardioembed.table1.{}.acc_at_1", (_record(results, "comparison") or {}).get(evidence.HEADLINE, {})
    published = (
        f"{v[name.format('Qwen3-8B-Base')]:.2f} → {v[name.format('CardioEmbed')]:.2f} % (paraphrases, "
        f"{v['cardioembed.base_parameters']:g} B parameters, n = {v['cardioembed.test_triplets']:,.0f})"
    )
    ours, plain, acc = NOT_RUN, NOT_RUN, found.get("acc_at_1")
    if acc:
        size, documents = _parameters(results), evidence.documents(results)
        n = results["comparison"][evidence.recipe(results)]["counts"][evidence.HEADLINE]
        parts = ["definitions", *([f"{size / 1e6:.0f} M parameters"] if size else []), f"n = {n}"]
        parts += [f"{documents} documents"] if documents else []
        bm25 = (evidence.metrics(results, "retrieval", "bm25") or {}).get(evidence.HEADLINE)
        ours = f"{100 * acc['base']:.1f} → {100 * acc['tuned']:.1f} % ({', '.join(parts)})"
        ours += f"; BM25, words alone, {100 * bm25['acc_at_1']:.1f} %" if bm25 else ""
        ours += evidence.named(results)
        plain = f"{_direction(acc['low'], acc['high'])}, another task"
    return Row(name.format("CardioEmbed"), "Acc@1 on held-out pairs", published, ours, plain, evidence.RETRIEVAL)


def specialty(v: Values, results: Results, outcomes: Outcomes) -> Row:
    """Return the row that asks what the gain comes from."""
    found = {"specialty": outcomes.get("specialty_helps"), "format": outcomes.get("format_helps")}
    measured = {name: one.measured for name, one in found.items() if one and one.measured}
    ours = "; ".join(f"{name} {m.difference:+.3f} MRR ({m.low:+.3f} to {m.high:+.3f})" for name, m in measured.items())
    plain = "; ".join(f"{name} helps: {one.words if one else NOT_RUN}" for name, one in found.items())
    published = f"{v['cardioembed.gain_over_base']:+.2f} points, which the paper attributes to training on cardiology"
    words, link = "Is it the specialty that helps?", "claims#property-specialty_helps"
    return Row("cardioembed.gain_over_base", words, published, ours or NOT_RUN, plain, link)


def benchmarks(v: Values, results: Results, outcomes: Outcomes) -> Row:
    """Return the row of what is kept elsewhere; no direction is given of fewer runs than the property asks for."""
    readme, paper = "cardioembed.readme_mteb.{}.{}.ndcg_at_10", "cardioembed.table2.CardioEmbed.{}.ndcg_at_10"
    tuned, base = ([v[readme.format(m, t)] for t in BENCHMARKS] for m in ("CardioEmbed", "Qwen3-8B-Base"))
    said = (f"{t} {a:.2f} (base {b:.2f})" for t, a, b in zip(BENCHMARKS, tuned, base, strict=True))
    printed = (f"{v[paper.format(t)]:.4f}" for t in BENCHMARKS)
    official = (f"{v[f'official.qwen3.Qwen3-Embedding-8B.{t}.ndcg_at_10'] / 100:.4f}" for t in BENCHMARKS)
    published = (
        f"{', '.join(said)} in the README; {' and '.join(printed)} in the paper, which calls NFCorpus the expected trade-off. "
        f"Official score of the base, another version of mteb: {' and '.join(official)}"
    )
    ours, kept, found = NOT_RUN, outcomes["benchmarks_kept"], _record(results, "forgetting")
    plain = f"kept here? {kept.words}"
    each = {t: found[t] for t in BENCHMARKS if t in found} if found else {}
    if each:
        n = len(results["forgetting"][evidence.recipe(results)]["params"]["runs"])
        ours = ", ".join(f"{t} {m['base']:.4f} → {m['tuned']:.4f}" for t, m in each.items())
        ours += f" ({n} seed{'s' * (n != 1)}){evidence.named(results)}"
        if n >= kept.property.seeds:
            plain = "; ".join([*(f"{t}: {_change(m['low'], m['high'])}" for t, m in each.items()), plain])
    words = "Benchmarks: kept or traded? nDCG@10"
    return Row(paper.format("SciFact"), words, published, ours, plain, evidence.BENCHMARKS)


def separation(v: Values, results: Results, outcomes: Outcomes) -> Row:
    """Return the row of the separation score and of what it does not see."""
    claim = "comparative.table1.BioLinkBERT.separation"
    base, negated, similar = (
        v[f"comparative.{name}"]
        for name in ("zeroshot.BioLinkBERT.separation_zero_shot", "figure2_negated", "figure2_similar")
    )
    published = (
        f"{base:.3f} → {v[claim]:.3f} (BioLinkBERT); cosine of negated pairs {negated:g}, of similar {similar:g} (read from a "
        "figure)"
    )
    found, ours, too = evidence.similarities(results), NOT_RUN, ""
    if found:
        untuned, runs, n = found
        after = {name: statistics.fmean(m[name] for m in runs) for name in ("separation", "negated", "similar")}
        ours = (
            f"{untuned['separation']:.3f} → {after['separation']:.3f}; cosine of negated pairs {after['negated']:.2f}, "
            f"of similar {after['similar']:.2f} (n = {n}, {len(runs)} seeds; similar: sentence and paraphrase; the study: names "
            f"of related diseases){evidence.named(results)}"
        )
        too = ", by the base too" * (untuned["negated"] > untuned["similar"])
    raised, missed = (SHORT[outcomes[name].outcome] for name in ("separation_gain", "negation_insensitive"))
    plain = f"Raised here? {raised}. Opposites scored closer than paraphrases here? {missed}{too}"
    words = "Tuning raises the separation score (similar pairs closer together than different ones)"
    return Row(claim, words, published, ours, plain, evidence.RETRIEVAL)


def notes(v: Values, results: Results, outcomes: Outcomes) -> Row:
    """Return the row of the next note, on the pairs of training and on other patients."""
    seen, unseen = "mimic.recall.{}.top5_recall", "mimic.readme_heldout.{}.top5_recall"
    each = (f"{v[seen.format(m)]:.2f} → {v[unseen.format(m)]:.2f} % ({m})" for m in checks.LOSSES)
    published = f"{', '.join(each)}, pairs of the training → other patients (a smaller pool)"
    ours, plain, below = NOT_RUN, NOT_RUN, outcomes["held_out_below_training"]
    pools = [evidence.recalls(results, patients, "published") for patients in ("seen", "unseen")]
    if None not in pools:
        on, off = (100 * statistics.fmean(m["recall_at_5"] for m in runs) for _, runs in pools)
        n = len(pools[0][1])
        ours = f"{on:.1f} → {off:.1f} % (InfoNCE, generated notes, {n} seed{'s' * (n > 1)})"
        same = f"{'same' if off < on else 'opposite'} direction, " * (n >= below.property.seeds)
        plain = f"{same}other notes; {below.outcome}"
    return Row(seen.format("hierarchical"), "Top-5 recall of the next note", published, ours, plain, evidence.NOTES)


def prompts(v: Values, results: Results, outcomes: Outcomes) -> Row:
    """Return the row of MedEmbed's gains beside the official scores of its bases."""
    gained = checks.prompted_gains(v)
    above, level, below = map(len, checks.by_size(gained))
    answers = [gain for name, gain in gained.items() if "QA" in name]
    published = f"{len(gained)} gains over bases that were measured without their query instruction"
    ours = (
        f"none run; beside official scores of the bases with it: {above} of {len(gained)} above, {level} the same, {below} "
        f"below; questions and answers {min(answers):+.1f} to {max(answers):+.1f}"
    )
    claim, words = f"{checks.MIXES['base']}.avg.ndcg_at_10", "MedEmbed is above its bases, nDCG@10"
    return Row(claim, words, published, ours, "another protocol", f"claims-arithmetic#{checks.PROMPTS}")


def _record(results: evidence.Results, measurement: str) -> Mapping[str, Any] | None:
    return evidence.metrics(results, measurement, evidence.recipe(results))


def _parameters(results: evidence.Results) -> int | None:
    """Return the parameters of the base, as a run that trained all of them counted."""
    wanted = {"tuning": "full", "base": results["comparison"][evidence.recipe(results)]["params"]["base"]}
    whole = (r for r in results.get("train", {}).values() if {key: r["params"].get(key) for key in wanted} == wanted)
    return next((record["counts"]["trained_parameters"] for record in whole), None)


def _direction(low: float, high: float) -> str:
    return "same direction" if low > 0 else "opposite direction" if high < 0 else "no gain that can be told from chance"


def _change(low: float, high: float) -> str:
    return "rises" if low > 0 else "falls" if high < 0 else "no change that can be told from chance"
