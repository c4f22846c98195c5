"""How do the records of retrieval and similarity become figures? Each with the numbers drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from cardioembed_study import show
from cardioembed_study.retrieval.tables import ARMS, CONTRASTS, TOP_KS, in_order
from cardioembed_study.show import label, ordered

KINDS = {"similar": (0, "-"), "different": (2, "--"), "negated": (3, "-.")}  # colour and line of a kind of pair


def models(results: Mapping[str, Mapping], task: str, metric: str, name: str) -> tuple[Figure, pl.DataFrame]:
    """Return a bar a model with its 95 % interval (the papers' figures 1 and 11) and the numbers drawn."""
    columns = {metric: metric, "low": f"{metric}_low", "high": f"{metric}_high"}
    rows = [
        {"model": model} | {c: m[key] for c, key in columns.items()} for model, m in show.each(ordered(results), task)
    ]
    drawn = pl.DataFrame(rows)
    with show.canvas(figsize=(6.4, 0.42 * len(drawn) + 1.0)) as (fig, ax):
        show.bars(ax, drawn, list(columns), results)
        for y, value in enumerate(drawn[metric]):
            place, colour = (0.005, "white") if value > 0.1 else (value + 0.015, "black")
            ax.text(place, y, f"{value:.3f}", va="center", color=colour)
        ax.set(xlabel=f"{name}, bars: 95 % interval over documents", xlim=(0, 1))
    return fig, drawn


def accuracy_at_k(results: Mapping[str, Mapping], task: str) -> tuple[Figure, pl.DataFrame]:
    """Return Acc@k against k (the paper's figure 3), a line a model, and the numbers drawn."""
    rows = [
        {"model": model, "k": k, "accuracy": m[f"acc_at_{k}"]}
        for model, m in show.each(ordered(results), task)
        for k in TOP_KS
    ]
    drawn = pl.DataFrame(rows)
    with show.canvas(figsize=(6.4, 3.8)) as (fig, ax):
        show.lines(ax, drawn, "k", "accuracy")
        ax.set(xscale="log", xlabel="k, passages looked at", ylabel="Acc@k, share of queries", ylim=(0, 1.02))
        ax.set_xticks(TOP_KS, TOP_KS)
        ax.minorticks_off()
        show.legend(ax)
    return fig, drawn


def waterfall(results: Mapping[str, Mapping], tuned_mrr: float, base: str, task: str) -> tuple[Figure, pl.DataFrame]:
    """Return how MRR builds up from random to the tuned model (the paper's figure 9): the steps sum to the last bar."""
    mrr = {label(m): results[m]["metrics"][task]["mrr"] for m in (*show.FLOORS, base)} | {"tuned": tuned_mrr}
    steps = [after - before for before, after in pairwise([0, *mrr.values()])]
    drawn = pl.DataFrame({"model": list(mrr), "mrr": list(mrr.values()), "step": steps})
    with show.canvas(figsize=(6.4, 3.4)) as (fig, ax):
        for i, (_, end, step) in enumerate(drawn.rows()):
            ax.bar(i, step, bottom=end - step, color=show.COLOURS[0 if step >= 0 else 3])
            ax.text(i, max(end, end - step) + 0.012, f"{step:+.3f}", ha="center", fontsize=9)
        ax.set_xticks(range(len(drawn)), drawn["model"])
        ax.set(ylabel="MRR, and what each step adds", ylim=(0, 1))
        ax.grid(axis="x", visible=False)
    return fig, drawn


def pool_sizes(results: Mapping[str, Mapping], task: str) -> tuple[Figure, pl.DataFrame]:
    """Return MRR against the number of candidates, a line a model: a score means nothing without its pool's size."""
    rows = [
        {"model": model, "candidates": int(size), "mrr": point["mrr"]}
        for model, m in show.each(ordered(results), task)
        for size, point in m["pool_sizes"].items()
    ]
    drawn = pl.DataFrame(rows).sort("candidates", maintain_order=True)
    sizes = drawn["candidates"].unique(maintain_order=True).to_list()
    sizes = [a for a, b in pairwise(sizes) if b > 1.5 * a] + sizes[-1:]  # labels that would overlap are left out
    with show.canvas(figsize=(6.4, 3.4)) as (fig, ax):
        show.lines(ax, drawn, "candidates", "mrr", marker="o", ms=4)
        ax.set(xscale="log", xlabel="candidates in the pool", ylabel="MRR", ylim=(0, 1.02))
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
        ax.minorticks_off()
        show.legend(ax)
    return fig, drawn


def term_map(points: pl.DataFrame) -> tuple[Figure, pl.DataFrame]:
    """Return the UMAP of cardiology terms, base and tuned side by side, coloured by chapter.

    Args:
        points: columns ``model``, ``x``, ``y``, ``chapter``; chapters beyond the eight largest are "other".
    """
    models = points["model"].unique(maintain_order=True).to_list() or ["too few terms for a map"]
    sizes = points.filter(pl.col("chapter") != "other").group_by("chapter").len()
    chapters = sizes.sort("len", "chapter", descending=[True, False])["chapter"].to_list()
    size = (4.2 * len(models) + 2.2, 4)
    with show.canvas(1, len(models), figsize=size, squeeze=False, subplot_kw=show.MAP) as (fig, (axes,)):
        for ax, model in zip(axes, models, strict=True):
            show.scatter(ax, points.filter(model=model), "chapter", chapters, s=14)
            ax.set_title(model)
        show.legend(ax)
    return fig, points


def separation(results: Mapping[str, Mapping]) -> tuple[Figure, pl.DataFrame]:
    """Return a bar a model: mean cosine of similar minus of different pairs, with its 95 % interval (figure 1 of the study).

    Args:
        results: model to its ``similarity`` record.
    """
    ends = ("separation", "separation_low", "separation_high")
    keys = (*ends, "similar", "different", "negated")
    rows = [{"model": model} | {key: m[key] for key in keys} for model, m in show.each(ordered(results), "separation")]
    drawn = pl.DataFrame(rows)
    low, high = drawn["separation_low"].min(), drawn["separation_high"].max()
    with show.canvas(figsize=(6.4, 0.42 * len(drawn) + 1.0)) as (fig, ax):
        show.bars(ax, drawn, ends, results)
        for y, (value, _, end) in enumerate(drawn.select(ends).rows()):
            ax.annotate(f"{value:.3f}", (max(end, 0), y), (5, 0), textcoords="offset points", va="center")
        ax.axvline(0, color="black", lw=0.8)
        ax.set(xlim=(min(0, 1.1 * low), 1.2 * max(high, 0.1)))
        ax.set_xlabel("separation: mean cosine of similar minus different pairs\nbars: 95 % interval over pairs")
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
            rows += [(label(model), kind, *map(float, cell)) for cell in cells]
    drawn = pl.DataFrame(rows, schema=["model", "kind", "from", "to", "pairs", "density"], orient="row")
    used = drawn.filter(pl.col("pairs") > 0)
    size = (3.6 * len(models) + 1.4, 3.4)
    with show.canvas(1, len(models), figsize=size, sharex=True, sharey=True, squeeze=False) as (fig, (axes,)):
        for ax, model in zip(axes, models, strict=True):
            for (kind,), part in drawn.filter(model=label(model)).group_by("kind", maintain_order=True):
                colour, dash = show.COLOURS[KINDS[kind][0]], KINDS[kind][1]
                edges = [*part["from"], part["to"][-1]]
                ax.stairs(part["density"], edges, color=colour, ls=dash, lw=1.6, label=kind)
                ax.axvline(results[model]["metrics"]["separation"][kind], color=colour, ls=":", lw=1.2)
            ax.set(title=label(model), xlabel="cosine of a pair")
        ax.set_xlim(used["from"].min() - 0.05, used["to"].max() + 0.05)
        axes[0].set_ylabel("density (area 1)")
        show.legend(ax, fontsize=None, title="pairs\n(dotted: mean)")
    return fig, drawn


def probe(results: Mapping[str, Mapping], models: Sequence[str]) -> tuple[Figure, pl.DataFrame]:
    """Return the share of minimal pairs whose paraphrase is chosen, by category, with 95 % intervals.

    Drawn is ``choice``: is the paraphrase closer to the anchor than to the contradiction? What words alone give is the mark
    to pass, not one half, so TF-IDF is drawn among the models.

    Args:
        results: model to its ``similarity`` record; ``counts`` is category to n, shown where it is given.
        models: names of records, the base first.
    """
    rows = [
        {"category": category, "model": label(m), **{key: answers[key] for key in ("accuracy", "low", "high")}}
        for m in models
        for category, answers in results[m]["metrics"]["choice"].items()
    ]
    drawn = pl.DataFrame(rows)
    categories = sorted(drawn["category"].unique(maintain_order=True), key=lambda c: c == "all")
    counts = results[models[0]]["counts"]
    n = {c: f", n = {counts[c]:,}" if c in counts else "" for c in categories}
    with show.canvas(figsize=(6.4, (0.3 + 0.16 * len(models)) * len(categories) + 1.0)) as (fig, ax):
        for i, model in enumerate(map(label, models)):
            part = drawn.filter(model=model)
            y = [categories.index(c) + (i - (len(models) - 1) / 2) * 0.6 / len(models) for c in part["category"]]
            show.dots(ax, part, "accuracy", y, i, label=model, ms=5, lw=1.2, capsize=2)
        ax.set(xlim=(-0.02, 1.02), xlabel="share of items whose paraphrase is chosen, bars: 95 % interval")
        ax.set_yticks(range(len(categories)), [f"{c.replace('_', ' ')}{n[c]}" for c in categories])
        ax.set_ylim(len(categories) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
        show.legend(ax, fontsize=None)
    return fig, drawn


def matrix(record: Mapping | None) -> tuple[Figure, pl.DataFrame]:
    """Return each arm less the base on each task, a row an arm, as a heat map with the numbers written in.

    Args:
        record: ``domain.matrix``; ``None`` where the experiment was not run.
    """
    if record is None:
        return show.nothing("the experiment on specialty and format was not run")
    rows = [
        {"arm": ARMS.get(arm, arm), "task": task, **{key: m[key] for key in ("difference", "low", "high")}}
        for arm, tasks in in_order(record["metrics"]["arms"], ARMS)
        for task, m in tasks.items()
    ]
    drawn = pl.DataFrame(rows)
    arms, tasks = (drawn[name].unique(maintain_order=True).to_list() for name in ("arm", "task"))
    ends = max(drawn["difference"].abs().max(), 1e-6)
    colours, scale = mpl.colormaps["PuOr"], mpl.colors.Normalize(-ends, ends)
    with show.canvas(figsize=(max(0.85 * len(tasks), 4.5) + 0.2, 0.72 * len(arms) + 1.2)) as (fig, ax):
        for arm, task, value, low, high in drawn.rows():
            x, y = tasks.index(task), arms.index(arm)
            colour = colours(scale(value))
            ink = "black" if sum(colour[:3]) > 1.5 else "white"
            ax.add_patch(mpl.patches.Rectangle((x, y + 0.34), 1, 0.62, facecolor=colour, edgecolor="white"))
            style = {"ha": "center", "va": "center", "color": ink}
            weight = "bold" if low > 0 or high < 0 else "normal"
            ax.text(x + 0.5, y + 0.53, f"{value:+.3f}", weight=weight, **style)
            ax.text(x + 0.5, y + 0.79, f"{low:+z.2f}, {high:+z.2f}", fontsize=8, **style)
        for y, arm in enumerate(arms):
            ax.text(0, y + 0.18, f"trained on {arm}", va="center", fontsize=9)
        names = [_in_lines(task, record["counts"][task]["queries"]) for task in tasks]
        ax.set_xticks(np.arange(len(tasks)) + 0.5, names, fontsize=8)
        ax.set(xlim=(0, len(tasks)), ylim=(len(arms), 0), yticks=[])
        ax.set_xlabel(
            "profile domain: MRR less the base's, and its 95 % interval\nbold: interval without 0; purple: better, orange: worse"
        )
        ax.grid(visible=False)
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.tick_params(length=0)
    return fig, drawn


def contrasts(parts: Mapping[str, Mapping[str, Mapping]]) -> tuple[Figure, pl.DataFrame]:
    """Return contrasts of arms as a forest plot, each by query and, where it is known, by document.

    Args:
        parts: a title to contrasts by name, as ``contrasts.measured`` gives them; none where the experiment was not run.
    """
    rows = [
        {"group": title, "row": f"{CONTRASTS.get(name, name)}, n = {c['queries']:,} from {c['documents']:,} documents"}
        | {"mark": mark, "value": m["difference"], "low": m["low"], "high": m["high"]}
        for title, found in parts.items()
        for name, c in in_order(found, CONTRASTS)
        for mark, m in (("each query counts as one", c), ("each document counts as one", c.get("by_document")))
        if m
    ]
    if not rows:
        return show.nothing("the experiment on specialty and format was not run")
    drawn = pl.DataFrame(rows)
    return show.forest(drawn, "difference of MRR\nbars: 95 % interval over documents"), drawn


def _in_lines(task: str, n: int) -> str:
    """Return a task's name in the lines of a narrow column: its kind, its topic, n."""
    kind, _, topic = task.rpartition("_")
    words = {"definition": "definitions", "heading": "headings", "medquad": "MedQuAD\nquestions"}.get(kind, kind)
    return f"{words},\n{topic}\nn = {n:,}"
