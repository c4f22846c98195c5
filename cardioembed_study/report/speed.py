"""What do the records of `benchmarks/` say, in tables and figures?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cardioembed_study import show


def preparation_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what ``benchmarks/mimic.py`` measured: the full size, and a tenth of it beside pandas, as published.

    The notes are random words in MIMIC-III's tables; busy cores make times longer.
    """
    n, tenth = record["counts"]["notes_read"], record["metrics"]["tenth"]
    lines = [
        ("mimic.prepare, full size", n, record["metrics"]["prepare"]),
        ("mimic.prepare, a tenth", n // 10, tenth["prepare"]),
        ("pandas, a tenth", n // 10, tenth["pandas"]),
    ]
    return [
        {
            "generated tables": name,
            "notes": n,
            "seconds": f"{m['seconds']:.0f}",
            "processor, s": f"{m['cpu_seconds']:.0f}",
            "peak memory, GB": f"{m['peak_gb']:.2f}",
        }
        for name, n, m in lines
    ]


def speed_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what ``benchmarks/encode.py`` measured, a row an arm, in the columns of the study's table."""
    return [
        {
            "model": name,
            "weights": "random" if m["random_weights"] else "real",
            "width": m["width"],
            "parameters, M": m["parameters"] / 1e6,
            "latency, ms": m["latency_ms"],
            "P95, ms": m["latency_p95_ms"],
            "texts/s": m["texts_per_s"],
            "memory, GB": m["peak_gb"],
        }
        for name, m in record["metrics"].items()
    ]


def published(ledger: Mapping[str, Any]) -> pl.DataFrame:
    """Return the study's own numbers: ``model``, ``parameters`` (millions), ``separation``, ``latency_ms``, ``memory_gb``."""
    places = {
        "parameters": ("table1", "parameters"),
        "separation": ("table1", "separation"),
        "latency_ms": ("speed", "latency_mean"),
        "memory_gb": ("speed", "memory"),
    }
    models = [m[1] for key in ledger if (m := re.fullmatch(r"comparative\.speed\.(.*)\.memory", key))]
    rows = [
        {"model": m} | {column: ledger[f"comparative.{table}.{m}.{of}"].value for column, (table, of) in places.items()}
        for m in models
    ]
    return pl.DataFrame(rows)


def speed_points(
    record: Mapping[str, Any], similarity: Mapping[str, Mapping], ledger: Mapping[str, Any], models: Sequence[str]
) -> pl.DataFrame:
    """Return latency and separation of the study's models as published, and of ours as measured here.

    Args:
        record: of ``benchmarks/encode.py``.
        similarity: model to record.
        ledger: of claims.
        models: the base, then the runs shown; a merged adapter costs what the base costs.
    """
    theirs = published(ledger).select("model", "latency_ms", "separation")
    theirs = theirs.with_columns(machine=pl.lit("as published (one GPU)"), published=pl.lit(True))
    latency = next(m["latency_ms"] for m in record["metrics"].values() if m["model"] == models[0])
    scores = [similarity[m]["metrics"]["separation"]["separation"] for m in models]
    ours = pl.DataFrame({"model": models, "latency_ms": latency, "separation": scores})
    machine = pl.lit(f"measured here ({record['device']})")
    return pl.concat([theirs, ours.with_columns(machine=machine, published=pl.lit(False))])


PEERS = {"training": "train", "reading": "read"}  # what is done, and the record that says how fast
LIMITS = {"limit": 7, "limit in int8": 7}
ARMS = {"ours": 0, "peer": 1, "peer, base dropout 0": 2, "peer in float32": 2} | LIMITS  # and its colour


def peer_rows(records: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return what ``benchmarks/train.py`` measured, a row an arm: the middle of the rounds, and ours over it, round by round.

    Args:
        records: what is done (training, reading) to the record.
    """
    return [
        {
            "what": what,
            "precision": precision,
            "who": name,
            "a second": f"{m['median']:.0f} {unit}",
            "ours is so many times as fast": ""
            if name == "ours"
            else "{:.2f} ({:.2f} to {:.2f})".format(*m["ours_over_it"]),
        }
        for what, unit, precision, name, m in _peers(records)
    ]


def mining_rows(record: Mapping) -> list[dict[str, Any]]:
    """Return what ``benchmarks/mining.py`` measured, in the columns of ``peer_rows``."""
    m, n = record["metrics"], record["counts"]["texts"]
    over = "{peer_over_ours:.2f} ({least:.2f} to {most:.2f})".format(**m)
    return [
        {
            "what": "mining",
            "precision": "float32",
            "who": who,
            "a second": f"{n / m[f'{who}_seconds']:,.0f} pairs",
            "ours is so many times as fast": over if who == "peer" else "",
        }
        for who in ("ours", "peer")
    ]


def part_rows(record: Mapping) -> list[dict[str, Any]]:
    """Return what ``benchmarks/train.py --explore`` measured: speed without each part, and over the whole, round by round."""
    rows = []
    for arm, m in record["metrics"].items():
        precision, name = arm.split(", ")
        whole = record["metrics"][f"{precision}, all"]["all"]
        shares = [one / other for one, other in zip(m["all"], whole, strict=True)]
        spread = f"{np.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
        rows.append({"training": name, "precision": precision, "pairs/s": f"{m['median']:.0f}", "of the whole": spread})
    return sorted(rows, key=lambda row: (row["precision"] != "float32", row["training"] != "all"))


def share_rows(record: Mapping) -> list[dict[str, Any]]:
    """Return where a step's time goes in one thread, as ``benchmarks/train.py --explore`` profiled it, a row a kind of work."""
    shares = {of: record["params"][f"{of}, shares of a step"] for of in ("float32", "bfloat16")}
    names = sorted(shares["float32"], key=lambda name: (name == "limit", -shares["float32"][name]))
    return [
        {"work": "limit: its products alone" if name == "limit" else name}
        | {of: f"{100 * each[name]:.0f} %" for of, each in shares.items()}
        for name in names
    ]


CARDS, RESERVE = (16, 24, 48, 80), 1.5  # GB; kept free for the driver and gaps between tensors
BITS = {16: 16.0, 8: 8.0, 4: 4.5}  # a number of the blocks' products takes, with the scales of its group


def memory_rows(record: Mapping) -> list[dict[str, Any]]:
    """Return what a step of the paper's training takes on a GPU: arithmetic, on what ``benchmarks/gpu.py --memory`` counted.

    A number of the adapter takes 24 bytes: weight, best weight, gradient, a chunk's gradient and two moments in float32. Words
    are kept in 16 bits. A batch runs in four chunks; where blocks have checkpoints one block of one chunk is computed again.
    """
    n, each = record["counts"], record["metrics"]
    tokens = 3 * n["pairs"] * n["tokens_a_text"]
    rows = []
    for bits, size in BITS.items():
        weights = (n["parameters"] - n["words"]) * size / 8 + n["words"] * 2
        block = each["fused" if bits == 16 else "peft"]
        for name, activations in (
            ("none", block * n["layers"] * tokens),
            ("every block", (each["checkpoint"] * n["layers"] + block / 4) * tokens),
        ):
            total = (weights + 24 * n["trained"] + activations) / 1e9 + RESERVE
            rows.append(
                {
                    "base, bits": bits,
                    "checkpoints": name,
                    "weights, GB": f"{weights / 1e9:.1f}",
                    "adapter and optimiser, GB": f"{24 * n['trained'] / 1e9:.1f}",
                    "activations, GB": f"{activations / 1e9:.1f}",
                    "all, GB": f"{total:.1f}",
                    "smallest card, GB": next((str(card) for card in CARDS if total <= card), "none of these"),
                }
            )
    return rows


def against_peers(records: Mapping[str, Mapping]) -> tuple[Figure, pl.DataFrame]:
    """Return ours beside sentence-transformers and the processor's limit: a panel an act, a dot an arm, a line over its rounds.

    Args:
        records: what is done to the record of ``benchmarks/train.py``.
    """
    rows = [(w, u, f"{p}: {n}", n, m["median"], min(m["all"]), max(m["all"])) for w, u, p, n, m in _peers(records)]
    drawn = pl.DataFrame(rows, schema=["what", "unit", "arm", "who", "median", "lowest", "highest"], orient="row")
    with show.canvas(1, len(records), figsize=(4.6 * len(records), 3.4)) as (fig, axes):
        for ax, (what, record) in zip(np.atleast_1d(axes), records.items(), strict=True):
            part = drawn.filter(what=what)
            for y, row in enumerate(part.iter_rows(named=True)):
                colour = show.COLOURS[ARMS[row["who"]]]
                ax.plot([row["lowest"], row["highest"]], [y, y], color=colour, lw=2)
                ax.plot(row["median"], y, "|" if row["who"] in LIMITS else "o", color=colour, ms=9, mew=2)
                end = (row["highest"], y)
                ax.annotate(f"{row['median']:.0f}", end, (8, 0), textcoords="offset points", va="center", fontsize=9)
            ax.set_yticks(range(len(part)), part["arm"])
            machine = f"{record['device']}, {record['counts']['threads']} threads"
            ax.set(ylim=(len(part) - 0.5, -0.5), xlim=(0, 1.15 * part["highest"].max()))
            ax.set(title=what, xlabel=f"{part['unit'][0]}/s\n{machine}")
    return fig, drawn


def _peers(records: Mapping[str, Mapping]) -> list[tuple[str, str, str, str, Mapping]]:
    """Return what is done, its unit, precision, arm and numbers, in the order of ``ARMS`` within each precision."""
    found = []
    for what, record in records.items():
        unit = next(u for u in ("pairs", "texts") if u in record["counts"])
        for precision in ("float32", "bfloat16"):
            arms = {name: record["metrics"].get(f"{precision}, {name}") for name in ARMS}
            found += [(what, unit, precision, name, m) for name, m in arms.items() if m]
    return found


def growth(record: Mapping) -> tuple[Figure, pl.DataFrame]:
    """Return seconds and memory against size, a line a step of the study; names carry the slope of the time at its end.

    Args:
        record: of ``benchmarks/growth.py``.
    """
    rows = [
        {"step": f"{name} ({m['unit']}), slope {m['slope']:.2f}"} | {key: point[key] for key in ("n", "seconds", "gb")}
        for name, m in record["metrics"].items()
        for point in m["points"]
    ]
    drawn = pl.DataFrame(rows)
    with show.canvas(1, 2, figsize=(10.4, 4.6)) as (fig, axes):
        for ax, key, name in zip(axes, ("seconds", "gb"), ("seconds", "memory grown by, GB (10⁹ bytes)"), strict=True):
            for i, (step, part) in enumerate(drawn.group_by("step", maintain_order=True)):
                style = {"marker": "osD^vPX*"[i % 8], "color": show.COLOURS[i % 10], "label": step[0]}
                ax.plot(part["n"], part[key].clip(0.001), **style)
            ax.set(xscale="log", yscale="log", xlabel="how many", ylabel=name)
        handles, names = axes[0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    return fig, drawn


def batches(record: Mapping) -> tuple[Figure, pl.DataFrame]:
    """Return the dev MRR against the batch size, a point a seed and a line over their means, where pairs or steps are equal.

    Args:
        record: of ``benchmarks/batch.py``.
    """
    rows = [
        {"kept equal": name.split(",")[0], "dev_mrr": score}
        | {k: m[k] for k in ("batch_size", "learning_rate", "steps")}
        for name, m in record["metrics"].items()
        for score in m["all"]
    ]
    drawn = pl.DataFrame(rows).sort("kept equal", "batch_size", maintain_order=True)
    base = next(m["dev_mrr_base"] for m in record["metrics"].values() if "dev_mrr_base" in m)
    with show.canvas(figsize=(7.2, 4.2)) as (fig, ax):
        ax.axhline(base, color="grey", lw=1, ls=":", label="base")
        for i, (kind, part) in enumerate(drawn.group_by("kept equal", maintain_order=True)):
            means = part.group_by("batch_size", maintain_order=True).agg(pl.col("dev_mrr", "steps").mean())
            style = {"color": show.COLOURS[i], "marker": "os"[i % 2]}
            ax.plot(means["batch_size"], means["dev_mrr"], ls="-", **style | {"marker": ""})
            ax.plot(part["batch_size"], part["dev_mrr"], ls="", label=kind[0], **style)
            for row in means.iter_rows(named=True):
                at = (row["batch_size"], part.filter(batch_size=row["batch_size"])["dev_mrr"].max())
                ax.annotate(
                    f"{row['steps']:.0f} steps", at, (0, 7), textcoords="offset points", ha="center", fontsize=8
                )
        ax.set(xscale="log", xlabel="pairs a batch", ylabel="MRR, dev documents")
        ax.set_xticks(sizes := sorted(set(drawn["batch_size"])), [f"{size:,}" for size in sizes])
        ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        ax.margins(y=0.15)
        ax.legend(frameon=False)
    return fig, drawn


def on_disk(record: Mapping) -> tuple[Figure, pl.DataFrame]:
    """Return recall against milliseconds a query of indexes on disk, a line a number of vectors, a point a number of cells.

    Args:
        record: of ``benchmarks/search.py``.
    """
    rows = [
        {"vectors": int(name.split(", ")[1]), "cells": int(cells)} | point
        for name, m in record["metrics"].items()
        if name.startswith("vectors")
        for cells, point in m["probes"].items()
    ]
    drawn = pl.DataFrame(rows).sort("vectors", "cells")
    with show.canvas(figsize=(7.2, 4.2)) as (fig, ax):
        for i, (n, part) in enumerate(drawn.group_by("vectors", maintain_order=True)):
            style = {"color": show.COLOURS[i], "marker": "osD"[i % 3], "label": f"{n[0]:,} vectors"}
            ax.plot(part["ms_a_query"], part["recall"], **style)
            for row in part.iter_rows(named=True):
                at = (row["ms_a_query"], row["recall"])
                ax.annotate(row["cells"], at, (4, -12), textcoords="offset points", fontsize=8, color=style["color"])
        machine = f"{record['device']}, {record['counts']['threads']} threads"
        ax.set(xscale="log", xlabel=f"ms a query; at each point, cells looked into\n{machine}", ylim=(0, 1.03))
        ax.set_ylabel(f"share found of the {record['counts']['neighbours']} nearest")
        _plain_ticks(ax, "x")
        ax.legend(frameon=False)
    return fig, drawn


def index_rows(record: Mapping) -> list[dict[str, Any]]:
    """Return what indexes on disk took to build, and what their searches hold, a row a number of vectors."""
    return [
        {
            "vectors": int(name.split(", ")[1]),
            "built in, s": f"{m['build_seconds']:.0f}",
            "on disk, GB": f"{m['disk_gb']:.2f}",
            "most memory while built, files mapped included, GB": f"{m['gb']:.2f}",
            **{
                f"cells: {cells}": f"{p['recall']:.3f}, {p['ms_a_query']:.2f} ms"
                for cells, p in sorted(m["probes"].items(), key=lambda item: int(item[0]))
            },
        }
        for name, m in record["metrics"].items()
        if name.startswith("vectors")
    ]


def word_rows(record: Mapping) -> list[dict[str, Any]]:
    """Return how many queries a second are answered by words, and by their fusion with a model's scores."""
    return [
        {
            "by words": name.removeprefix("words, "),
            "queries/s": f"{m['median']:,.0f} ({min(m['all']):,.0f} to {max(m['all']):,.0f})",
        }
        for name, m in record["metrics"].items()
        if name.startswith("words")
    ]


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
    rows = [(name, m["parameters"] / 1e6, m["peak_gb"], False) for name, m in record["metrics"].items()]
    drawn = pl.DataFrame(rows, schema=["model", "parameters", "memory_gb", "published"], orient="row")
    if published is not None:
        theirs = published.with_columns(published=pl.lit(True)).select(drawn.columns)
        drawn = pl.concat([drawn, theirs], how="vertical_relaxed")
    with show.canvas(figsize=(7.2, 5.2)) as (fig, ax):
        ends = np.array([drawn["parameters"].min() / 1.5, drawn["parameters"].max() * 1.5])
        for size, dash in ((4, "-"), (2, ":")):
            ax.plot(ends, ends * size / 1000, color="grey", lw=1, ls=dash, label=f"weights alone, {size} bytes each")
        _points(ax, drawn, "parameters", "memory_gb")
        ax.set(xscale="log", yscale="log", xlabel="parameters, millions", ylabel="memory, GB (10⁹ bytes)")
        _plain_ticks(ax)
        ax.legend(fontsize=8, frameon=False, loc="upper left")
        show.names(ax, drawn, "parameters", "memory_gb")
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
    parts = points.group_by("machine", "published", maintain_order=True)
    best = {key: pareto(part.select("model", "latency_ms", "separation").rows()) for key, part in parts}
    on_line = [name in best[place, known] for name, place, known in points["model", "machine", "published"].rows()]
    drawn = points.with_columns(pareto=pl.Series(on_line, dtype=pl.Boolean))
    machines = drawn["machine"].unique(maintain_order=True)
    size = (4.6 * len(machines) + 1.2, 4.2)
    with show.canvas(1, len(machines), figsize=size, sharey=True, squeeze=False) as (fig, (axes,)):
        panels = dict(zip(machines, axes, strict=True))
        marks = {}
        for machine, ax in panels.items():
            part = drawn.filter(machine=machine)
            _points(ax, part, "latency_ms", "separation")
            for published, colour in ((True, "grey"), (False, show.COLOURS[0])):
                line = part.filter(pareto=True, published=published).sort("latency_ms")
                name = "no other is faster and better" if len(line) else None
                style = {"where": "post", "color": colour, "lw": 1, "ls": "--", "zorder": 1}
                ax.step(line["latency_ms"], line["separation"], label=name, **style)
            ax.set(xscale="log", title=machine, xlabel="ms a text")
            ax.margins(0.15)
            _plain_ticks(ax, "x")
            handles, texts = ax.get_legend_handles_labels()
            marks |= dict(zip(texts, handles, strict=True))
        axes[0].set_ylabel("separation (difference of mean cosines)")
        fig.legend(marks.values(), marks, loc="outside lower center", ncols=len(marks), frameon=False)
        for machine, ax in panels.items():
            show.names(ax, drawn.filter(machine=machine), "latency_ms", "separation")
    return fig, drawn


def _speed(record: Mapping, key: str, far: str, name: str) -> tuple[Figure, pl.DataFrame]:
    """Return a line an arm on a logarithmic axis, from the value to a farther one; random weights are hollow."""
    arms = dict(sorted(record["metrics"].items(), key=lambda item: item[1][key], reverse=key == far))
    columns = dict.fromkeys((key, far, "random_weights"))
    drawn = pl.DataFrame([{"model": arm} | {c: m[c] for c in columns} for arm, m in arms.items()])
    machine = f"{record['device']}, {record['counts']['threads']} threads"
    machine += ", busy with other work" if record["params"]["contended"] else ""
    with show.canvas(figsize=(7.2, 0.36 * len(arms) + 1.3)) as (fig, ax):
        for y, m in enumerate(arms.values()):
            colour = "dimgrey" if m["random_weights"] else show.COLOURS[1 if m["adapter"] else 0]
            if far != key:
                ax.plot([m[key], m[far]], [y, y], color=colour, lw=1.2, marker="|", ms=9, markevery=[1])
            ax.plot(m[key], y, "o", ms=7, color=colour, mfc="white" if m["random_weights"] else colour)
            end = (max(m[key], m[far]), y)
            ax.annotate(f"{m[key]:.3g}", end, (9, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set_yticks(range(len(arms)), drawn["model"])
        ax.set(xscale="log", xlabel=f"{name}\nhollow: that shape with random weights\n{machine}")
        ax.set(xlim=(0.7 * drawn[key].min(), 2 * drawn[far].max()), ylim=(len(arms) - 0.5, -0.5))
        _plain_ticks(ax, "x")
    return fig, drawn


def _points(ax: Axes, points: pl.DataFrame, x: str, y: str) -> None:
    """Draw ours filled and the published grey and hollow."""
    blue = show.COLOURS[0]
    for published, name, face, edge in ((False, "measured here", blue, blue), (True, "published", "white", "grey")):
        part = points.filter(published=published)
        if len(part):
            ax.scatter(part[x], part[y], s=34, facecolor=face, edgecolor=edge, linewidth=1.4, label=name, zorder=3)


def _plain_ticks(ax: Axes, which: str = "both") -> None:
    """Write a logarithmic axis's numbers as people do: 0.2, 5, 200."""
    for axis in [ax.xaxis] * (which != "y") + [ax.yaxis] * (which != "x"):
        axis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_minor_locator(mpl.ticker.NullLocator())
