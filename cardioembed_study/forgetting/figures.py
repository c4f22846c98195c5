"""How do the records of benchmarks and of forgetting become figures? Each with the numbers drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.figure import Figure

from cardioembed_study import show
from cardioembed_study.forgetting import target
from cardioembed_study.forgetting.target import GAIN, MARGIN
from cardioembed_study.show import label, ordered

RADAR = {  # axis: (measurement, task, metric), each 0..1
    "cardiology\ndefinitions, MRR": ("retrieval", "definition_cardiology", "mrr"),
    "BIOSSES,\nSpearman": ("mteb", "BIOSSES", "main_score"),
    "SciFact,\nnDCG@10": ("mteb", "SciFact", "main_score"),
    "NFCorpus,\nnDCG@10": ("mteb", "NFCorpus", "main_score"),
    "MedQuAD\nquestions, MRR": ("retrieval", "medquad_questions", "mrr"),
}


def heat_map(results: Mapping[str, Mapping]) -> tuple[Figure, pl.DataFrame]:
    """Return main scores, a row a model and a column a task (the paper's heat map); what was not run is left white.

    Args:
        results: model to its ``mteb`` record.
    """
    metrics = {label(model): record["metrics"] for model, record in ordered(results).items()}
    tasks = list(dict.fromkeys(task for m in metrics.values() for task in m))
    scores = {task: [m.get(task, {}).get("main_score") for m in metrics.values()] for task in tasks}
    drawn = pl.DataFrame({"model": list(metrics)} | scores)
    grid = np.array(list(scores.values()), dtype=float).T
    with show.canvas(figsize=(1.15 * len(tasks) + 2.4, 0.42 * len(metrics) + 1.5)) as (fig, ax):
        style = {"vmin": 0, "vmax": 1, "cmap": "cividis", "linewidths": 1, "cbar": False}
        sns.heatmap(grid, annot=True, fmt=".3f", xticklabels=tasks, yticklabels=drawn["model"], ax=ax, **style)
        if max(map(len, tasks)) > 10:
            plt.setp(ax.get_xticklabels(), rotation=20, ha="right", rotation_mode="anchor")
        ax.tick_params(axis="y", rotation=0)
        ax.set_xlabel("main score of the task, 0 (dark) to 1 (bright); white: not run")
        ax.grid(visible=False)
    return fig, drawn


def radar(
    records: Mapping[str, Mapping[str, Mapping]], models: Sequence[str], axes: Mapping[str, tuple] = RADAR
) -> tuple[Figure, pl.DataFrame]:
    """Return the paper's radar, of measured scores only; an axis that no record has is left out, never filled in.

    With fewer than three axes it is no radar, and the figure says so.

    Args:
        records: measurement to model to record, for example ``{"retrieval": {...}, "mteb": {...}}``.
        models: names of records, the base first.
        axes: name of the axis to measurement, task and metric, 0..1.
    """
    scores = {}
    for axis, (kind, task, metric) in axes.items():
        found = {model: record["metrics"].get(task, {}) for model, record in records.get(kind, {}).items()}
        scores[axis] = [found.get(model, {}).get(metric) for model in models]
    scores = {axis: values for axis, values in scores.items() if any(v is not None for v in values)}
    if len(scores) < 3:
        return show.nothing("too few scores for a radar")
    drawn = pl.DataFrame({"model": list(map(label, models))} | {a.replace("\n", " "): v for a, v in scores.items()})
    angles = np.linspace(0, 2 * np.pi, len(scores), endpoint=False)
    with show.canvas(figsize=(6.4, 5.2), subplot_kw={"projection": "polar"}) as (fig, ax):
        for i, (model, *values) in enumerate(drawn.rows()):
            closed = np.array([*values, values[0]], dtype=float)
            ax.plot([*angles, angles[0]], closed, lw=1.5, ms=5, label=model, **show.mark(i))
        ax.set_xticks(angles, list(scores))
        ax.set(ylim=(0, 1), yticks=[0.2, 0.4, 0.6, 0.8, 1.0], theta_offset=np.pi / 2, theta_direction=-1)
        for text, angle in zip(ax.get_xticklabels(), angles, strict=True):
            text.set_ha("left" if np.sin(angle) > 0.1 else "right" if np.sin(angle) < -0.1 else "center")
        ax.set_rlabel_position(180 / len(scores))
        fig.legend(loc="outside lower center", ncols=len(models), frameon=False)
    return fig, drawn


def frontier(points: pl.DataFrame) -> tuple[Figure, pl.DataFrame]:
    """Return what each run gained against what it lost, with the corner aimed at.

    Args:
        points: columns ``name``; ``gain``, in MRR of held-out cardiology definitions; ``loss``, base minus tuned on the
            benchmark that lost most, in its main score (negative: every benchmark gained); the ends of both intervals, where
            there are any (``target.points``).
    """
    if points.is_empty():
        return show.nothing("no run was measured on benchmarks in this profile")
    drawn = points.with_columns(reached=(pl.col("gain") >= GAIN) & (pl.col("loss") <= MARGIN))
    gains, losses = (
        pl.concat([drawn[side], drawn[f"{side}_low"], drawn[f"{side}_high"]]).drop_nulls() for side in ("gain", "loss")
    )
    (left, right), (bottom, top) = _range(gains, GAIN, 0.2), _range(losses, MARGIN, 0.12)
    with show.canvas(figsize=(6.4, 4.4)) as (fig, ax):
        ax.scatter(drawn["gain"], drawn["loss"], s=30, color=show.COLOURS[0], zorder=3)
        for row in drawn.drop_nulls().iter_rows(named=True):
            ax.hlines(row["loss"], row["gain_low"], row["gain_high"], color="grey", lw=1)
            ax.vlines(row["gain"], row["loss_low"], row["loss_high"], color="grey", lw=1)
        ax.fill_between([GAIN, right], bottom, MARGIN, color=show.COLOURS[2], alpha=0.2, lw=0)
        ax.axhline(0, color="black", lw=0.8)
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.set_xlabel("gained: MRR of held-out cardiology definitions, tuned minus base")
        ax.set_ylabel("lost on the worst benchmark:\nmain score, base minus tuned")
        ax.set_title(f"shaded: gained at least {GAIN}, lost at most {MARGIN}", fontsize=10)
        show.names(ax, drawn.rename({"name": "model"}), "gain", "loss")
    return fig, drawn


def merge_curves(curves: Mapping[str, Mapping]) -> tuple[Figure, pl.DataFrame]:
    """Return gain against worst loss on the development sets, a line a run and a point a share of its adapter.

    Args:
        curves: run to its record ``curve``. The point that ``target.choice`` takes is ringed.
    """
    if not curves:
        return show.nothing("no merge curve in this profile")
    found = {run: record["metrics"] for run, record in curves.items()}
    drawn, taken = target.merges(found), target.choice(found)
    with show.canvas(figsize=(6.4, 4.4)) as (fig, ax):
        for i, ((run,), line) in enumerate(drawn.group_by("run", maintain_order=True)):
            ax.plot(line["gain"], line["worst_loss"], lw=1.5, label=label(run), **show.mark(i))
            for row in line.filter(pl.col("weight") != 0).iter_rows(named=True):
                ax.annotate(
                    f"{row['weight']:g}", (row["gain"], row["worst_loss"]), (4, -9), textcoords="offset points", size=8
                )
        ax.axhline(target.MARGIN, color="grey", ls="--", lw=1, label=f"a loss of {target.MARGIN}")
        if taken:
            ax.plot(taken["gain"], taken["worst_loss"], "o", ms=14, mfc="none", mec="black", label="chosen")
        ax.set(xlabel="gained: MRR of dev definitions, merged model minus base")
        ax.set(ylabel="lost on the worse development part:\nbase minus merged model, nDCG@10")
        show.legend(ax)
    return fig, drawn


def _range(values: pl.Series, aim: float, above: float) -> tuple[float, float]:
    """Return an axis's ends: around the values, zero and the aim, with room below and, for names, above."""
    low, high = min(values.min(), 0), max(values.max(), aim)
    return low - 0.12 * (high - low), high + above * (high - low)
