"""Do the numbers of MedEmbed and of the MIMIC projects agree with each other? One function a check."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np

from cardioembed_study.claims.arithmetic import Check, Values, cells, listed, near

TASKS = ("ArguAna", "MedicalQARetrieval", "NFCorpus", "PublicHealthQA", "TRECCOVID")  # of MedEmbed's CSV files
SIZES = {  # released size: its CSV table, the mix that was released, the model that is tuned only
    "small": ("csv_small_v1", "medical-bge-small-v1-mix1", "medical-bge-small-v1.5-1"),
    "base": ("csv_base_v0", "medical-bge-base-v0-mix1", "medical-bge-base-v0"),
    "large": ("csv_large_v0", "medical-bge-large-mix2", "medical-bge-large-v0"),
}
MIMIC = ("text-embedding-3-small", "text-embedding-3-large", "EmbeddingGemma-300m", "InfoNCE", "hierarchical")
ICD9_CHAPTERS_HELD = (2.9, 5.7, 8.6)  # chapters an admission, ours: few, middling and many


def csv_averages(v: Values) -> Check:
    """The averages in MedEmbed's files are the means of their five tasks."""
    ids = tuple(i for i in v if i.startswith("medembed.csv_") and i.endswith(".avg.ndcg_at_10"))
    off = {i: abs(statistics.fmean(v[i.replace(".avg.", f".{t}.")] for t in TASKS) - v[i]) for i in ids}
    return Check(
        "averages of five tasks",
        ids,
        max(off.values()) <= 1.01e-5,
        f"{len(ids)} rows give an average over {len(TASKS)} tasks",
        f"largest departure from the mean of the five: {max(off.values()):.6f}",
    )


def released(v: Values) -> Check:
    """The released models' stored scores are those of a merged variant."""
    rows = [(size, mix) for size, mix in (("small", SIZES["small"]), ("base", SIZES["base"]))]
    names = {"PublicHealthQA": "PublicHealthQA-en"}
    ids = tuple(f"medembed.json.MedEmbed-{size}-v0.1.{names.get(t, t)}.ndcg_at_10" for size, _ in rows for t in TASKS)
    mixes = [v[f"medembed.{table}.{mix}.{t}.ndcg_at_10"] for _, (table, mix, _) in rows for t in TASKS]
    worst = max(abs(v[i] - 100 * m) for i, m in zip(ids, mixes, strict=True))
    return Check(
        "released models and merged variants",
        ids,
        near(worst, 0, 0.0051),
        f"MedEmbed-small and MedEmbed-base v0.1, {len(ids)} stored scores",
        f"they equal {' and '.join(mix for _, (_, mix, _) in rows)} in every score (largest difference {worst:.3f} points, "
        "which is rounding)",
        decides=False,
    )


def merging(v: Values) -> Check:
    """On average over the tasks, the best merged variant of each size scores above the one that is tuned only."""
    mixed = {
        size: max(v[i] for i in v if i.startswith(f"medembed.{table}.") and "-mix" in i and ".avg." in i)
        for size, (table, _, _) in SIZES.items()
    }
    tuned = {size: v[f"medembed.{table}.{only}.avg.ndcg_at_10"] for size, (table, _, only) in SIZES.items()}
    return Check(
        "merged and tuned only",
        tuple(f"medembed.{table}.{mix}.avg.ndcg_at_10" for table, mix, _ in SIZES.values()),
        all(mixed[size] > tuned[size] for size in SIZES),
        "the released models are merged variants, compared on these five tasks",
        "; ".join(f"{size}: {mixed[size]:.5f} merged, {tuned[size]:.5f} tuned only" for size in SIZES),
        decides=False,
    )


def picture(v: Values) -> Check:
    """What MedEmbed's picture shows beside the stored results."""
    rows = {
        "medembed.picture.all-MiniLM-L12-v2.ArguAna.ndcg_at_10": "medembed.json.all-MiniLM-L12-v2.ArguAna.ndcg_at_10",
        "medembed.picture.MedEmbed-base-v0.1.TRECCOVID.ndcg_at_10": "medembed.json.MedEmbed-base-v0.1.TRECCOVID.ndcg_at_10",
        "medembed.picture.MedEmbed-small-v0.1.NFCorpus.ndcg_at_10": "medembed.json.MedEmbed-small-v0.1.NFCorpus.ndcg_at_10",
    }
    swapped = v["medembed.picture.all-MiniLM-L12-v2.ArguAna.map_at_5"]
    return Check(
        "picture and stored results",
        tuple(rows),
        all(near(v[a], v[b], 0.01) for a, b in rows.items()),
        f"nDCG@10 in the picture: {listed([v[i] for i in rows], '{:.2f}')}",
        f"stored: {listed([v[i] for i in rows.values()], '{:.2f}')}; the first is drawn as another metric ({swapped:.2f})",
        decides=False,
    )


def prompted(v: Values) -> Check:
    """MedEmbed's released models beside the official scores of their bases, queries with the instruction of the card."""
    tasks = {"MedicalQARetrieval": "MedicalQARetrieval", "NFCorpus": "NFCorpus", "PublicHealthQA": "PublicHealthQA-en"}
    tasks |= {"TRECCOVID": "TRECCOVID"}
    ids, gains = [], {}
    for size, (table, mix, _) in SIZES.items():
        for ours, theirs in tasks.items():
            tuned = f"medembed.{table}.{mix}.{ours}.ndcg_at_10"
            stored = f"medembed.json.MedEmbed-{size}-v0.1.{theirs}.ndcg_at_10"
            ids += [tuned, *([stored] if stored in v else [])]
            base = v[f"official.prompted.bge-{size}-en-v1.5.{theirs}.ndcg_at_10"]
            gains[f"{size} {ours}"] = 100 * v[tuned] - base
    below = {name: gain for name, gain in gains.items() if gain < 0}
    return Check(
        "tuned models and their prompted bases",
        tuple(ids),
        not below,
        f"the tuned models score above bases that are measured without their query instruction, {len(gains)} comparisons",
        f"with it {len(gains) - len(below)} gains remain, {max(gains.values()):+.2f} points at most; lower than the base are "
        f"{', '.join(f'{name} ({gain:+.2f})' for name, gain in below.items())}",
        decides=False,
    )


def recall_ceiling(v: Values) -> Check:
    """A query that stands in its own pool takes the first place, save for a patient's first note."""
    ids = cells("mimic.recall", MIMIC, "top1_recall")
    ceiling = 100 * v["mimic.subset.patients_with_pairs"] / v["mimic.subset.pairs"]
    return Check(
        "ceiling of the top-1 recall",
        ids,
        all(v[i] <= ceiling + 0.01 for i in ids),
        f"top-1 recall {listed([v[i] for i in ids], '{:.2f} %')}",
        f"with the query left in the pool, itself at cosine 1 for {100 - ceiling:.0f} % of the pairs, "
        f"{v['mimic.subset.patients_with_pairs']:.0f} of {v['mimic.subset.pairs']:,.0f} can have their next note first: "
        f"{ceiling:.2f} % at most",
    )


def hits(v: Values) -> Check:
    """The recalls are the hits of the log."""
    pairs = [(f"mimic.recall.{m}.top{k}_recall", f"mimic.hits.{m}.top{k}_hits") for m in MIMIC for k in (1, 5, 10)]
    off = {r: abs(100 * v[h] / v["mimic.subset.pairs"] - v[r]) for r, h in pairs}
    return Check(
        "recalls and hits",
        tuple(off),
        max(off.values()) <= 0.0051,
        f"{len(off)} recalls and the hits of {v['mimic.subset.pairs']:,.0f} pairs",
        f"largest departure {max(off.values()):.3f} points, which is rounding",
    )


def silhouettes(v: Values) -> Check:
    """The differences of the silhouettes, to a unit of the last digit."""
    ids = tuple(f"mimic.silhouette.{m}.category_less_chapter.silhouette" for m in MIMIC)
    ours = [
        v[f"mimic.silhouette.{m}.category.silhouette"] - v[f"mimic.silhouette.{m}.chapter.silhouette"] for m in MIMIC
    ]
    return Check(
        "differences of silhouettes",
        ids,
        all(near(o, v[i], 0.001) for o, i in zip(ours, ids, strict=True)),
        f"category less chapter: {listed([v[i] for i in ids], '{:+.3f}')}",
        listed(ours, "{:+.3f}"),
    )


def entropy_floor(chapters: float, batch: int, weight: float, total: int, seed: int = 17, batches: int = 100) -> float:
    """Return the mean entropy, in nats, of soft targets by shared chapters: the loss cannot fall below it.

    Targets: 1 for the own pair, ``weight`` times the share of the anchor's chapters that another pair has; rows sum to 1.
    Admissions draw their chapters evenly and independently, so that they share as few as chance allows.

    Args:
        chapters: mean number an admission has; drawn as the whole number below or above.
        batch: pairs a batch.
        weight: of a pair that shares every chapter.
        total: chapters there are.
        seed: of the draws.
        batches: averaged.

    >>> entropy_floor(3, batch=1, weight=0.3, total=19)
    0.0
    """
    random, entropies = np.random.default_rng(seed), []
    for _ in range(batches):
        sizes = np.floor(chapters + random.random(batch))
        held = random.random((batch, total)).argsort(axis=1).argsort(axis=1) < sizes[:, None]
        targets = weight * (held.astype(float) @ held.T) / held.sum(axis=1, keepdims=True)
        np.fill_diagonal(targets, 1)
        targets /= targets.sum(axis=1, keepdims=True)
        entropies.append(-(targets * np.log(np.where(targets > 0, targets, 1))).sum(axis=1).mean())
    return float(np.mean(entropies)) + 0.0


def soft_targets(v: Values) -> Check:
    """The logged loss against the least that the described loss can be."""
    batch, weight, total = v["mimic.train.batch_size"], v["mimic.loss.chapter_weight"], v["mimic.loss.chapters"]
    floors = [entropy_floor(n, int(batch), weight, int(total)) for n in ICD9_CHAPTERS_HELD]
    last = v["mimic.epoch_loss.epoch-10.training_loss"]
    return Check(
        "loss of soft targets",
        ("mimic.loss.chapter_weight",),
        last >= min(floors),
        f"pairs that share chapters have targets above 0 (weight {weight:g}); the loss falls to {last:.4f}",
        f"the entropy of such targets, below which the loss cannot fall, is {listed(floors, '{:.1f}')} nats for "
        f"{listed(ICD9_CHAPTERS_HELD, '{:g}')} chapters an admission (simulated, batches of {batch:.0f}); a loss near 0 "
        "corresponds to targets of one pair each",
    )


def steps_per_epoch(v: Values) -> Check:
    """Steps per epoch, the last incomplete batch dropped."""
    steps = v["mimic.subset.pairs"] // v["mimic.train.batch_size"]
    return Check(
        "steps per epoch",
        ("mimic.log.steps",),
        steps == v["mimic.log.steps"],
        f"{v['mimic.log.steps']:.0f} steps",
        f"{v['mimic.subset.pairs']:,.0f} pairs in whole batches of {v['mimic.train.batch_size']:.0f} are {steps:.0f}",
    )


def training_time(v: Values) -> Check:
    """Minutes an epoch and hours in all, from steps and seconds."""
    minutes = v["mimic.log.steps"] * v["mimic.log.seconds"] / 60
    hours = minutes * v["mimic.train.hierarchical_epochs"] / 60
    return Check(
        "time of the training",
        ("mimic.log.minutes", "mimic.log.hours"),
        near(minutes, v["mimic.log.minutes"], 0.5) and near(hours, v["mimic.log.hours"], 0.05),
        f"{v['mimic.log.minutes']:.0f} minutes an epoch, about {v['mimic.log.hours']:.1f} hours",
        f"{v['mimic.log.steps']:.0f} × {v['mimic.log.seconds']:.2f} s are {minutes:.1f} minutes, "
        f"{v['mimic.train.hierarchical_epochs']:.0f} epochs {hours:.2f} hours",
    )


def note_pairs(v: Values) -> Check:
    """Every note but a patient's first closes a pair."""
    rows = [[v[f"mimic.{room}.{name}"] for name in ("notes", "patients", "pairs")] for room in ("preprocess", "subset")]
    return Check(
        "notes, patients and pairs",
        tuple(f"mimic.{room}.{name}" for room in ("preprocess", "subset") for name in ("notes", "patients", "pairs")),
        all(notes - patients == pairs for notes, patients, pairs in rows),
        "; ".join(f"{pairs:,.0f} pairs" for *_, pairs in rows),
        "; ".join(
            f"{notes:,.0f} notes - {patients:,.0f} patients = {notes - patients:,.0f}" for notes, patients, _ in rows
        ),
    )


def auroc_split(v: Values) -> Check:
    """The notes of the AUROC's two sides are its notes, in the stated shares."""
    train, test, notes = (v[f"mimic.auroc_setup.{name}"] for name in ("train", "test", "notes"))
    share = 100 * train / (train + test)
    return Check(
        "notes of the AUROC",
        tuple(f"mimic.auroc_setup.{name}" for name in ("train", "test", "notes", "train_share")),
        train + test == notes and near(share, v["mimic.auroc_setup.train_share"], 0.01),
        f"{train:,.0f} and {test:,.0f} of {notes:,.0f} notes, {v['mimic.auroc_setup.train_share']:.0f} % for training",
        f"{train:,.0f} + {test:,.0f} = {train + test:,.0f}; {share:.2f} %",
    )


def heldout(v: Values) -> Check:
    """The two losses on patients that were not trained on."""
    ids = cells("mimic.readme_heldout", ("InfoNCE", "hierarchical"), "top5_recall")
    ends = {i: (v[f"{i}_low"], v[f"{i}_high"]) for i in ids}
    diagnostic = [v[i.replace("heldout", "diagnostic")] for i in ids]
    apart = ends[ids[1]][0] > ends[ids[0]][1]
    training = cells("mimic.recall", ("InfoNCE", "hierarchical"), "top5_recall")
    return Check(
        "two losses on held-out patients",
        (*ids, *training),
        apart,
        f"top-5 recall {diagnostic[0]:.2f} % (InfoNCE) and {diagnostic[1]:.2f} % (hierarchical) on the training pairs",
        "on held-out patients "
        + " and ".join(f"{v[i]:.2f} % [{low:.2f}, {high:.2f}]" for i, (low, high) in ends.items())
        + f": the intervals {'are apart' if apart else 'overlap'}",
        decides=False,
    )


def times_better(v: Values) -> Check:
    """The post's ratio to OpenAI's embedding."""
    ours, theirs = (v[f"mimic.radical.recall.{m}.top5_recall"] for m in ("Radical-Health-EmbeddingGemma", "OpenAI"))
    return Check(
        "times better than OpenAI",
        ("mimic.radical.ratio",),
        near(ours / theirs, v["mimic.radical.ratio"], 0.5),
        f"{v['mimic.radical.ratio']:.0f} times",
        f"{ours:.0f} / {theirs:.0f} = {ours / theirs:.1f}",
    )


CHECKS: tuple[Callable[[Values], Check], ...] = (
    *(csv_averages, released, merging, picture, prompted),
    *(
        note_pairs,
        steps_per_epoch,
        training_time,
        recall_ceiling,
        hits,
        silhouettes,
        soft_targets,
        auroc_split,
        heldout,
    ),
    times_better,
)
