"""How do the records of the notes' study become figures? Each with the numbers drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from cardioembed_study import paths, show
from cardioembed_study.notes.recall import KS
from cardioembed_study.notes.tables import FORMS, by_code, kind, mistakes, run, turned
from cardioembed_study.show import label

LABELS = "labels at work instead of\none-hot targets"
PANELS = {  # what is drawn of each mistake, and where; soft labels are drawn as the mending that they are
    ("query_in_pool", "at_1"): "query left in the pool:\nrecall@1",
    ("row_split", "auroc"): "split by rows:\nmacro-AUROC",
    ("one_hot_targets", "corrected_at_10_unseen"): LABELS,
    ("one_hot_targets", "auroc_unseen"): LABELS,
}


def recall_at_k(results: Mapping[str, Mapping]) -> tuple[Figure, pl.DataFrame]:
    """Return recall of the next note against k, a panel a form, a line an encoder, unseen patients; and the numbers drawn."""
    rows = [
        {"model": model, "pool": words, "k": k, "recall": forms[form][f"recall_at_{k}"]}
        for model, forms in show.each(run(results), "recall", "unseen")
        for form, words in FORMS.items()
        for k in KS
    ]
    drawn = pl.DataFrame(rows, schema={"model": pl.String, "pool": pl.String, "k": pl.Int64, "recall": pl.Float64})
    with show.canvas(1, len(FORMS), figsize=(10.5, 3.4), sharey=True) as (fig, axes):
        for ax, words in zip(axes, FORMS.values(), strict=True):
            show.lines(ax, drawn.filter(pool=words), "k", "recall")
            ax.set(title=words, xlabel="k, notes looked at", xticks=KS)
        axes[0].set(ylabel=f"recall of the next note\n({kind(results)}, unseen patients)")
        show.legend(ax)
    return fig, drawn


def auroc_by_code(results: Mapping[str, Mapping], model: str) -> tuple[Figure, pl.DataFrame]:
    """Return each code's AUROC in the published split and by patients, joined by a line, and the numbers drawn."""
    by_rows, by_patients = by_code(results, model)
    rows = [(c, by_rows[c]["auroc"], by_patients[c]["auroc"]) for c in sorted(by_patients) if c in by_rows]
    schema = {"code": pl.String, "rows": pl.Float64, "patients": pl.Float64}
    drawn = pl.DataFrame(rows, schema=schema, orient="row").sort("patients", maintain_order=True)
    heights = range(len(drawn))
    with show.canvas(figsize=(6.4, 0.24 * max(1, len(drawn)) + 1.2)) as (fig, ax):
        ax.hlines(heights, drawn["patients"], drawn["rows"], color="lightgrey", lw=2, zorder=1)
        ax.scatter(drawn["rows"], heights, s=28, label="split by rows (published)", **show.mark(1))
        ax.scatter(drawn["patients"], heights, s=28, label="split by patients", **show.mark(0))
        ax.axvline(0.5, color="black", lw=0.8, ls=":")
        ax.set_yticks(heights, drawn["code"], fontsize=8)
        ax.set(xlabel=f"AUROC ({kind(results)}, {label(model)}); dotted: chance", ylabel="ICD-9-CM code")
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return fig, drawn


def silhouettes(results: Mapping[str, Mapping]) -> tuple[Figure, pl.DataFrame]:
    """Return silhouettes by chapter and by category with their intervals, a line an encoder, and the numbers drawn."""
    columns = ("silhouette", "low", "high")
    rows = [
        {"model": model, "labels": labels, **{name: m[labels][name] for name in columns}}
        for model, m in show.each(run(results), "silhouette")
        for labels in ("chapter", "category")
    ]
    schema = {"model": pl.String, "labels": pl.String} | dict.fromkeys(columns, pl.Float64)
    drawn = pl.DataFrame(rows, schema=schema)
    models = drawn["model"].unique(maintain_order=True)
    with show.canvas(figsize=(6.4, 0.45 * max(1, len(models)) + 1.2)) as (fig, ax):
        for i, labels in enumerate(("chapter", "category")):
            heights = [row + 0.2 * i - 0.1 for row in range(len(models))]
            show.dots(ax, drawn.filter(labels=labels), "silhouette", heights, i, label=f"by {labels}", capsize=3, lw=1)
        ax.axvline(0, color="black", lw=0.8)
        ax.set_yticks(range(len(models)), models)
        ax.invert_yaxis()
        ax.set(xlabel=f"cosine silhouette ({kind(results)}); bars: 95 % interval over patients")
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return fig, drawn


def points(profile: str) -> pl.DataFrame:
    """Return the positions that ``05_mimic`` wrote for the map of notes; none where there are none that may be shown."""
    schema = {"model": pl.String, "x": pl.Float64, "y": pl.Float64, "chapter": pl.String, "category": pl.String}
    file = paths.artifacts(profile) / "figures" / "fig-notes-map.csv"
    return pl.read_csv(file, schema_overrides=schema) if file.is_file() else pl.DataFrame(schema=schema)


def maps(points: pl.DataFrame, notes: str) -> tuple[Figure, pl.DataFrame]:
    """Return UMAPs of notes, a row a model: by chapter of the first code beside by category of the note.

    Args:
        points: of ``measures.points``; labels beyond the eight most frequent are "other".
        notes: whose they are, for the title.
    """
    models = points["model"].unique(maintain_order=True)
    panels = max(1, len(models)), 2
    with show.canvas(*panels, figsize=(11, 3.8 * panels[0]), squeeze=False, subplot_kw=show.MAP) as (fig, axes):
        for row, model in zip(axes, models, strict=False):
            for ax, labels in zip(row, ("chapter", "category"), strict=True):
                part = points.filter(model=model)
                sizes = part[labels].value_counts().sort("count", labels, descending=[True, False])
                show.scatter(ax, part, labels, sizes[labels][:8].to_list(), s=9, linewidths=0)
                show.legend(ax, fontsize=7, markerscale=1.6)
                ax.set_title(f"{label(model)}, {notes}, by {labels}")
    return fig, points


def effects(record: Mapping[str, Any]) -> tuple[Figure, pl.DataFrame]:
    """Return the three method effects with their intervals, a panel each, and the numbers drawn."""
    rows = [
        {"effect": PANELS[mistake, measure], "who": who, "measure": measure}
        | (turned(m) if mistake == "one_hot_targets" else m)
        for mistake, who, measure, m in mistakes(record)
        if (mistake, measure) in PANELS
    ]
    words, values = ("effect", "who", "measure"), ("difference", "low", "high")
    drawn = pl.DataFrame(rows, schema=dict.fromkeys(words, pl.String) | dict.fromkeys(values, pl.Float64))
    panels = drawn["effect"].unique(maintain_order=True)
    with show.canvas(1, max(1, len(panels)), figsize=(11, 3.6), squeeze=False) as (fig, (axes,)):
        for ax, effect in zip(axes, panels, strict=False):
            part = drawn.filter(effect=effect)
            names = part["who"].to_list()
            if part["measure"].n_unique() > 1:
                names = [
                    f"{w}, {'AUROC' if 'auroc' in m else 'recall@10'}" for w, m in part.select("who", "measure").rows()
                ]
            show.dots(ax, part, "difference", range(len(part)), 0, capsize=3)
            ax.set_yticks(range(len(part)), names, fontsize=8)
            ax.axvline(0, color="black", lw=0.8)
            ax.invert_yaxis()
            ax.set_title(effect, fontsize=10)
            ax.set_xlabel("difference (95 % over patients)")
    return fig, drawn
