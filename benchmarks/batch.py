"""What is a larger batch worth on documents that no pair is trained on?

    python benchmarks/batch.py [--out benchmarks/results]      # needs artifacts/open: make all PROFILE=open

The recipe of profile `open` (run `seed17`) on all its definition pairs, one thing changed: the batch. Batches too large for
memory go through the gradient cache, as everywhere (`training.KEPT_CHUNKS`). Rules, set before the first result:

1. *Equal pairs*: two epochs, so a batch twice as large takes half the steps. Each size has the learning rate of `RATES` that
   gives the best dev MRR with seed 17; what is shown are the dev MRRs of seeds 18 and 19 with it.
2. *Equal steps*: fourteen, so a batch twice as large sees twice the pairs; the recipe's rate, seed 18.
3. The MRR is that of the last step, never of the best: dev documents choose the rate, nothing else.

A run that is done is not run again; one that was killed goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import time
from functools import partial
from pathlib import Path

import polars as pl

from cardioembed_lib import encoder, lora, models, training
from cardioembed_study import paths, records, settings
from cardioembed_study.retrieval import pools
from cardioembed_study.training import mixture

SIZES, RATES, STEPS = (32, 128, 512, 3584), (1e-3, 2e-3, 4e-3), 14  # the last batch: all there are but four
CHOOSING, SHOWN = 17, (18, 19)


def main() -> None:
    """Train, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    given = parser.parse_args()
    recipe = settings.check("02_train", settings.profile("open").runs["seed17"])
    source = paths.need(paths.pairs("open", "definition"), "01_corpus")
    table = mixture.mix([pl.read_parquet(source).filter(split="train")])
    asked = pl.read_parquet(source).filter(split="dev")
    go = partial(trained, recipe, table, pools.from_pairs("dev", asked, asked))
    metrics: dict[str, dict] = {}
    for size in SIZES:
        tried = {rate: go(size, rate, recipe.epochs, CHOOSING) for rate in RATES}
        best = max(tried, key=lambda rate: tried[rate]["dev_mrr"])
        shown = [go(size, best, recipe.epochs, seed) for seed in SHOWN]
        metrics[f"equal pairs, {size}"] = told(size, best, shown) | {
            "tried": {f"{rate:g}": run["dev_mrr"] for rate, run in tried.items()},
            "dev_mrr_base": shown[0]["dev_mrr_base"],
        }
    for size in SIZES:
        epochs = math.ceil(STEPS / (len(table) // size))
        shown = [go(size, recipe.learning_rate, epochs, SHOWN[0], STEPS)]
        metrics[f"equal steps, {size}"] = told(size, recipe.learning_rate, shown)
        records.write(  # after each: the last takes longest
            given.out / "batch.cpu.json",
            metrics=metrics,
            counts={"pairs": len(table), "dev_queries": len(asked), "dev_documents": asked["document"].n_unique()},
            inputs=[source],
            params=recipe.model_dump() | {"seeds_shown": list(SHOWN), "seed_choosing": CHOOSING, "equal_steps": STEPS},
        )


def trained(
    recipe, table: pl.DataFrame, dev: pools.Task, size: int, rate: float, epochs: int, seed: int, steps=0
) -> dict:
    """Return what one run reaches after ``epochs``, or after ``steps`` where they are given."""
    plan = dataclasses.replace(
        training.Plan.of(recipe.model_dump()),
        batch_size=size,
        learning_rate=rate,
        epochs=epochs,
        seed=seed,
        eval_every=10**6,
        checkpoint_every=2,
    )
    base = models.load(models.spec(recipe.base, paths.MODELS), max_length=recipe.max_length)
    adapter = {"rank": recipe.lora_rank, "alpha": recipe.lora_alpha, "dropout": recipe.lora_dropout}
    model = encoder.with_model(base, lora.attach(base.model, targets=recipe.lora_targets, seed=seed, **adapter))
    if steps:  # whole epochs of no more pairs than the steps take
        table = table.sample(math.ceil(steps / epochs) * size, seed=seed, shuffle=True)
    pairs = training.tokenise(model, table)
    name = f"{size}-{rate:g}-{seed}-{steps}"
    folder, started = paths.artifacts("open") / "batch" / name, time.monotonic()
    history = training.train(model, pairs, plan, folder, evaluate=partial(pools.dev_mrr, dev))
    scores = [row["dev_score"] for row in history if "dev_score" in row]
    taken = sum("loss" in row for row in history)
    last = [row["loss"] for row in history if "loss" in row][-1]
    print(f"{name:24} {taken} steps, dev MRR {scores[-1]:.4f}, loss {last:.3f}, {time.monotonic() - started:.0f} s")
    return {"dev_mrr": scores[-1], "dev_mrr_base": scores[0], "steps": taken, "loss": last}


def told(size: int, rate: float, runs: list[dict]) -> dict:
    """Return what the record has of one size."""
    each = [run["dev_mrr"] for run in runs]
    return {"batch_size": size, "learning_rate": rate, "steps": runs[0]["steps"], "all": each} | {
        "median": statistics.median(each),
        "loss": statistics.mean(run["loss"] for run in runs),
    }


if __name__ == "__main__":
    main()
