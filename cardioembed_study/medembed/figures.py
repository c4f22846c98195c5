"""How do the records of the MedEmbed study become figures? Each with the numbers drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from cardioembed_study import show
from cardioembed_study.medembed import merging, negatives, tables, vectors


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


def of_recipes(record: Mapping[str, Any] | None) -> tuple[Figure, pl.DataFrame]:
    """Return each recipe less the base on held-out texts, a row a task, a mark a recipe.

    Args:
        record: ``medembed.recipes``; ``None`` where the study was not run.
    """
    if record is None:
        return show.nothing(tables.NOT_RUN)
    drawn = pl.DataFrame(
        [
            {"group": "", "row": f"{words}, n = {record['counts'][task]['queries']}", "mark": recipe} | _ends(of[task])
            for task, words in tables.TASKS.items()
            for recipe, of in ((recipe, record["metrics"]["recipes"][recipe]) for recipe in tables.recipes(record))
        ]
    )
    words = "gain over the base, MRR; of SciFact and NFCorpus nDCG@10\nmean of the seeds, bars: 95 % interval"
    return show.forest(drawn, words), drawn


def of_merges(record: Mapping[str, Any] | None) -> tuple[Figure, pl.DataFrame]:
    """Return each merge less plain tuning on dev, a row a merge.

    Args:
        record: ``medembed.merges``; ``None`` where the study was not run.
    """
    if record is None:
        return show.nothing(tables.NOT_RUN)
    found = record["metrics"]["dev"]
    drawn = pl.DataFrame(
        [
            {"group": "", "row": name, "mark": "training" if name in merging.TRAININGS else "merge"}
            | _ends(found[name])
            for name in merging.ORDER
            if name in found and name != merging.PLAIN
        ]
    )
    n = record["counts"]["dev"]
    words = (
        f"less plain tuning, MRR, on dev: {n['queries']} definitions of {n['documents']} documents\nbars: 95 % interval"
    )
    return show.forest(drawn, words), drawn


def of_late(record: Mapping[str, Any] | None) -> tuple[Figure, pl.DataFrame]:
    """Return what token vectors score for their bytes, beside one vector a text, a panel a task.

    Args:
        record: ``medembed.late``; ``None`` where the study was not run.
    """
    if record is None:
        return show.nothing(tables.NOT_RUN)
    rows = []
    for recipe, tasks in record["metrics"]["kept"].items():
        for task in tables.JOINED:
            found = tasks[task]
            kept = {tables.FORMS[form]: (m["score"], m["bytes"]) for form, m in found.items() if "bytes" in m}
            one = found["all"]["score"] - found["all"]["difference"]
            kept["one vector, 16 bits"] = (one, vectors.size(vectors.WIDTHS[0], "float16"))
            rows += [
                {"task": tables.JOINED[task], "model": recipe, "kept": form, "score": score, "bytes": size}
                for form, (score, size) in kept.items()
            ]
    drawn = pl.DataFrame(rows)
    tasks = drawn["task"].unique(maintain_order=True).to_list()
    with show.canvas(2, 2, figsize=(7.2, 5.6), sharex=True) as (fig, axes):
        for ax, task in zip(axes.flat, tasks, strict=True):
            for model, style in (("tuned", "full"), ("base", "none")):
                part = drawn.filter(task=task, model=model)
                for i, (form, score, size) in enumerate(part.select("kept", "score", "bytes").rows()):
                    words = f"{form}, {'base, not tuned' if model == 'base' else 'tuned'}"
                    ax.plot([size], [score], ls="", ms=7, fillstyle=style, label=words, **show.mark(i))
            ax.set_title(task, loc="left", fontsize=9)
            ax.set_xscale("log", base=2)
        for ax in axes[-1]:
            ax.set_xlabel("bytes a passage")
            ax.set_xticks([1024, 4096, 16384, 65536, 262144], ["1 K", "4 K", "16 K", "64 K", "256 K"])
        for ax in axes[:, 0]:
            ax.set_ylabel("score")
        fig.legend(
            *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8
        )
    return fig, drawn


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
