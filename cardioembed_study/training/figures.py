"""How do training runs become figures? Each with the numbers drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
from matplotlib.figure import Figure

from cardioembed_study import show


def curves(histories: Mapping[str, Sequence[Mapping]]) -> tuple[Figure, pl.DataFrame]:
    """Return training loss and dev MRR against the step, a line a run, and the numbers drawn."""
    rows = [
        {"run": run, "step": h["step"], "loss": h.get("loss"), "dev_mrr": h.get("dev_score")}
        for run, history in histories.items()
        for h in history
    ]
    drawn = pl.DataFrame(rows, schema={"run": pl.String, "step": pl.Int64, "loss": pl.Float64, "dev_mrr": pl.Float64})
    with show.canvas(1, 2, figsize=(8, 3.2)) as (fig, (left, right)):
        show.lines(left, drawn, "step", "loss", "run", marker="", ms=4, lw=1.2)
        show.lines(right, drawn, "step", "dev_mrr", "run", marker="o", ms=4, lw=1.2)
        left.set(xlabel="step", ylabel="training loss, nats")
        right.set(xlabel="step", ylabel="MRR on dev")
        right.legend(fontsize=8, frameon=False)
    return fig, drawn


def ablation(cells: Sequence[Mapping], metric: str) -> tuple[Figure, pl.DataFrame]:
    """Return a score against the share of the data, a panel a loss, a line a rank: the seeds' mean and range.

    Args:
        cells: mappings with ``share`` (0..1), ``loss``, ``rank``, ``seed``, ``value``; none where the profile has no grid.
        metric: what ``value`` is, for the axis.
    """
    if not cells:
        return show.nothing("no ablation in this profile")
    value = pl.col("value")
    grouped = pl.DataFrame(list(cells)).group_by("loss", "rank", "share", maintain_order=True)
    drawn = grouped.agg(mean=value.mean(), low=value.min(), high=value.max(), seeds=pl.len())
    drawn = drawn.sort("rank", "share", maintain_order=True)
    losses, ranks = (drawn[c].unique(maintain_order=True).to_list() for c in ("loss", "rank"))
    shares = sorted(drawn["share"].unique())
    size = (3.2 * len(losses) + 1.4, 3.4)
    with show.canvas(1, len(losses), figsize=size, sharey=True, squeeze=False) as (fig, (axes,)):
        for ax, loss in zip(axes, losses, strict=True):
            for i, rank in enumerate(ranks):
                part = drawn.filter(loss=loss, rank=rank)
                x = [shares.index(s) + (i - (len(ranks) - 1) / 2) * 0.12 for s in part["share"]]
                style = {"ms": 5, "lw": 1.2, "capsize": 3, **show.mark(i)}
                ax.errorbar(x, part["mean"], yerr=show.error(part, "mean"), label=rank, **style)
            ax.set(title=loss, xlabel="share of the training pairs", xlim=(-0.5, len(shares) - 0.5))
            ax.set_xticks(range(len(shares)), [f"{share:.0%}" for share in shares])
        axes[0].set_ylabel(f"{metric}\nmean and range of seeds")
        show.legend(ax, fontsize=None, title="rank")
    return fig, drawn
