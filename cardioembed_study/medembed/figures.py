"""How do the records of the MedEmbed study become figures? Each with the numbers drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from cardioembed_study import show
from cardioembed_study.medembed import negatives, tables


def of_negatives(record: Mapping[str, Any] | None) -> tuple[Figure, pl.DataFrame]:
    """Return each choice of hard negatives less the base on dev, a row a choice.

    Args:
        record: ``medembed.negatives``; ``None`` where the study was not run.
    """
    if record is None:
        return show.nothing(tables.NOT_RUN)
    rows = [
        {"group": "", "row": f"{negatives.ORDER[name]}: {record['counts']['texts'][name]} texts a pair"}
        | {"mark": "mean of the seeds"}
        | _ends(m)
        for name, m in negatives.in_order(record)
    ]
    n = record["counts"]["dev"]
    drawn = pl.DataFrame(rows)
    words = f"gain over the base, MRR, on dev: {n['queries']} definitions of {n['documents']} documents\nbars: 95 % interval"
    return show.forest(drawn, words), drawn


def of_sizes(record: Mapping[str, Any] | None) -> tuple[Figure, pl.DataFrame]:
    """Return what tuning gains or loses by size, a panel a task.

    Args:
        record: ``medembed.sizes``; ``None`` where the study was not run.
    """
    if record is None:
        return show.nothing(tables.NOT_RUN)
    rows = [
        {"task": tables.JOINED[task], "layers": record["counts"]["layers"][recipe], **_ends(m)}
        | {"base": m["base"], "tuned": m["tuned"]}
        for recipe, of in record["metrics"]["sizes"].items()
        for task, m in of.items()
    ]
    drawn = pl.DataFrame(rows)
    tasks = drawn["task"].unique(maintain_order=True).to_list()
    with show.canvas(len(tasks), 2, figsize=(6.4, 1.9 * len(tasks) + 0.4), sharex=True) as (fig, axes):
        for (left, right), task in zip(axes, tasks, strict=True):
            part = drawn.filter(task=task)
            for i, name in enumerate(("base", "tuned")):
                left.plot(part["layers"], part[name], label=name, **show.mark(i))
            right.axhline(0, color="black", lw=0.8)
            right.errorbar(part["layers"], part["value"], show.error(part, "value"), capsize=2, **show.mark(2))
            left.set_title(task, loc="left", fontsize=9)
            left.set_ylabel("score")
            right.set_ylabel("tuned less base")
        axes[0][0].legend(frameon=False, fontsize=8)
        for ax in axes[-1]:
            ax.set(xlabel="layers of the base", xticks=sorted(set(drawn["layers"])))
    return fig, drawn


def of_widths(record: Mapping[str, Any] | None) -> tuple[Figure, pl.DataFrame]:
    """Return what each way of keeping a passage scores for its bytes, a panel a task.

    Args:
        record: ``medembed.widths``; ``None`` where the study was not run.
    """
    if record is None:
        return show.nothing(tables.NOT_RUN)
    rows = [
        {"task": tables.JOINED[task], "model": recipe, "kept": precision, "width": int(width)}
        | {"bytes": record["counts"]["bytes"][precision][width], "score": m["score"]}
        for recipe, tasks in record["metrics"]["kept"].items()
        for task, precisions in tasks.items()
        for precision, widths in precisions.items()
        for width, m in widths.items()
    ]
    drawn = pl.DataFrame(rows)
    tasks = drawn["task"].unique(maintain_order=True).to_list()
    shown = ("float32", "int8", "binary_int8", "binary")
    with show.canvas(2, 2, figsize=(7.2, 5.6), sharex=True) as (fig, axes):
        for ax, task in zip(axes.flat, tasks, strict=True):
            for i, precision in enumerate(shown):
                for model, style in (("none", "--"), ("matryoshka", "-")):
                    part = drawn.filter(task=task, kept=precision, model=model).sort("bytes")
                    words = f"{tables.PRECISIONS[precision]}, {'nested' if model == 'matryoshka' else 'plain'}"
                    ax.plot(part["bytes"], part["score"], ls=style, lw=1.2, ms=4, label=words, **show.mark(i))
            ax.set_title(task, loc="left", fontsize=9)
            ax.set_xscale("log", base=2)
        for ax in axes[-1]:
            ax.set_xlabel("bytes a passage")
            ax.set_xticks([4, 16, 64, 256, 1024], ["4", "16", "64", "256", "1,024"])
        fig.legend(
            *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8
        )
    return fig, drawn


def _ends(m: Mapping[str, float]) -> dict[str, float]:
    return {"value": m["difference"], "low": m["low"], "high": m["high"]}
