"""How do records become figures? One style, colour-blind safe; every figure goes with the numbers drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.figure import Figure

from cardioembed_lib import paths
from cardioembed_lib.report import FLOORS, TOP_KS, label, ordered

STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.fonttype": "none",
    "svg.hashsalt": "cardioembed",  # the same figure gives the same bytes
}


def save(profile: str, name: str, fig: Figure, drawn: pl.DataFrame) -> None:
    """Write ``figures/<name>.svg``, byte for byte the same for the same numbers, and ``<name>.csv``, the numbers drawn."""
    folder = paths.artifacts(profile) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        fig.savefig(folder / f"{name}.svg", metadata={"Date": None})
    drawn.write_csv(folder / f"{name}.csv", float_precision=6)


def models(results: Mapping[str, Mapping], task: str, metric: str, name: str) -> tuple[Figure, pl.DataFrame]:
    """Return a bar a model with its 95 % interval (the papers' figures 1 and 11) and the numbers drawn."""
    models = ordered(results)
    values = [[results[m]["metrics"][task][metric + end] for m in models] for end in ("", "_low", "_high")]
    drawn = pl.DataFrame({"model": [label(m) for m in models], metric: values[0], "low": values[1], "high": values[2]})
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(6.4, 0.42 * len(models) + 1.0))
        colours = [sns.color_palette("colorblind")[i] for i in (_family(m, results) for m in models)]
        error = np.abs(np.array(values[1:]) - np.array(values[0]))
        ax.barh(drawn["model"], values[0], xerr=error, color=colours, error_kw={"lw": 1, "capsize": 3})
        for y, value in enumerate(values[0]):
            inside = value > 0.1
            ax.text(
                0.005 if inside else value + 0.015, y, f"{value:.3f}", va="center", color="white" if inside else "black"
            )
        ax.invert_yaxis()
        ax.set(xlabel=f"{name}, bars: 95 % interval over documents", xlim=(0, 1))
        ax.grid(axis="y", visible=False)
    plt.close(fig)
    return fig, drawn


def accuracy_at_k(results: Mapping[str, Mapping], task: str) -> tuple[Figure, pl.DataFrame]:
    """Return Acc@k against k (the paper's figure 3), a line a model, and the numbers drawn."""
    rows = [
        {"model": label(m), "k": k, "accuracy": results[m]["metrics"][task][f"acc_at_{k}"]}
        for m in ordered(results)
        for k in TOP_KS
    ]
    drawn = pl.DataFrame(rows)
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(6.4, 3.8))
        models = drawn["model"].unique(maintain_order=True).to_list()
        for model, colour, marker in zip(
            models, sns.color_palette("colorblind", len(models)), "osv^DPX*<>hH"[: len(models)], strict=True
        ):
            part = drawn.filter(model=model)
            ax.plot(part["k"], part["accuracy"], marker=marker, ms=5, lw=1.4, color=colour, label=model)
        ax.set(xscale="log", xlabel="k, passages looked at", ylabel="Acc@k, share of queries", ylim=(0, 1.02))
        ax.set_xticks(TOP_KS, [str(k) for k in TOP_KS])
        ax.minorticks_off()
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    plt.close(fig)
    return fig, drawn


def waterfall(results: Mapping[str, Mapping], tuned_mrr: float, base: str, task: str) -> tuple[Figure, pl.DataFrame]:
    """Return how MRR builds up from random to the tuned model (the paper's figure 9): the steps sum to the last bar."""
    marks = [(label(m), results[m]["metrics"][task]["mrr"]) for m in ("random", "tfidf", "bm25", base)] + [
        ("tuned", tuned_mrr)
    ]
    steps = [marks[0][1], *(b[1] - a[1] for a, b in pairwise(marks))]
    drawn = pl.DataFrame({"model": [m for m, _ in marks], "mrr": [v for _, v in marks], "step": steps})
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(6.4, 3.4))
        palette = sns.color_palette("colorblind")
        for i, (step, (_, mrr)) in enumerate(zip(steps, marks, strict=True)):
            ax.bar(i, step, bottom=mrr - step, color=palette[0] if step >= 0 else palette[3])
            ax.text(i, max(mrr, mrr - step) + 0.012, f"{step:+.3f}", ha="center", fontsize=9)
        ax.set_xticks(range(len(marks)), drawn["model"].to_list())
        ax.set(ylabel="MRR, and what each step adds", ylim=(0, 1))
        ax.grid(axis="x", visible=False)
    plt.close(fig)
    return fig, drawn


def training(histories: Mapping[str, Sequence[Mapping]]) -> tuple[Figure, pl.DataFrame]:
    """Return training loss and dev MRR against the step, a line a run, and the numbers drawn."""
    rows = [
        {"run": run, "step": h["step"], "loss": h.get("loss"), "dev_mrr": h.get("dev_score")}
        for run, hs in histories.items()
        for h in hs
    ]
    drawn = pl.DataFrame(rows, schema={"run": pl.String, "step": pl.Int64, "loss": pl.Float64, "dev_mrr": pl.Float64})
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(1, 2, figsize=(8, 3.2))
        for run, colour in zip(histories, sns.color_palette("colorblind", len(histories)), strict=True):
            for ax, column, marker in zip(axes, ("loss", "dev_mrr"), ("", "o"), strict=True):
                part = drawn.filter((pl.col("run") == run) & pl.col(column).is_not_null())
                ax.plot(part["step"], part[column], color=colour, lw=1.2, marker=marker, ms=4, label=run)
        axes[0].set(xlabel="step", ylabel="training loss, nats")
        axes[1].set(xlabel="step", ylabel="MRR on dev")
        axes[1].legend(fontsize=8, frameon=False)
    plt.close(fig)
    return fig, drawn


def pool_sizes(results: Mapping[str, Mapping], task: str) -> tuple[Figure, pl.DataFrame]:
    """Return MRR against the number of candidates, a line a model: a score means nothing without its pool's size."""
    rows = [
        {"model": label(m), "candidates": int(size), "mrr": point["mrr"]}
        for m in ordered(results)
        for size, point in results[m]["metrics"][task]["pool_sizes"].items()
    ]
    drawn = pl.DataFrame(rows).sort("candidates", maintain_order=True)
    with mpl.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(6.4, 3.4))
        models = [label(m) for m in ordered(results)]
        for model, colour in zip(models, sns.color_palette("colorblind", len(models)), strict=True):
            part = drawn.filter(model=model)
            ax.plot(part["candidates"], part["mrr"], marker="o", ms=4, lw=1.4, color=colour, label=model)
        ax.set(xscale="log", xlabel="candidates in the pool", ylabel="MRR", ylim=(0, 1.02))
        sizes = drawn["candidates"].unique(maintain_order=True).to_list()
        sizes = [a for a, b in pairwise(sizes) if b > 1.5 * a] + sizes[-1:]  # labels that would overlap are left out
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.minorticks_off()
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    plt.close(fig)
    return fig, drawn


def map(points: pl.DataFrame) -> tuple[Figure, pl.DataFrame]:
    """Return the UMAP of cardiology terms, base and tuned side by side, coloured by chapter.

    Args:
        points: columns ``model``, ``x``, ``y``, ``chapter``; chapters beyond the eight largest are "other".
    """
    models = points["model"].unique(maintain_order=True).to_list() or ["too few terms for a map"]
    chapters = points.group_by("chapter").len().sort(["len", "chapter"], descending=[True, False])["chapter"].to_list()
    chapters = [c for c in chapters if c != "other"] + (["other"] if "other" in chapters else [])
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        fig, axes = plt.subplots(1, len(models), figsize=(4.2 * len(models) + 2.2, 4))
        for ax, model in zip(np.atleast_1d(axes), models, strict=True):
            for chapter, colour, marker in zip(
                chapters, [*sns.color_palette("colorblind", 8), "lightgrey"], "osv^DPX*.", strict=False
            ):
                part = points.filter((pl.col("model") == model) & (pl.col("chapter") == chapter))
                grey = chapter == "other"
                ax.scatter(
                    part["x"],
                    part["y"],
                    s=14,
                    color="lightgrey" if grey else colour,
                    marker="." if grey else marker,
                    label=chapter,
                )
            ax.set(title=model, xticks=[], yticks=[], xlabel="UMAP 1 (no unit)", ylabel="UMAP 2 (no unit)")
        np.atleast_1d(axes)[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    plt.close(fig)
    return fig, points


def _family(model: str, results: Mapping[str, Mapping]) -> int:
    """Return a colour's number: floors, base, tuned."""
    return 7 if model in FLOORS else 0 if model == results[model]["params"].get("base") else 1
