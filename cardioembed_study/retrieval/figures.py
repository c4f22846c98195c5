"""How do the records of retrieval and similarity become figures?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.figure import Figure

from cardioembed_study import show
from cardioembed_study.retrieval.tables import TOP_KS
from cardioembed_study.show import label, ordered


def models(results: Mapping[str, Mapping], task: str, metric: str, name: str) -> tuple[Figure, pl.DataFrame]:
    """Return a bar a model with its 95 % interval (the papers' figures 1 and 11) and the numbers drawn."""
    models = ordered(results)
    values = [[results[m]["metrics"][task][metric + end] for m in models] for end in ("", "_low", "_high")]
    drawn = pl.DataFrame({"model": [label(m) for m in models], metric: values[0], "low": values[1], "high": values[2]})
    with mpl.rc_context(show.STYLE):
        fig, ax = plt.subplots(figsize=(6.4, 0.42 * len(models) + 1.0))
        colours = [sns.color_palette("colorblind")[i] for i in (show.family(m, results) for m in models)]
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
    with mpl.rc_context(show.STYLE):
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
    with mpl.rc_context(show.STYLE):
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


def pool_sizes(results: Mapping[str, Mapping], task: str) -> tuple[Figure, pl.DataFrame]:
    """Return MRR against the number of candidates, a line a model: a score means nothing without its pool's size."""
    rows = [
        {"model": label(m), "candidates": int(size), "mrr": point["mrr"]}
        for m in ordered(results)
        for size, point in results[m]["metrics"][task]["pool_sizes"].items()
    ]
    drawn = pl.DataFrame(rows).sort("candidates", maintain_order=True)
    with mpl.rc_context(show.STYLE):
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


def term_map(points: pl.DataFrame) -> tuple[Figure, pl.DataFrame]:
    """Return the UMAP of cardiology terms, base and tuned side by side, coloured by chapter.

    Args:
        points: columns ``model``, ``x``, ``y``, ``chapter``; chapters beyond the eight largest are "other".
    """
    models = points["model"].unique(maintain_order=True).to_list() or ["too few terms for a map"]
    chapters = points.group_by("chapter").len().sort(["len", "chapter"], descending=[True, False])["chapter"].to_list()
    chapters = [c for c in chapters if c != "other"] + (["other"] if "other" in chapters else [])
    with mpl.rc_context({**show.STYLE, "axes.grid": False}):
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


KINDS = {"similar": (0, "-"), "different": (2, "--"), "negated": (3, "-.")}  # colour and line of a kind of pair


def separation(results: Mapping[str, Mapping]) -> tuple[Figure, pl.DataFrame]:
    """Return a bar a model: mean cosine of similar minus of different pairs, with its 95 % interval (figure 1 of the study).

    Args:
        results: model to its ``similarity`` record.
    """
    models = ordered(results)
    keys = ("separation", "separation_low", "separation_high", "similar", "different", "negated")
    found = [results[m]["metrics"]["separation"] for m in models]
    drawn = pl.DataFrame({"model": [label(m) for m in models], **{key: [f[key] for f in found] for key in keys}})
    values, low, high = (drawn[key].to_numpy() for key in keys[:3])
    with show.canvas(figsize=(6.4, 0.42 * len(models) + 1.0)) as (fig, ax):
        colours = [sns.color_palette("colorblind")[show.family(m, results)] for m in models]
        error = np.abs(np.stack([values - low, high - values]))
        ax.barh(drawn["model"], values, xerr=error, color=colours, error_kw={"lw": 1, "capsize": 3})
        for y, (value, end) in enumerate(zip(values, np.maximum(high, 0), strict=True)):
            ax.annotate(f"{value:.3f}", (end, y), (5, 0), textcoords="offset points", va="center")
        ax.axvline(0, color="black", lw=0.8)
        ax.set(xlim=(min(0, 1.1 * low.min()), 1.2 * max(high.max(), 0.1)))
        ax.set_xlabel("separation: mean cosine of similar minus different pairs\nbars: 95 % interval over pairs")
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    return fig, drawn


def distributions(results: Mapping[str, Mapping], models: Sequence[str]) -> tuple[Figure, pl.DataFrame]:
    """Return the cosines of similar, different and negated pairs, a panel a model (figure 2 of the study), means dotted.

    Args:
        results: model to its ``similarity`` record; ``metrics["cosines"]`` holds N counts a kind and the N + 1 edges.
        models: names of records, the base first.
    """
    rows = []
    for model in models:
        cosines = results[model]["metrics"]["cosines"]
        for kind in (kind for kind in KINDS if kind in cosines):
            counts, edges = np.array(cosines[kind]), np.array(cosines["edges"])
            density = counts / np.diff(edges) / max(counts.sum(), 1)
            cells = zip(edges[:-1], edges[1:], counts, density, strict=True)
            rows += [(label(model), kind, *(float(v) for v in cell)) for cell in cells]
    drawn = pl.DataFrame(rows, schema=["model", "kind", "from", "to", "pairs", "density"], orient="row")
    used = drawn.filter(pl.col("pairs") > 0)
    with show.canvas(1, len(models), figsize=(3.6 * len(models) + 1.4, 3.4), sharex=True, sharey=True) as (fig, axes):
        for ax, model in zip(np.atleast_1d(axes), models, strict=True):
            for kind, part in drawn.filter(model=label(model)).group_by("kind", maintain_order=True):
                colour, dash = sns.color_palette("colorblind")[KINDS[kind[0]][0]], KINDS[kind[0]][1]
                edges = [*part["from"], part["to"][-1]]
                ax.stairs(part["density"], edges, color=colour, ls=dash, lw=1.6, label=kind[0])
                ax.axvline(results[model]["metrics"]["separation"][kind[0]], color=colour, ls=":", lw=1.2)
            ax.set(title=label(model), xlabel="cosine of a pair")
        ax.set_xlim(used["from"].min() - 0.05, used["to"].max() + 0.05)
        np.atleast_1d(axes)[0].set_ylabel("density (area 1)")
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, title="pairs\n(dotted: mean)")
    return fig, drawn


def probe(results: Mapping[str, Mapping], models: Sequence[str]) -> tuple[Figure, pl.DataFrame]:
    """Return the share of minimal pairs whose paraphrase is chosen, by category, with 95 % intervals and a coin's line.

    Drawn is ``choice``: is the paraphrase closer to the anchor than to the contradiction? The stricter ``probe`` of the same
    record has no chance line, because words alone get nearly all of it wrong.

    Args:
        results: model to its ``similarity`` record; ``counts`` is category to n, shown where it is given.
        models: names of records, the base first.
    """
    rows = [
        {"category": category, "model": label(m), "accuracy": p["accuracy"], "low": p["low"], "high": p["high"]}
        for m in models
        for category, p in results[m]["metrics"]["choice"].items()
    ]
    drawn = pl.DataFrame(rows)
    categories = sorted(drawn["category"].unique(maintain_order=True), key=lambda c: c == "all")
    counts = results[models[0]]["counts"]
    n = {c: f", n = {counts[c]:,}" if c in counts else "" for c in categories}
    with show.canvas(figsize=(6.4, (0.3 + 0.16 * len(models)) * len(categories) + 1.0)) as (fig, ax):
        for i, (model, colour) in enumerate(zip(models, show.colours(models), strict=True)):
            part = drawn.filter(model=label(model))
            y = [categories.index(c) + (i - (len(models) - 1) / 2) * 0.6 / len(models) for c in part["category"]]
            value = part["accuracy"].to_numpy()
            error = np.abs(np.stack([value - part["low"].to_numpy(), part["high"].to_numpy() - value]))
            style = {"fmt": show.MARKERS[i % len(show.MARKERS)], "ms": 5, "lw": 1.2, "capsize": 2}
            ax.errorbar(value, y, xerr=error, color=colour, label=label(model), **style)
        ax.axvline(0.5, color="black", ls="--", lw=1, label="a coin")
        ax.set(xlim=(-0.02, 1.02), xlabel="share of items whose paraphrase is chosen, bars: 95 % interval")
        ax.set_yticks(range(len(categories)), [f"{c.replace('_', ' ')}{n[c]}" for c in categories])
        ax.set_ylim(len(categories) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return fig, drawn
