"""How long does mining hard negatives take, ours beside sentence-transformers', from the same vectors?

    python benchmarks/mining.py [--texts 10000] [--repeats 5] [--out benchmarks/results]

Random unit vectors of width 384, each positive near its anchor; window 10 to 50, relative margin 0.05, 4 negatives, the
nearest. The arms alternate, so that a busy machine slows both; neither embeds. Printed as well: for how many anchors both find
the same negatives, all but those where the rounding of a product decides.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives

from cardioembed_study import records, settings
from cardioembed_study.training import mixture

WIDTH, HOW = 384, "dense:10-50,relative_margin=0.05,num=4"


class Fixed:
    """What ``mine_hard_negatives`` asks of a model, with the vectors at hand."""

    device = torch.device("cpu")

    def __init__(self, anchors: np.ndarray, positives: np.ndarray):
        self.encode_query, self.encode_document = (lambda texts, v=v, **_: v for v in (anchors, positives))

    similarity = staticmethod(lambda a, b: torch.as_tensor(a) @ torch.as_tensor(b).T)
    similarity_pairwise = staticmethod(lambda a, b: (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1))


def arms(n: int) -> dict[str, Callable[[], list[list[str]]]]:
    """Return both ways of mining n pairs, each from nothing but texts and vectors."""
    drawn = np.random.default_rng(17).normal(size=(2, n, WIDTH)).astype(np.float32)
    drawn[1] += drawn[0]
    anchors, positives = drawn / np.linalg.norm(drawn, axis=2, keepdims=True)
    texts = {side: [f"{side} {i}" for i in range(n)] for side in ("anchor", "positive")}
    table = pl.DataFrame(texts).with_columns(group=pl.col("anchor"), source=pl.lit("x"), split=pl.lit("train"))
    how, data, model = settings.mining(HOW), Dataset.from_dict(texts), Fixed(anchors, positives)
    options = {k: v for k, v in how._asdict().items() if k not in ("by", "base")}

    def ours() -> list[list[str]]:
        return mixture.mine(table, lambda start, stop: anchors[start:stop] @ positives.T, how, seed=0)

    def peer() -> list[list[str]]:
        found = mine_hard_negatives(data, model, **options, output_format="n-tuple", verbose=False)
        return [list(row) for row in zip(*(found[f"negative_{k + 1}"] for k in range(how.num_negatives)), strict=True)]

    return {"ours": ours, "peer": peer}


def main() -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    given = parser.parse_args()
    measures = arms(given.texts)
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(given.repeats):
        found = []
        for name, mine in measures.items():
            started = time.perf_counter()
            found.append(mine())
            seconds[name].append(time.perf_counter() - started)
        same = sum(a == b for a, b in zip(*found, strict=True))
    ratios = [peer / ours for ours, peer in zip(seconds["ours"], seconds["peer"], strict=True)]
    metrics = {f"{name}_seconds": statistics.median(values) for name, values in seconds.items()}
    metrics |= {"peer_over_ours": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    record = records.write(
        given.out / "mining.cpu.json",
        metrics=metrics,
        counts={"texts": given.texts, "same": same, "repeats": given.repeats, "threads": torch.get_num_threads()},
        inputs=[],
        params={"width": WIDTH, "negatives": HOW},
    )
    print(record["device"], metrics, f"{same:,} of {given.texts:,} anchors have the same negatives")


if __name__ == "__main__":
    main()
