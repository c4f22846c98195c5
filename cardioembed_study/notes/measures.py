"""What do an encoder's vectors of clinical notes say: which note is next, which diagnoses, which kind of note?

Every measure as published and corrected, on the same notes; and what each step of the published method is worth, switched on
and off (``effects``). Shapes: N notes, Q pairs, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from cardioembed_lib import models, statistics
from cardioembed_study import embeddings, paths, privacy, records, remote
from cardioembed_study.lexical import bm25_scores
from cardioembed_study.notes import auroc, icd9, recall, silhouette
from cardioembed_study.notes import study as note_study
from cardioembed_study.notes.recall import GROUPS, KS
from cardioembed_study.notes.study import Study
from cardioembed_study.retrieval import maps
from cardioembed_study.settings import Mimic

LABELS = ("chapter", "category")  # in this order: the published difference is category less chapter


@dataclass(frozen=True)
class Question:
    """The pairs of one group of patients: rows of the study's notes, columns of the pool."""

    asked: NDArray[np.int64]  # (Q,) rows of the anchors
    pool: NDArray[np.int64]  # (N,) rows of the different positives
    gold: NDArray[np.int64]  # (Q,) columns of the right answers
    own: NDArray[np.int64]  # (Q,) columns of the queries themselves, or -1
    patients: NDArray  # (Q,)
    pool_patients: NDArray  # (N,)


@dataclass(frozen=True)
class Found:
    """What was measured of one encoder: numbers for its record, and what comparisons of encoders need query by query."""

    metrics: dict[str, Any]
    counts: dict[str, Any]
    ranks: dict[str, dict[str, NDArray[np.int64]]]  # group, form: (Q,)
    drawn: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # macro-AUROC in each draw of patients


def questions(study: Study) -> dict[str, Question]:
    """Return what is asked of each group of patients that has pairs."""
    place = {f"note{note}": row for row, note in enumerate(study.notes["note_id"])}
    owner = study.notes["subject_id"].to_numpy()
    found = {}
    for group, split in GROUPS.items():
        pairs = study.pairs.filter(split=split)
        if len(pairs):
            asked, right = (np.array([place[x] for x in pairs[side]]) for side in ("anchor_id", "positive_id"))
            pool, gold, own = recall.pool(asked, right)
            found[group] = Question(asked, pool, gold, own, owner[asked], owner[pool])
    return found


def vectors(study: Study, name: str, p: Mimic) -> NDArray[np.float32]:
    """Return the unit vectors that an encoder gives all notes, (N, D), in their order; kept below ``restricted``.

    No prompts, as published. Restricted notes are never sent to a service (``remote.cached``).

    Args:
        study: the notes.
        name: one of ``p.encoders``.
        p: parameters of ``05_mimic``.

    Raises:
        FileNotFoundError: the run was not trained.
        ValueError: the notes may not be sent, or the model does not fit.
    """
    folder, texts = paths.restricted(p.profile) / "embeddings", study.notes["text"].to_list()
    if p.service and name == p.service_model:
        asked = remote.Remote(name, p.service, p.service_key or None)
        return remote.cached(folder, asked, texts, access=study.source.access, progress=True)
    run = name if name in (p.textbook, *p.runs) else None
    adapter = paths.need(paths.run(p.profile, run) / "adapter", "02_train") if run else None
    base = models.spec(p.base if run else name, paths.MODELS)
    encoder = models.load(base, adapter=adapter, max_length=p.max_length)
    return embeddings.cached(folder, encoder, texts, progress=True)


def measure(study: Study, vectors: ArrayLike, p: Mimic) -> Found:
    """Return note recall of seen and unseen patients, macro-AUROC in both splits, and silhouettes.

    Args:
        study: the notes.
        vectors: (N, D), of all notes in their order.
        p: parameters of ``05_mimic``.
    """
    x = np.asarray(vectors)
    found, counts, ranks = _recall(study, lambda q: recall.cosines(x[q.asked], x[q.pool]), p)
    owner, codes = study.notes["subject_id"].to_numpy(), study.notes["codes"].to_list()
    unseen = set(study.notes.filter(split=GROUPS["unseen"])["subject_id"].to_list())
    drawn = {}
    found["auroc"] = {}
    for split, of in (("rows", None), ("patients", unseen)):
        scored = auroc.auroc(x, codes, owner, split, p.seed, p.codes, unseen=of, draws=p.draws)
        drawn[split] = scored.pop("drawn")
        scored["per_code"] = {
            icd9.dotted(code): one for code, one in scored["per_code"].items()
        }  # as people write codes
        if "unseen" in scored:
            drawn["unseen"] = scored["unseen"].pop("drawn")
        found["auroc"][split] = scored
    labels = dict(zip(LABELS, (note_study.chapters(study.notes), study.notes["category"].to_list()), strict=True))
    found["silhouette"] = silhouette.silhouettes(x, labels, owner, p.seed, p.sampled)
    return Found(found, counts, ranks, drawn)


def lexical(study: Study, p: Mimic) -> Found:
    """Return note recall by words alone: BM25, the floor."""
    texts = study.notes["text"].to_list()

    def scores(q: Question) -> recall.Scores:
        candidates = [texts[row] for row in q.pool]
        return lambda rows: bm25_scores([texts[q.asked[row]] for row in rows], candidates)

    found, counts, ranks = _recall(study, scores, p, block=4096)  # each block indexes the pool again
    return Found(found, counts, ranks)


def write(p: Mimic, study: Study | None, found: Mapping[str, Found]) -> dict[str, dict[str, Any]]:
    """Write a record ``mimic.<model>`` each and return them; one that says why, where there is no study.

    Numbers of notes and patients under 10 are "<10".
    """
    if study is None:
        return {p.base: _not_run(p, "mimic", p.base)}
    return {model: _record(p, study, "mimic", model, _shown(one.metrics), one.counts) for model, one in found.items()}


def write_effects(p: Mimic, study: Study | None, found: Mapping[str, Found]) -> dict[str, Any]:
    """Write the record ``effects.all`` and return it (``effects``)."""
    if study is None:
        return _not_run(p, "effects", "all")
    losses = records.runs_by("loss", p.profile, p.runs)
    counts = {"patients": study.notes["subject_id"].n_unique(), "notes": len(study.notes), "runs": losses}
    return _record(p, study, "effects", "all", effects(found, study, p, losses), counts)


def effects(found: Mapping[str, Found], study: Study, p: Mimic, recipes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what three steps of the published method are worth, each switched on and off on the same notes.

    ``query_in_pool``: recall with the query taken out of its pool, less recall with it in, paired by query. ``row_split``:
    macro-AUROC in the split by rows less that in the split by patients. ``one_hot_targets``: the soft targets at work
    (``soft_chapter``) less the same training with targets that missed every label, which is ``infonce``. Beside them, no
    switch but another loss, ``other_loss``: ``himulcon`` less ``infonce``. Intervals are of patients, all differences of one row
    share their draws; what another training seed would give is not in them.

    Args:
        found: what was measured, by model.
        study: the notes.
        p: parameters of ``05_mimic``.
        recipes: runs of each loss.
    """
    asked = questions(study)
    pool = {
        model: {
            group: {
                f"at_{k}": _difference(
                    one.ranks[group]["corrected"] <= k, one.ranks[group]["published"] <= k, q.patients, p.seed
                )
                for k in KS
            }
            for group, q in asked.items()
        }
        for model, one in found.items()
    }
    rows = {
        model: {"rows": a["rows"]["macro"], "patients": a["patients"]["macro"]}
        | _between(a["rows"]["macro"], a["patients"]["macro"], one.drawn["rows"], one.drawn["patients"])
        for model, one in found.items()
        if (a := one.metrics.get("auroc"))
    }
    compared = _targets(found, asked, p, recipes)
    return {
        "query_in_pool": pool,
        "row_split": rows,
        "one_hot_targets": {loss: row for loss, row in compared.items() if loss == "soft_chapter"},
        "other_loss": {loss: row for loss, row in compared.items() if loss != "soft_chapter"},
    }


def drawn(study: Study | None, points: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the maps that may be shown: all, or none where the notes are restricted, whose positions are made of them."""
    schema = {"model": pl.String, "x": pl.Float64, "y": pl.Float64, "chapter": pl.String, "category": pl.String}
    shown = study is not None and study.source.access in remote.SENDABLE
    return pl.concat([pl.DataFrame(schema=schema), *(points if shown else [])])


def _targets(found, asked: Mapping[str, Question], p: Mimic, recipes: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return ``soft_chapter`` and ``himulcon`` less ``infonce``: means over the runs of each, intervals over patients."""
    control = recipes.get("infonce", [])
    compared = {}
    for loss in [name for name in recipes if name != "infonce"] if control else []:
        runs, row = recipes[loss], {}
        for group, q in asked.items():
            for form in ("corrected", "other_patients"):
                hits = [np.mean([found[r].ranks[group][form] <= 10 for r in of], axis=0) for of in (runs, control)]
                row[f"{form}_at_10_{group}"] = _difference(*hits, q.patients, p.seed)
        means = [
            np.mean([found[r].metrics["auroc"]["patients"]["unseen"]["macro"] for r in of]) for of in (runs, control)
        ]
        draws = [np.mean([found[r].drawn["unseen"] for r in of], axis=0) for of in (runs, control)]
        row["auroc_unseen"] = {"on": means[0], "off": means[1]} | _between(*means, *draws)
        compared[loss] = row
    return compared


def _recall(
    study: Study, scores: Callable[[Question], recall.Scores], p: Mimic, block: int = 512
) -> tuple[dict, dict, dict]:
    found, counts, ranks = {}, {}, {}
    for group, q in questions(study).items():
        one = recall.note_recall(scores(q), q.gold, q.own, q.patients, q.pool_patients, p.seed, KS, block)
        ranks[group] = one.pop("ranks")
        counts[group] = {name: one.pop(name) for name in ("queries", "candidates", "patients")}
        found[group] = one
    return {"recall": found}, counts, ranks


def _difference(on: NDArray, off: NDArray, patients: NDArray, seed: int) -> dict[str, float]:
    change = np.asarray(on, dtype=float) - np.asarray(off, dtype=float)
    low, high = statistics.bootstrap(change, seed, groups=patients)
    return {
        "on": float(np.mean(on)),
        "off": float(np.mean(off)),
        "difference": float(change.mean()),
        "low": low,
        "high": high,
    }


def _between(first: float, second: float, drawn: NDArray, other: NDArray) -> dict[str, float]:
    low, high = np.nanquantile(drawn - other, [0.025, 0.975])
    return {"difference": float(first - second), "low": float(low), "high": float(high)}


def points(study: Study, vectors: ArrayLike, model: str, p: Mimic) -> pl.DataFrame:
    """Return a map of sampled notes: UMAP's positions, chapter of the first code, category; no text and no id."""
    rows = np.sort(np.random.default_rng(p.seed).permutation(len(study.notes))[: p.sampled])
    place = maps.umap_points(np.asarray(vectors)[rows], p.seed)
    drawn = study.notes[rows]
    return pl.DataFrame(
        {
            "model": [model] * len(rows),
            "x": place[:, 0],
            "y": place[:, 1],
            "chapter": note_study.chapters(drawn),
            "category": drawn["category"].to_list(),
        }
    )


def _record(p: Mimic, study: Study, measurement: str, model: str, measured: Mapping, counts: Mapping) -> dict[str, Any]:
    params = p.model_dump() | {"source": study.source.name, "generated_notes": note_study.generated(study.source)}
    return records.write(
        records.path(p.profile, measurement, model),
        metrics=measured,
        counts=counts,
        inputs=[records.path(p.profile, "notes", "all")],
        params=params | {"order": ["bm25", *p.encoders]},
    )


def _not_run(p: Mimic, measurement: str, model: str) -> dict[str, Any]:
    where = records.path(p.profile, measurement, model)
    return records.write(
        where, metrics={}, counts={}, inputs=[], params=p.model_dump(), status="not run", reason=note_study.NONE
    )


def _shown(value: Any, key: str = "") -> Any:
    """Return measures with every number of notes or patients under 10 as "<10"."""
    if isinstance(value, Mapping):
        return {name: _shown(inner, name) for name, inner in value.items()}
    return privacy.shown(value) if key in ("notes", "patients", "n", "scored", "dropped") else value
