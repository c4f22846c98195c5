"""How do the comparative study's and forgetting's records become figures? In the style, and by the rules, of ``figures``.

Every function returns the figure and the numbers drawn. Published numbers are grey and hollow, ours are filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.figure import Figure

from cardioembed_study import show
from cardioembed_study.forgetting.tables import GAIN, LOSS
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
    models = ordered(results)
    tasks = list(dict.fromkeys(task for m in models for task in results[m]["metrics"]))
    scores = [[results[m]["metrics"].get(t, {}).get("main_score") for t in tasks] for m in models]
    drawn = pl.DataFrame(
        {"model": [label(m) for m in models]} | dict(zip(tasks, zip(*scores, strict=True), strict=True))
    )
    grid = np.array(scores, dtype=float)
    with show.canvas(figsize=(1.15 * len(tasks) + 2.4, 0.42 * len(models) + 1.5)) as (fig, ax):
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

    def score(model: str, measurement: str, task: str, metric: str) -> float | None:
        return records.get(measurement, {}).get(model, {}).get("metrics", {}).get(task, {}).get(metric)

    found = {axis: [score(m, *place) for m in models] for axis, place in axes.items()}
    found = {axis: values for axis, values in found.items() if any(v is not None for v in values)}
    if len(found) < 3:
        return show.nothing("too few scores for a radar")
    drawn = pl.DataFrame({"model": [label(m) for m in models]} | {a.replace("\n", " "): v for a, v in found.items()})
    angles = np.linspace(0, 2 * np.pi, len(found), endpoint=False)
    with show.canvas(figsize=(6.4, 5.2), subplot_kw={"projection": "polar"}) as (fig, ax):
        for i, (model, colour) in enumerate(zip(models, show.colours(models), strict=True)):
            values = np.array([v[i] for v in found.values()], dtype=float)
            closed = [np.append(values, values[0]), np.append(angles, angles[0])]
            ax.plot(
                closed[1],
                closed[0],
                color=colour,
                lw=1.5,
                marker=show.MARKERS[i % len(show.MARKERS)],
                ms=5,
                label=label(model),
            )
        ax.set_xticks(angles, list(found))
        ax.set(ylim=(0, 1), yticks=[0.2, 0.4, 0.6, 0.8, 1.0], theta_offset=np.pi / 2, theta_direction=-1)
        for text, angle in zip(ax.get_xticklabels(), angles, strict=True):
            text.set_ha("left" if np.sin(angle) > 0.1 else "right" if np.sin(angle) < -0.1 else "center")
        ax.set_rlabel_position(180 / len(found))
        fig.legend(loc="outside lower center", ncols=len(models), frameon=False)
    return fig, drawn


def frontier(points: pl.DataFrame) -> tuple[Figure, pl.DataFrame]:
    """Return what each run gained against what it lost, with the corner aimed at.

    Args:
        points: columns ``name``; ``gain``, in MRR of held-out cardiology definitions; ``loss``, base minus tuned on the
            benchmark that lost most, in its main score (negative: every benchmark gained).
    """
    if points.is_empty():
        return show.nothing("no run was measured on benchmarks in this profile")
    drawn = points.with_columns(reached=(pl.col("gain") >= GAIN) & (pl.col("loss") <= LOSS))
    with show.canvas(figsize=(6.4, 4.4)) as (fig, ax):
        ax.scatter(drawn["gain"], drawn["loss"], s=30, color=sns.color_palette("colorblind")[0], zorder=3)
        low, high = min(drawn["gain"].min(), 0), max(drawn["gain"].max(), GAIN)
        ax.set_xlim(low - 0.12 * (high - low), high + 0.2 * (high - low))
        low, high = min(drawn["loss"].min(), 0), max(drawn["loss"].max(), LOSS)
        ax.set_ylim(low - 0.12 * (high - low), high + 0.12 * (high - low))
        green = sns.color_palette("colorblind")[2]
        ax.fill_between([GAIN, ax.get_xlim()[1]], ax.get_ylim()[0], LOSS, color=green, alpha=0.2, lw=0)
        ax.axhline(0, color="black", lw=0.8)
        ax.set(xlabel="gained: MRR of held-out cardiology definitions, tuned minus base")
        ax.set_ylabel("lost on the worst benchmark:\nmain score, base minus tuned")
        ax.set_title(f"shaded: gained at least {GAIN}, lost at most {LOSS}", fontsize=10)
        show.names(ax, drawn.rename({"name": "model"}), "gain", "loss")
    return fig, drawn


def merge_curve(record: Mapping | None, chosen: float | None = None) -> tuple[Figure, pl.DataFrame]:
    """Return what merging a share of the adapter changes on dev, a line a quantity: its difference from the base.

    Args:
        record: ``curve``; ``metrics`` holds ``weight``, the shares α with 0 among them, and for each quantity as many values;
            ``None`` where the profile has none.
        chosen: the α that was taken, marked.
    """
    if record is None:
        return show.nothing("no merge curve in this profile")
    weights = record["metrics"]["weight"]
    rows = [
        {"quantity": name, "alpha": float(alpha), "value": value, "difference": value - values[weights.index(0)]}
        for name, values in record["metrics"].items()
        if name != "weight"
        for alpha, value in sorted(zip(weights, values, strict=True))
    ]
    drawn = pl.DataFrame(rows)
    quantities = drawn["quantity"].unique(maintain_order=True).to_list()
    with show.canvas(figsize=(6.4, 3.8)) as (fig, ax):
        for i, (name, colour) in enumerate(zip(quantities, show.colours(quantities), strict=True)):
            part = drawn.filter(quantity=name)
            style = {"color": colour, "marker": show.MARKERS[i % len(show.MARKERS)], "ms": 5, "lw": 1.4}
            ax.plot(part["alpha"], part["difference"], label=name.replace("_", " "), **style)
        ax.axhline(0, color="black", lw=0.8)
        if chosen is not None:
            ax.axvline(chosen, color="grey", ls="--", lw=1, label=f"taken: {chosen:g}")
        ax.set(xlabel="α, share of the adapter that is merged", ylabel="difference from the base, on dev")
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return fig, drawn
