"""How do training runs become figures?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.figure import Figure

from cardioembed_study import show


def curves(histories: Mapping[str, Sequence[Mapping]]) -> tuple[Figure, pl.DataFrame]:
    """Return training loss and dev MRR against the step, a line a run, and the numbers drawn."""
    rows = [
        {"run": run, "step": h["step"], "loss": h.get("loss"), "dev_mrr": h.get("dev_score")}
        for run, hs in histories.items()
        for h in hs
    ]
    drawn = pl.DataFrame(rows, schema={"run": pl.String, "step": pl.Int64, "loss": pl.Float64, "dev_mrr": pl.Float64})
    with mpl.rc_context(show.STYLE):
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


def ablation(rows: Sequence[Mapping], metric: str) -> tuple[Figure, pl.DataFrame]:
    """Return a score against the share of the data, a panel a loss, a line a rank: the seeds' mean and range.

    Args:
        rows: mappings with ``share`` (0..1), ``loss``, ``rank``, ``seed``, ``value``; none where the profile has no grid.
        metric: what ``value`` is, for the axis.
    """
    if not rows:
        return show.nothing("no ablation in this profile")
    value = pl.col("value")
    grouped = pl.DataFrame(list(rows)).group_by("loss", "rank", "share", maintain_order=True)
    drawn = grouped.agg(mean=value.mean(), low=value.min(), high=value.max(), seeds=pl.len())
    drawn = drawn.sort("rank", "share", maintain_order=True)
    losses, ranks = (drawn[c].unique(maintain_order=True).to_list() for c in ("loss", "rank"))
    shares = sorted(drawn["share"].unique())
    with show.canvas(1, len(losses), figsize=(3.2 * len(losses) + 1.4, 3.4), sharey=True) as (fig, axes):
        for ax, loss in zip(np.atleast_1d(axes), losses, strict=True):
            for i, (rank, colour) in enumerate(zip(ranks, sns.color_palette("colorblind", len(ranks)), strict=True)):
                part = drawn.filter(pl.col("loss") == loss, pl.col("rank") == rank)
                x = [shares.index(s) + (i - (len(ranks) - 1) / 2) * 0.12 for s in part["share"]]
                error = np.abs([part["mean"] - part["low"], part["high"] - part["mean"]])
                style = {
                    "color": colour,
                    "marker": show.MARKERS[i % len(show.MARKERS)],
                    "ms": 5,
                    "lw": 1.2,
                    "capsize": 3,
                }
                ax.errorbar(x, part["mean"], yerr=error, label=rank, **style)
            ax.set(title=loss, xlabel="share of the training pairs")
            ax.set_xticks(range(len(shares)), [f"{s:.0%}" for s in shares])
            ax.set_xlim(-0.5, len(shares) - 0.5)
        np.atleast_1d(axes)[0].set_ylabel(f"{metric}\nmean and range of seeds")
        ax.legend(title="rank", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return fig, drawn
