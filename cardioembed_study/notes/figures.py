"""How do the records of the notes' study become figures? In the style, and by the rules, of ``figures``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.figure import Figure

from cardioembed_study.notes.recall import KS
from cardioembed_study.notes.tables import FORMS, kind, run
from cardioembed_study.show import STYLE, label

MARKERS = "osv^DPX*<>hHpd"


def recall_at_k(results: Mapping[str, Mapping]) -> tuple[Figure, pl.DataFrame]:
    """Return recall of the next note against k, a panel a form, a line an encoder, unseen patients; and the numbers drawn."""
    rows = [
        {"model": label(model), "pool": FORMS[form], "k": k, "recall": found[form][f"recall_at_{k}"]}
        for model, record in run(results).items()
        if (found := record["metrics"]["recall"].get("unseen"))
        for form in FORMS
        for k in KS
    ]
    drawn = pl.DataFrame(rows, schema={"model": pl.String, "pool": pl.String, "k": pl.Int64, "recall": pl.Float64})
    models = drawn["model"].unique(maintain_order=True).to_list()
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, len(FORMS), figsize=(10.5, 3.4), sharey=True)
        for ax, words in zip(axes, FORMS.values(), strict=True):
            for model, colour, marker in zip(
                models, sns.color_palette("colorblind", len(models)), MARKERS, strict=False
            ):
                part = drawn.filter(model=model, pool=words)
                ax.plot(part["k"], part["recall"], marker=marker, ms=5, lw=1.4, color=colour, label=model)
            ax.set(title=words, xlabel="k, notes looked at")
            ax.set_xticks(KS)
        axes[0].set(ylabel=f"recall of the next note\n({kind(results)}, unseen patients)")
        if models:
            axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    plt.close(fig)
    return fig, drawn


def auroc_by_code(results: Mapping[str, Mapping], model: str) -> tuple[Figure, pl.DataFrame]:
    """Return each code's AUROC in the published split and by patients, joined by a line, and the numbers drawn."""
    found = results[model]["metrics"]["auroc"] if model in run(results) else {"rows": {}, "patients": {}}
    by_rows, by_patients = (found[split].get("per_code", {}) for split in ("rows", "patients"))
    codes = sorted(set(by_rows) & set(by_patients), key=lambda code: by_patients[code]["auroc"])
    drawn = pl.DataFrame(
        [{"code": c, "rows": by_rows[c]["auroc"], "patients": by_patients[c]["auroc"]} for c in codes],
        schema={"code": pl.String, "rows": pl.Float64, "patients": pl.Float64},
    )
    palette = sns.color_palette("colorblind")
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(6.4, 0.24 * max(1, len(codes)) + 1.2))
        ax.hlines(range(len(codes)), drawn["patients"], drawn["rows"], color="lightgrey", lw=2, zorder=1)
        ax.scatter(
            drawn["rows"], range(len(codes)), color=palette[1], marker="s", s=28, label="split by rows (published)"
        )
        ax.scatter(drawn["patients"], range(len(codes)), color=palette[0], marker="o", s=28, label="split by patients")
        ax.axvline(0.5, color="black", lw=0.8, ls=":")
        ax.set_yticks(range(len(codes)), codes, fontsize=8)
        ax.set(xlabel=f"AUROC ({kind(results)}, {label(model)}); dotted: chance", ylabel="ICD-9-CM code")
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    plt.close(fig)
    return fig, drawn


def silhouettes(results: Mapping[str, Mapping]) -> tuple[Figure, pl.DataFrame]:
    """Return silhouettes by chapter and by category with their intervals, a line an encoder, and the numbers drawn."""
    rows = [
        {"model": label(model), "labels": name, **{k: found[name][k] for k in ("silhouette", "low", "high")}}
        for model, record in run(results).items()
        if (found := record["metrics"].get("silhouette"))
        for name in ("chapter", "category")
    ]
    schema = {"model": pl.String, "labels": pl.String, "silhouette": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    drawn = pl.DataFrame(rows, schema=schema)
    models = drawn["model"].unique(maintain_order=True).to_list()
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(6.4, 0.45 * max(1, len(models)) + 1.2))
        for i, (name, marker) in enumerate((("chapter", "o"), ("category", "s"))):
            part = drawn.filter(labels=name)
            error = np.abs(np.stack([part["silhouette"] - part["low"], part["high"] - part["silhouette"]]))
            place = np.arange(len(part)) + 0.2 * i - 0.1
            colour = sns.color_palette("colorblind")[i]
            ax.errorbar(
                part["silhouette"], place, xerr=error, fmt=marker, color=colour, capsize=3, lw=1, label=f"by {name}"
            )
        ax.axvline(0, color="black", lw=0.8)
        ax.set_yticks(range(len(models)), models)
        ax.invert_yaxis()
        ax.set(xlabel=f"cosine silhouette ({kind(results)}); bars: 95 % interval over patients")
        ax.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    plt.close(fig)
    return fig, drawn


def maps(points: pl.DataFrame, notes: str) -> tuple[Figure, pl.DataFrame]:
    """Return UMAPs of notes, a row a model: by chapter of the first code beside by category of the note.

    Args:
        points: of ``measures.points``; labels beyond the eight most frequent are "other".
        notes: whose they are, for the title.
    """
    models = points["model"].unique(maintain_order=True).to_list()
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        fig, axes = plt.subplots(max(1, len(models)), 2, figsize=(11, 3.8 * max(1, len(models))), squeeze=False)
        for row, model in zip(axes, models, strict=False):
            for ax, name in zip(row, ("chapter", "category"), strict=True):
                _scatter(ax, points.filter(model=model), name)
                ax.set(
                    title=f"{label(model)}, {notes}, by {name}", xlabel="UMAP 1 (no unit)", ylabel="UMAP 2 (no unit)"
                )
                ax.set(xticks=[], yticks=[])
    plt.close(fig)
    return fig, points


def effects(record: Mapping[str, Any]) -> tuple[Figure, pl.DataFrame]:
    """Return the three method effects with their intervals, a panel each, and the numbers drawn."""
    found = record["metrics"]
    rows = [
        {
            "effect": "query left in the pool:\nrecall@1",
            "who": label(m),
            "measure": "at_1",
            **_turned(g["unseen"]["at_1"]),
        }
        for m, g in found.get("query_in_pool", {}).items()
        if "unseen" in g
    ]
    rows += [
        {"effect": "split by rows:\nmacro-AUROC", "who": label(m), "measure": "auroc", **_plain(e)}
        for m, e in found.get("row_split", {}).items()
    ]
    rows += [
        {"effect": "labels at work instead of\none-hot targets", "who": loss, "measure": name, **_plain(e)}
        for loss, measures in found.get("one_hot_targets", {}).items()
        for name, e in measures.items()
        if name in ("corrected_at_10_unseen", "auroc_unseen")
    ]
    schema = {"effect": pl.String, "who": pl.String, "measure": pl.String} | dict.fromkeys(
        ("difference", "low", "high"), pl.Float64
    )
    drawn = pl.DataFrame(rows, schema=schema)
    panels = drawn["effect"].unique(maintain_order=True).to_list()
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, max(1, len(panels)), figsize=(11, 3.6), squeeze=False)
        for ax, effect in zip(axes[0], panels, strict=False):
            part = drawn.filter(effect=effect)
            error = np.abs(np.stack([part["difference"] - part["low"], part["high"] - part["difference"]]))
            ax.errorbar(
                part["difference"],
                range(len(part)),
                xerr=error,
                fmt="o",
                color=sns.color_palette("colorblind")[0],
                capsize=3,
            )
            several = part["measure"].n_unique() > 1
            names = [
                f"{w}, {'AUROC' if 'auroc' in m else 'recall@10'}" if several else w
                for w, m in part.select("who", "measure").rows()
            ]
            ax.set_yticks(range(len(part)), names, fontsize=8)
            ax.axvline(0, color="black", lw=0.8)
            ax.invert_yaxis()
            ax.set(title=effect, xlabel="difference (95 % over patients)")
            ax.title.set_fontsize(10)
    plt.close(fig)
    return fig, drawn


def _scatter(ax, part: pl.DataFrame, name: str) -> None:
    sizes = part[name].value_counts(sort=True).sort("count", name, descending=[True, False])[name].to_list()
    styles = zip([*sizes[:8], None], [*sns.color_palette("colorblind", 8), "lightgrey"], "osv^DPX*.", strict=False)
    for value, colour, marker in styles:
        mine = part.filter(pl.col(name) == value) if value is not None else part.filter(~pl.col(name).is_in(sizes[:8]))
        if len(mine):
            ax.scatter(mine["x"], mine["y"], s=9, color=colour, marker=marker, label=value or "other", linewidths=0)
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=1.6)


def _plain(m: Mapping[str, float]) -> dict[str, float]:
    return {name: m[name] for name in ("difference", "low", "high")}


def _turned(m: Mapping[str, float]) -> dict[str, float]:
    """Return a difference the other way round: the effect of the mistake, not of its mending."""
    return {"difference": -m["difference"], "low": -m["high"], "high": -m["low"]}
