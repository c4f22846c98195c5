"""How do the comparative study's and forgetting's records become figures? In the style, and by the rules, of ``figures``.

Every function returns the figure and the numbers drawn. Published numbers are grey and hollow, ours are filled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from cardioembed_lib.figures import STYLE
from cardioembed_lib.report import FLOORS, label, ordered
from cardioembed_lib.study_tables import GAIN, LOSS

KINDS = {"similar": (0, "-"), "different": (2, "--"), "negated": (3, "-.")}  # colour and line of a kind of pair
MARKERS = "osv^DPX*<>hHpd"
AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # where a name may stand, best first
RADAR = {  # axis: (measurement, task, metric), each 0..1
    "cardiology\ndefinitions, MRR": ("retrieval", "definition_cardiology", "mrr"),
    "BIOSSES,\nSpearman": ("mteb", "BIOSSES", "main_score"),
    "SciFact,\nnDCG@10": ("mteb", "SciFact", "main_score"),
    "NFCorpus,\nnDCG@10": ("mteb", "NFCorpus", "main_score"),
    "MedQuAD\nquestions, MRR": ("retrieval", "medquad_questions", "mrr"),
}


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
    with _canvas(figsize=(6.4, 0.42 * len(models) + 1.0)) as (fig, ax):
        colours = [sns.color_palette("colorblind")[_family(m, results)] for m in models]
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
    with _canvas(1, len(models), figsize=(3.6 * len(models) + 1.4, 3.4), sharex=True, sharey=True) as (fig, axes):
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
    with _canvas(figsize=(6.4, (0.3 + 0.16 * len(models)) * len(categories) + 1.0)) as (fig, ax):
        for i, (model, colour) in enumerate(zip(models, _colours(models), strict=True)):
            part = drawn.filter(model=label(model))
            y = [categories.index(c) + (i - (len(models) - 1) / 2) * 0.6 / len(models) for c in part["category"]]
            value = part["accuracy"].to_numpy()
            error = np.abs(np.stack([value - part["low"].to_numpy(), part["high"].to_numpy() - value]))
            style = {"fmt": MARKERS[i % len(MARKERS)], "ms": 5, "lw": 1.2, "capsize": 2}
            ax.errorbar(value, y, xerr=error, color=colour, label=label(model), **style)
        ax.axvline(0.5, color="black", ls="--", lw=1, label="a coin")
        ax.set(xlim=(-0.02, 1.02), xlabel="share of items whose paraphrase is chosen, bars: 95 % interval")
        ax.set_yticks(range(len(categories)), [f"{c.replace('_', ' ')}{n[c]}" for c in categories])
        ax.set_ylim(len(categories) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return fig, drawn


def latency(record: Mapping) -> tuple[Figure, pl.DataFrame]:
    """Return milliseconds a text, an arm of ``benchmarks/encode.py`` a line: the mean and, at the line's end, P95."""
    return _speed(record, "latency_ms", "latency_p95_ms", "ms a text, one text at a time: mean, and 95th percentile")


def throughput(record: Mapping) -> tuple[Figure, pl.DataFrame]:
    """Return texts a second in batches, an arm of ``benchmarks/encode.py`` a line."""
    size = record["params"]["batch_size"]
    return _speed(record, "texts_per_s", "texts_per_s", f"texts/s, {size} texts at a time")


def memory_against_parameters(record: Mapping, published: pl.DataFrame | None = None) -> tuple[Figure, pl.DataFrame]:
    """Return memory against size: what a process grew by to load and run a model, and the published numbers.

    Args:
        record: of ``benchmarks/encode.py``.
        published: columns ``model``, ``parameters`` (millions), ``memory_gb``.
    """
    rows = [
        {"model": name, "parameters": m["parameters"] / 1e6, "memory_gb": m["peak_gb"], "published": False}
        for name, m in record["metrics"].items()
    ]
    drawn = _joined(rows, published)
    with _canvas(figsize=(7.2, 5.2)) as (fig, ax):
        ends = np.array([drawn["parameters"].min() / 1.5, drawn["parameters"].max() * 1.5])
        for size, dash in ((4, "-"), (2, ":")):
            ax.plot(ends, ends * size / 1000, color="grey", lw=1, ls=dash, label=f"weights alone, {size} bytes each")
        _points(ax, drawn, "parameters", "memory_gb")
        ax.set(xscale="log", yscale="log", xlabel="parameters, millions", ylabel="memory, GB (10⁹ bytes)")
        _plain_ticks(ax)
        ax.legend(fontsize=8, frameon=False, loc="upper left")
        _names(ax, drawn, "parameters", "memory_gb")
    return fig, drawn


def pareto(points: Sequence[tuple[str, float, float]]) -> list[str]:
    """Return the names of the points that no other one beats: none is as cheap and as good, and in one of both better.

    Args:
        points: (name, cost, gain); less cost and more gain are better.

    Returns:
        Names, the cheapest first; equal points stay together.

    >>> pareto([("small", 1, 0.2), ("slow", 3, 0.1), ("large", 3, 0.5)])
    ['small', 'large']
    """
    best = [
        (cost, -gain, name)
        for name, cost, gain in points
        if not any(c <= cost and g >= gain and (c, g) != (cost, gain) for _, c, g in points)
    ]
    return [name for _, _, name in sorted(best)]


def latency_against_separation(points: pl.DataFrame) -> tuple[Figure, pl.DataFrame]:
    """Return separation against latency, a panel a machine: milliseconds of two machines share no axis.

    In each panel a line joins the points that no other beats, published and ours apart: their pairs are not the same.

    Args:
        points: columns ``model``, ``latency_ms``, ``separation``, ``machine`` (of the latency), ``published`` (of the
            separation: from the ledger, or measured here).
    """
    parts = dict(iter(points.group_by("machine", "published", maintain_order=True)))
    best = {key: pareto(part.select("model", "latency_ms", "separation").rows()) for key, part in parts.items()}
    on_line = [r["model"] in best[r["machine"], r["published"]] for r in points.iter_rows(named=True)]
    drawn = points.with_columns(pl.Series("pareto", on_line, dtype=pl.Boolean))
    machines = drawn["machine"].unique(maintain_order=True).to_list()
    with _canvas(1, len(machines), figsize=(4.6 * len(machines) + 1.2, 4.2), sharey=True) as (fig, axes):
        for ax, machine in zip(np.atleast_1d(axes), machines, strict=True):
            part = drawn.filter(machine=machine)
            _points(ax, part, "latency_ms", "separation")
            for published in (True, False):
                line = part.filter(pl.col("pareto") & (pl.col("published") == published)).sort("latency_ms")
                style = {"color": "grey" if published else sns.color_palette("colorblind")[0], "lw": 1, "ls": "--"}
                name = "no other is faster and better" if len(line) else None
                ax.step(line["latency_ms"], line["separation"], where="post", zorder=1, label=name, **style)
            ax.set(xscale="log", title=machine, xlabel="ms a text")
            ax.margins(0.15)
            _plain_ticks(ax, "x")
        np.atleast_1d(axes)[0].set_ylabel("separation (difference of mean cosines)")
        shown = {text: mark for ax in np.atleast_1d(axes) for mark, text in _legend(ax)}
        fig.legend(shown.values(), shown, loc="outside lower center", ncols=len(shown), frameon=False)
        for ax, machine in zip(np.atleast_1d(axes), machines, strict=True):
            _names(ax, drawn.filter(machine=machine), "latency_ms", "separation")
    return fig, drawn


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
    with _canvas(figsize=(1.15 * len(tasks) + 2.4, 0.42 * len(models) + 1.5)) as (fig, ax):
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
        return _nothing("too few scores for a radar")
    drawn = pl.DataFrame({"model": [label(m) for m in models]} | {a.replace("\n", " "): v for a, v in found.items()})
    angles = np.linspace(0, 2 * np.pi, len(found), endpoint=False)
    with _canvas(figsize=(6.4, 5.2), subplot_kw={"projection": "polar"}) as (fig, ax):
        for i, (model, colour) in enumerate(zip(models, _colours(models), strict=True)):
            values = np.array([v[i] for v in found.values()], dtype=float)
            closed = [np.append(values, values[0]), np.append(angles, angles[0])]
            ax.plot(
                closed[1], closed[0], color=colour, lw=1.5, marker=MARKERS[i % len(MARKERS)], ms=5, label=label(model)
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
        return _nothing("no run was measured on benchmarks in this profile")
    drawn = points.with_columns(reached=(pl.col("gain") >= GAIN) & (pl.col("loss") <= LOSS))
    with _canvas(figsize=(6.4, 4.4)) as (fig, ax):
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
        _names(ax, drawn.rename({"name": "model"}), "gain", "loss")
    return fig, drawn


def merge_curve(record: Mapping | None, chosen: float | None = None) -> tuple[Figure, pl.DataFrame]:
    """Return what merging a share of the adapter changes on dev, a line a quantity: its difference from the base.

    Args:
        record: ``curve``; ``metrics`` holds ``weight``, the shares α with 0 among them, and for each quantity as many values;
            ``None`` where the profile has none.
        chosen: the α that was taken, marked.
    """
    if record is None:
        return _nothing("no merge curve in this profile")
    weights = record["metrics"]["weight"]
    rows = [
        {"quantity": name, "alpha": float(alpha), "value": value, "difference": value - values[weights.index(0)]}
        for name, values in record["metrics"].items()
        if name != "weight"
        for alpha, value in sorted(zip(weights, values, strict=True))
    ]
    drawn = pl.DataFrame(rows)
    quantities = drawn["quantity"].unique(maintain_order=True).to_list()
    with _canvas(figsize=(6.4, 3.8)) as (fig, ax):
        for i, (name, colour) in enumerate(zip(quantities, _colours(quantities), strict=True)):
            part = drawn.filter(quantity=name)
            style = {"color": colour, "marker": MARKERS[i % len(MARKERS)], "ms": 5, "lw": 1.4}
            ax.plot(part["alpha"], part["difference"], label=name.replace("_", " "), **style)
        ax.axhline(0, color="black", lw=0.8)
        if chosen is not None:
            ax.axvline(chosen, color="grey", ls="--", lw=1, label=f"taken: {chosen:g}")
        ax.set(xlabel="α, share of the adapter that is merged", ylabel="difference from the base, on dev")
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return fig, drawn


def ablation(rows: Sequence[Mapping], metric: str) -> tuple[Figure, pl.DataFrame]:
    """Return a score against the share of the data, a panel a loss, a line a rank: the seeds' mean and range.

    Args:
        rows: mappings with ``share`` (0..1), ``loss``, ``rank``, ``seed``, ``value``; none where the profile has no grid.
        metric: what ``value`` is, for the axis.
    """
    if not rows:
        return _nothing("no ablation in this profile")
    value = pl.col("value")
    grouped = pl.DataFrame(list(rows)).group_by("loss", "rank", "share", maintain_order=True)
    drawn = grouped.agg(mean=value.mean(), low=value.min(), high=value.max(), seeds=pl.len())
    drawn = drawn.sort("rank", "share", maintain_order=True)
    losses, ranks = (drawn[c].unique(maintain_order=True).to_list() for c in ("loss", "rank"))
    shares = sorted(drawn["share"].unique())
    with _canvas(1, len(losses), figsize=(3.2 * len(losses) + 1.4, 3.4), sharey=True) as (fig, axes):
        for ax, loss in zip(np.atleast_1d(axes), losses, strict=True):
            for i, (rank, colour) in enumerate(zip(ranks, sns.color_palette("colorblind", len(ranks)), strict=True)):
                part = drawn.filter(pl.col("loss") == loss, pl.col("rank") == rank)
                x = [shares.index(s) + (i - (len(ranks) - 1) / 2) * 0.12 for s in part["share"]]
                error = np.abs([part["mean"] - part["low"], part["high"] - part["mean"]])
                style = {"color": colour, "marker": MARKERS[i % len(MARKERS)], "ms": 5, "lw": 1.2, "capsize": 3}
                ax.errorbar(x, part["mean"], yerr=error, label=rank, **style)
            ax.set(title=loss, xlabel="share of the training pairs")
            ax.set_xticks(range(len(shares)), [f"{s:.0%}" for s in shares])
            ax.set_xlim(-0.5, len(shares) - 0.5)
        np.atleast_1d(axes)[0].set_ylabel(f"{metric}\nmean and range of seeds")
        ax.legend(title="rank", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return fig, drawn


@contextmanager
def _canvas(*args, **kwargs) -> Iterator[tuple[Figure, Axes]]:
    """Give an empty figure in the house's style, and close it, so that a notebook shows it once."""
    with mpl.rc_context(STYLE):
        fig, axes = plt.subplots(*args, **kwargs)
        try:
            yield fig, axes
        finally:
            plt.close(fig)


def _speed(record: Mapping, key: str, far: str, name: str) -> tuple[Figure, pl.DataFrame]:
    """Return a line an arm on a logarithmic axis, from the value to a farther one; random weights are hollow."""
    arms = dict(sorted(record["metrics"].items(), key=lambda item: item[1][key], reverse=key == far))
    columns = {"model": list(arms), key: [m[key] for m in arms.values()], far: [m[far] for m in arms.values()]}
    drawn = pl.DataFrame(columns | {"random_weights": [m["random_weights"] for m in arms.values()]})
    palette = sns.color_palette("colorblind")
    machine = f"{record['device']}, {record['counts']['threads']} threads"
    machine += ", busy with other work" if record["params"]["contended"] else ""
    with _canvas(figsize=(7.2, 0.36 * len(arms) + 1.3)) as (fig, ax):
        for y, m in enumerate(arms.values()):
            colour = "dimgrey" if m["random_weights"] else palette[1] if m["adapter"] else palette[0]
            if far != key:
                ax.plot([m[key], m[far]], [y, y], color=colour, lw=1.2, marker="|", ms=9, markevery=[1])
            ax.plot(m[key], y, "o", ms=7, color=colour, mfc="white" if m["random_weights"] else colour)
            end = (max(m[key], m[far]), y)
            ax.annotate(f"{m[key]:.3g}", end, (9, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set_yticks(range(len(arms)), drawn["model"])
        ax.set(xscale="log", xlabel=f"{name}\nhollow: that shape with random weights\n{machine}")
        ax.set_xlim(0.7 * drawn[key].min(), 2 * drawn[far].max())
        ax.set_ylim(len(arms) - 0.5, -0.5)
        _plain_ticks(ax, "x")
    return fig, drawn


def _joined(rows: Sequence[Mapping], published: pl.DataFrame | None) -> pl.DataFrame:
    """Return our points and, below them, the published ones."""
    ours = pl.DataFrame(list(rows))
    if published is None:
        return ours
    return pl.concat(
        [ours, published.with_columns(published=pl.lit(True)).select(ours.columns)], how="vertical_relaxed"
    )


def _points(ax: Axes, points: pl.DataFrame, x: str, y: str) -> None:
    """Draw ours filled and the published grey and hollow."""
    blue = sns.color_palette("colorblind")[0]
    for published, name, face, edge in ((False, "measured here", blue, blue), (True, "published", "white", "grey")):
        part = points.filter(pl.col("published") == published)
        if len(part):
            ax.scatter(part[x], part[y], s=34, facecolor=face, edgecolor=edge, linewidth=1.4, label=name, zorder=3)


def _legend(ax: Axes) -> list[tuple]:
    """Return what an axes' legend would show: marks with their names."""
    return list(zip(*ax.get_legend_handles_labels(), strict=True))


def _plain_ticks(ax: Axes, which: str = "both") -> None:
    """Write a logarithmic axis's numbers as people do: 0.2, 5, 200."""
    for axis in [ax.xaxis] * (which != "y") + [ax.yaxis] * (which != "x"):
        axis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_minor_locator(mpl.ticker.NullLocator())


def _names(ax: Axes, points: pl.DataFrame, x: str, y: str) -> None:
    """Write each point's name beside it, where it covers least of the other points, of the names and of the frame."""
    ax.figure.draw_without_rendering()  # so that the axes have their place: nothing that moves them may come later
    centres = ax.transData.transform(points.select(x, y).to_numpy())
    taken = [Bbox.from_bounds(px - 5, py - 5, 10, 10) for px, py in centres]
    for name, *point in points.select("model", x, y).rows():
        tried = [_name(ax, name, point, r * dx, r * dy) for r in (7, 16, 28) for dx, dy in AROUND]
        costs = []
        for _, box in tried:
            outside = _area(box) - _area(Bbox.intersection(box, ax.bbox))
            costs.append(sum(_area(Bbox.intersection(box, other)) for other in taken) + 3 * outside)
        kept = int(np.argmin(costs))
        taken.append(tried[kept][1])
        for text, _ in tried[:kept] + tried[kept + 1 :]:
            text.remove()


def _name(ax: Axes, name: str, point: Sequence[float], dx: int, dy: int) -> tuple[Annotation, Bbox]:
    """Return a name so many points away from its own point, with a thin line if that is far, and the name's frame."""
    text = ax.annotate(
        name,
        point,
        (dx, dy),
        textcoords="offset points",
        fontsize=8,
        ha=("center", "left", "right")[np.sign(dx)],
        va=("center", "bottom", "top")[np.sign(dy)],
        arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "grey"} if max(abs(dx), abs(dy)) > 7 else None,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},  # so that no line crosses a name
    )
    text.set_in_layout(False)
    renderer = ax.figure.canvas.get_renderer()
    text.update_positions(renderer)
    return text, Text.get_window_extent(text, renderer)  # without the line


def _area(box: Bbox | None) -> float:
    return box.width * box.height if box is not None else 0.0


def _colours(names: Sequence[str]) -> list:
    return sns.color_palette("colorblind", len(names))


def _family(model: str, results: Mapping[str, Mapping]) -> int:
    """Return a colour's number: floors, base, tuned."""
    return 7 if model in FLOORS else 0 if model == results[model]["params"].get("base") else 1


def _nothing(why: str) -> tuple[Figure, pl.DataFrame]:
    """Return a figure that says why nothing is drawn, so that every profile's pages show the same figures."""
    with _canvas(figsize=(6.4, 0.8)) as (fig, ax):
        ax.text(0.5, 0.5, why, ha="center", va="center")
        ax.set_axis_off()
    return fig, pl.DataFrame({"why": [why]})
