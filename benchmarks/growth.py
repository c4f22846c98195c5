"""How do time and memory grow with a reader's data, at 1, 10 and 100 times a size?

    python benchmarks/growth.py [--only search ...] [--times 100] [--out benchmarks/results]

Each measurement is a process of its own; memory is what it grew by. Texts are random words, as often as words are (Zipf);
vectors lie around 200 centres in the plane of 32 directions, as real ones do rather than all over the sphere. The slope is that
of the time between the two larger sizes on logarithmic axes: 1 grows with the data, 2 with its square.
"""

from __future__ import annotations

import argparse
import os
import re

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as cardioembed_lib sets it

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from encode import apart
from mimic import generate

from cardioembed_lib import encoder, fused, lora, models, training
from cardioembed_study import paths, records, search, settings
from cardioembed_study.corpus import manifests, passages, shingles
from cardioembed_study.notes import auroc, mimic, silhouette
from cardioembed_study.training import mixture

WIDTH, QUERIES, NEIGHBOURS = 384, 100, 10
SYLLABLES = [consonant + vowel for consonant in "bdfglmnr" for vowel in "aeiou"]
MINE = "dense:10-50,relative_margin=0.05,num=4"


def main() -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--times", type=int, choices=(10, 100), default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    given = parser.parse_args()
    metrics: dict[str, dict] = {}
    for name in given.only:
        task, smallest, unit = TASKS[name]
        points = []
        for n in (smallest * 10**k for k in range(round(math.log10(given.times)) + 1)):
            points.append({"n": n} | apart(measured, task, n))
            print(f"{name:28} {n:9,} {unit:10} " + ", ".join(f"{k} {v:.3g}" for k, v in points[-1].items() if k != "n"))
        slope = math.log10(points[-1]["seconds"] / points[-2]["seconds"])
        metrics[name] = {"unit": unit, "slope": slope, "points": points}
        print(f"{name:28} time grows with the power {slope:.2f}", flush=True)
        records.write(  # after each, so that nothing is lost
            given.out / "growth.cpu.json",
            metrics=metrics,
            counts={"threads": os.cpu_count()},
            inputs=[],
            params={"width": WIDTH, "queries": QUERIES, "neighbours": NEIGHBOURS, "negatives": MINE},
        )


def measured(task: Callable, n: int) -> dict[str, float]:
    """Return what one size takes; runs in a process of its own."""
    go = task(n)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the most that setting up has held
    before, started = most_held(), time.perf_counter()
    found = go() or {}
    return {"seconds": time.perf_counter() - started, "gb": (most_held() - before) / 1e9} | found


def most_held() -> float:
    """Return the most bytes that this process has held since that was last forgotten (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024.0 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def sentences(n: int, words: int = 20) -> list[str]:
    """Return n sentences of random words."""
    drawn = np.random.default_rng(17).zipf(1.2, (n, words)) % 20_000
    names = ["".join(SYLLABLES[w // 40**k % 40] for k in range(3)) for w in range(20_000)]
    return [" ".join(names[w] for w in row).capitalize() + "." for row in drawn]


def vectors(n: int, seed: int = 17) -> np.ndarray:
    """Return (n, 384) unit vectors around 200 centres."""
    centres = np.random.default_rng(1).normal(size=(200, WIDTH)).astype(np.float32)
    plane = np.random.default_rng(2).normal(size=(32, WIDTH)).astype(np.float32)
    rng = np.random.default_rng(seed)
    found = np.empty((n, WIDTH), dtype=np.float32)
    for start in range(0, n, 100_000):
        part = found[start : start + 100_000]
        part[:] = (
            centres[rng.integers(0, 200, len(part))] + rng.normal(size=(len(part), 32)).astype(np.float32) @ plane / 4
        )
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return found


def corpus(n: int) -> Callable:
    """Prepare n documents of Markdown: sections, paragraphs, sentences."""
    folder, lines = tempfile.TemporaryDirectory(), iter(sentences(n * 120))
    for i in range(n):
        parts = [f"# Chapter {i}"]
        for section in range(6):
            parts += [f"## Section {section}", *(" ".join(next(lines) for _ in range(5)) for _ in range(4))]
        (Path(folder.name) / f"c{i:06}.md").write_text("\n\n".join(parts), encoding="utf-8")
    given = {"role": "corpus", "format": "markdown", "licence": "none", "access": "open", "path": folder.name}
    source = manifests.Source(name="generated", title="Generated", **given)

    def go() -> dict[str, float]:
        with folder:
            frame, _ = passages.prepare(source, Path(folder.name))
            return {"passages": float(len(passages.split(passages.deduplicate(frame)[0])))}

    return go


def near_duplicates(n: int) -> Callable:
    """Find near duplicates among n sentences, a tenth of them with one word changed."""
    texts = sentences(n)
    texts[-(n // 10) :] = [text.replace(text.split()[5], "changed", 1) for text in texts[: n // 10]]
    return lambda: {"found": float(len(shingles.repeats(texts, 0.8, 17)))}


def mining(n: int) -> Callable:
    """Mine negatives of n pairs by their vectors."""
    anchors = vectors(n, 3)
    positives = anchors + vectors(n, 4) / 4
    positives /= np.linalg.norm(positives, axis=1, keepdims=True)
    texts = {side: [f"{side} {i}" for i in range(n)] for side in ("anchor", "positive")}
    table = pl.DataFrame(texts).with_columns(group=pl.col("anchor"), source=pl.lit("x"), split=pl.lit("train"))
    how = settings.mining(MINE)
    return lambda: mixture.mine(table, lambda a, b: anchors[a:b] @ positives.T, how, seed=0) and None


def exact(n: int) -> Callable:
    """Search a hundred queries among n passages, comparing all."""
    queries, held = vectors(QUERIES, 5), vectors(n)
    return lambda: search.exact(queries, held, NEIGHBOURS) and None


def indexed(n: int) -> Callable:
    """Index n passages by FAISS's inverted lists, and search a hundred queries."""
    queries, held = vectors(QUERIES, 5), vectors(n)

    def go() -> dict[str, float]:
        index = search.faiss_index(held, "ivf")
        started = time.perf_counter()
        found = search.approximate(index, queries, NEIGHBOURS)[1]
        taken = time.perf_counter() - started
        right = search.exact(queries, held, NEIGHBOURS)[1]
        recall = np.mean([len({*a} & {*b}) / NEIGHBOURS for a, b in zip(found, right, strict=True)])
        return {"ms_a_query": 1000 * taken / QUERIES, "recall": float(recall)}

    return go


def notes(n: int) -> Callable:
    """Prepare n generated notes, as ``benchmarks/mimic.py`` makes them."""
    folder = tempfile.TemporaryDirectory()
    generate(Path(folder.name) / "tables", n)

    def go() -> None:
        with folder:
            mimic.prepare(Path(folder.name) / "tables", Path(folder.name) / "prepared")

    return go


def silhouettes(n: int) -> Callable:
    """Measure silhouettes of n notes of n / 5 patients; 5,000 are sampled."""
    held, rng = vectors(n), np.random.default_rng(17)
    labels = {name: [f"{c}" for c in rng.integers(0, k, n)] for name, k in (("chapter", 15), ("category", 10))}
    return lambda: silhouette.silhouettes(held, labels, rng.integers(0, max(2, n // 5), n), 17) and None


def codes(n: int) -> Callable:
    """Read 25 codes off n notes of n / 5 patients, in five folds."""
    held, rng = vectors(n), np.random.default_rng(17)
    given = [{f"c{c}" for c in row} for row in rng.integers(0, 40, (n, 6))]
    return lambda: auroc.auroc(held, given, rng.integers(0, max(5, n // 5), n), "patients", 17, draws=100) and None


def batch(n: int) -> Callable:
    """Take the loss and gradients of one batch of n pairs of sentences, in bfloat16 where the processor has it."""
    torch.manual_seed(17)
    base = models.load(models.spec("all-MiniLM-L6-v2", paths.MODELS), max_length=128)
    tuned = encoder.with_model(
        base, lora.attach(base.model, rank=16, alpha=32.0, dropout=0.05, targets="all-linear", seed=1)
    )
    training.train_mode(tuned.model)
    lengths = np.random.default_rng(17).lognormal(math.log(25), 0.45, (2, n)).round().clip(8, 128).astype(int)
    anchors, positives = ([np.arange(1000, 1000 + k).tolist() for k in side] for side in lengths)
    pairs = training.Pairs(anchors, positives, [[]] * n, list(range(n)), [str(i) for i in range(n)])
    plan = training.Plan(batch_size=n, epochs=1, learning_rate=2e-4, seed=17, precision=training.precision("auto"))

    def go() -> None:
        with fused.fused(tuned.model):
            training.batch_loss(tuned, pairs, range(n), plan).backward()

    return go


TASKS = {  # what, its smallest size, and of what
    "corpus": (corpus, 5, "documents"),
    "near duplicates": (near_duplicates, 1_000, "sentences"),
    "mining": (mining, 100, "pairs"),
    "exact search": (exact, 10_000, "passages"),
    "indexed search": (indexed, 2_000, "passages"),
    "note preparation": (notes, 5_000, "notes"),
    "silhouette": (silhouettes, 500, "notes"),
    "codes": (codes, 50, "notes"),
    "batch": (batch, 41, "pairs"),
}

if __name__ == "__main__":
    main()
