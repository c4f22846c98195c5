"""What do an encoder's vectors of clinical notes say: which note is next, which diagnoses, which kind of note?

Every measure as published and corrected, on the same notes; and what each step of the published method is worth, switched on
and off (``effects``). Shapes: N notes, Q pairs, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from cardioembed_lib import files, models, statistics
from cardioembed_study import clinical, embeddings, paths, records, remote
from cardioembed_study.clinical import Count, people
from cardioembed_study.lexical import bm25_scores
from cardioembed_study.notes import auroc, icd9, recall, silhouette
from cardioembed_study.notes import study as note_study
from cardioembed_study.notes.recall import GROUPS, KS
from cardioembed_study.notes.study import Study
from cardioembed_study.retrieval import maps
from cardioembed_study.settings import Mimic


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
class Measured:
    """What was measured of one encoder: numbers for its record, and what comparisons of encoders need query by query."""

    metrics: dict[str, Any]  # with draws of patients, which are compared and not recorded
    counts: dict[str, Any]
    ranks: dict[str, dict[str, NDArray[np.int64]]]  # group, form: (Q,)


def questions(study: Study) -> dict[str, Question]:
    """Return what is asked of each group of patients that has pairs, and, of restricted notes, enough patients to be shown."""
    place = {f"note{note}": row for row, note in enumerate(study.notes["note_id"])}
    owner = study.notes["subject_id"].to_numpy()
    by_group = {}
    for group, split in GROUPS.items():
        pairs = study.pairs.filter(split=split)
        least = 1 if study.source.access == clinical.OPEN else clinical.FEW
        if pairs["group"].n_unique() >= least:
            asked, right = (np.array([place[x] for x in pairs[side]]) for side in ("anchor_id", "positive_id"))
            pool, gold, own = recall.pool(asked, right)
            by_group[group] = Question(asked, pool, gold, own, owner[asked], owner[pool])
    return by_group


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
        access = study.source.access if clinical.access(p.profile) == clinical.OPEN else "restricted"
        return remote.cached(folder, asked, texts, access=access, progress=True)
    run = name if name in (p.textbook, *p.runs) else None
    adapter = paths.need(paths.run(p.profile, run) / "adapter", "02_train") if run else None
    base = models.spec(p.base if run else name, paths.MODELS)
    encoder = models.load(base, adapter=adapter, max_length=p.max_length)
    return embeddings.cached(folder, encoder, texts, progress=True)


def measure(study: Study, vectors: ArrayLike, p: Mimic) -> Measured:
    """Return note recall of seen and unseen patients, macro-AUROC in both splits, and silhouettes.

    Args:
        study: the notes.
        vectors: (N, D), of all notes in their order.
        p: parameters of ``05_mimic``.
    """
    x, owner = np.asarray(vectors), study.notes["subject_id"].to_numpy()
    codes = [[icd9.dotted(code) for code in own] for own in study.notes["codes"].to_list()]  # as people write them
    unseen = study.notes.filter(split=GROUPS["unseen"])["subject_id"].unique().to_list()
    chapters, categories = note_study.chapters(study.notes), study.notes["category"].to_list()
    measured = _recall(study, lambda q: recall.cosines(x[q.asked], x[q.pool]), p)
    measured.metrics["auroc"] = {
        split: auroc.auroc(x, codes, owner, split, p.seed, p.codes, unseen=unseen, draws=p.draws)
        for split in auroc.SPLITS
    }
    labels = {"chapter": chapters, "category": categories}  # the published difference is category less chapter
    measured.metrics["silhouette"] = silhouette.silhouettes(x, labels, owner, p.seed, p.sampled)
    return measured


def lexical(study: Study, p: Mimic) -> Measured:
    """Return note recall by words alone: BM25, the floor."""
    clinical.refuse_strange(p)  # here, since this is measured first
    texts = study.notes["text"].to_list()

    def scores(q: Question) -> recall.Scores:
        candidates = [texts[row] for row in q.pool]
        return lambda rows: bm25_scores([texts[q.asked[row]] for row in rows], candidates)

    return _recall(study, scores, p, block=4096)  # each block indexes the pool again


def write(p: Mimic, study: Study | None, measured: Mapping[str, Measured]) -> dict[str, dict[str, Any]]:
    """Write a record ``mimic.<model>`` each and return them; one that says why, where there is no study."""
    if study is None:
        return {p.base: note_study.not_run(records.path(p.profile, "mimic", p.base), p.model_dump())}
    return {
        model: _record(p, study, "mimic", model, _without_draws(one.metrics), one.counts)
        for model, one in measured.items()
    }


def _without_draws(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics without the arrays that only comparisons need."""
    return {
        name: _without_draws(value) if isinstance(value, Mapping) else value
        for name, value in metrics.items()
        if not isinstance(value, np.ndarray)
    }


def write_effects(p: Mimic, study: Study | None, measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Write the record ``effects.all`` and return it (``effects``)."""
    if study is None:
        return note_study.not_run(records.path(p.profile, "effects", "all"), p.model_dump())
    recipes = records.runs_by("loss", p.profile, p.runs)
    owners = study.notes["subject_id"]
    counts = {"patients": people(owners), "notes": Count(owners), "runs": recipes}
    return _record(p, study, "effects", "all", effects(measured, study, p, recipes), counts)


def effects(
    measured: Mapping[str, Measured], study: Study, p: Mimic, recipes: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return what three steps of the published method are worth, each switched on and off on the same notes.

    ``query_in_pool``: recall with the query taken out of its pool, less recall with it in, paired by query. ``row_split``:
    macro-AUROC in the split by rows less that in the split by patients. ``one_hot_targets``: the soft targets at work
    (``soft_chapter``) less the same training with targets that missed every label, which is ``infonce``. Beside them, no
    switch but another loss, ``other_loss``: ``himulcon`` less ``infonce``. Intervals are of patients, all differences of one row
    share their draws; what another training seed would give is not in them.

    Args:
        measured: by model.
        study: the notes.
        p: parameters of ``05_mimic``.
        recipes: runs of each loss.
    """
    patients = {group: q.patients for group, q in questions(study).items()}
    pool: dict[str, Any] = {}
    rows: dict[str, Any] = {}
    for model, one in measured.items():
        pool[model] = {group: _pool_change(ranks, patients[group], p.seed) for group, ranks in one.ranks.items()}
        if scored := one.metrics.get("auroc"):
            rows[model] = {split: scored[split]["macro"] for split in auroc.SPLITS}
            rows[model] |= _auroc_change(scored["rows"], scored["patients"])
    control = recipes.get("infonce")
    losses = {
        loss: _loss_change(measured, runs, control, patients, p.seed)
        for loss, runs in recipes.items()
        if control and loss != "infonce"
    }
    return {
        "query_in_pool": pool,
        "row_split": rows,
        "one_hot_targets": {loss: row for loss, row in losses.items() if loss == "soft_chapter"},
        "other_loss": {loss: row for loss, row in losses.items() if loss != "soft_chapter"},
    }


def points(study: Study, vectors: ArrayLike, model: str, p: Mimic) -> pl.DataFrame:
    """Return a map of sampled notes: UMAP's positions, chapter of the first code, category; no text and no id."""
    rows = np.sort(np.random.default_rng(p.seed).permutation(len(study.notes))[: p.sampled])
    place = maps.umap_points(np.asarray(vectors)[rows], p.seed)
    notes = study.notes[rows]
    chapters = pl.Series(note_study.chapters(notes))
    return notes.select(model=pl.lit(model), x=place[:, 0], y=place[:, 1], chapter=chapters, category="category")


def write_map(p: Mimic, study: Study | None, points: Sequence[pl.DataFrame]) -> None:
    """Write the maps' positions, ``figures/fig-notes-map.csv``, where notes are open; of restricted notes none are kept."""
    file = paths.artifacts(p.profile) / "figures" / "fig-notes-map.csv"
    file.unlink(missing_ok=True)
    if study is not None and study.source.access == clinical.access(p.profile) == clinical.OPEN:
        with files.replacing(file) as aside:
            pl.concat(points).write_csv(aside, float_precision=6)


def _recall(study: Study, scores: Callable[[Question], recall.Scores], p: Mimic, block: int = 512) -> Measured:
    measured = Measured({"recall": {}}, {}, {})
    for group, q in questions(study).items():
        one = recall.note_recall(scores(q), q.gold, q.own, q.patients, q.pool_patients, p.seed, KS, block)
        measured.ranks[group] = one.pop("ranks")
        measured.counts[group] = {name: one.pop(name) for name in ("queries", "candidates", "patients")}
        measured.metrics["recall"][group] = one
    return measured


def _pool_change(ranks: Mapping[str, NDArray], patients: NDArray, seed: int) -> dict[str, dict[str, float]]:
    return {f"at_{k}": _change(ranks["corrected"] <= k, ranks["published"] <= k, patients, seed) for k in KS}


def _loss_change(
    measured: Mapping[str, Measured],
    runs: Sequence[str],
    control: Sequence[str],
    patients: Mapping[str, NDArray],
    seed: int,
) -> dict[str, Any]:
    """Return the runs of one loss less those of ``infonce``: means over the runs of each, intervals over patients."""
    both = [[measured[run] for run in names] for names in (runs, control)]
    row = {}
    for group, own in patients.items():
        for form in ("corrected", "other_patients"):
            on, off = (np.mean([one.ranks[group][form] <= 10 for one in of], axis=0) for of in both)
            row[f"{form}_at_10_{group}"] = _change(on, off, own, seed)
    unseen = [[one.metrics["auroc"]["patients"]["unseen"] for one in of] for of in both]
    on, off = ({name: np.mean([a[name] for a in of], axis=0) for name in ("macro", "drawn")} for of in unseen)
    row["auroc_unseen"] = {"on": on["macro"], "off": off["macro"]} | _auroc_change(on, off)
    return row


def _change(on: NDArray, off: NDArray, patients: NDArray, seed: int) -> dict[str, float]:
    """Return how much more queries find with a switch on, with its interval over patients."""
    change = np.asarray(on, dtype=float) - np.asarray(off, dtype=float)
    low, high = statistics.bootstrap(change, seed, groups=patients)
    means = {"on": float(np.mean(on)), "off": float(np.mean(off)), "difference": float(change.mean())}
    return means | {"low": low, "high": high}


def _auroc_change(on: Mapping[str, Any], off: Mapping[str, Any]) -> dict[str, float]:
    """Return the difference of two macro-AUROCs with its interval, paired by the patients that were drawn."""
    return {"difference": float(on["macro"] - off["macro"])} | auroc.interval(on["drawn"] - off["drawn"])


def _record(p: Mimic, study: Study, measurement: str, model: str, metrics: Mapping, counts: Mapping) -> dict[str, Any]:
    params = p.model_dump() | {"source": study.source.name, "generated_notes": note_study.generated(study.source)}
    return records.write(
        records.path(p.profile, measurement, model),
        metrics=metrics,
        counts=counts,
        inputs=[records.path(p.profile, "notes", "all")],
        params=params | {"order": ["bm25", *p.encoders]},
    )
