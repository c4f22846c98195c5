"""How many queries a second, by words and by an index on disk, and what does the index miss?

    python benchmarks/search.py [--words 100000] [--sizes 100000 1000000 10000000] [--out benchmarks/results]

Words: our BM25, and its fusion with a model's scores, beside bm25s as it comes and with its compiled backend, which return ten
passages where ours scores all. The arms alternate; texts are random words (``growth.sentences``).

Vectors: ``search.faiss_on_disk`` of vectors around 200 centres (``growth.vectors``), a hundred thousand at a time: 10^7 of them,
which are 15 GB, need no such memory. Recall is the share of the ten nearest that comparing all finds. Building includes drawing
the vectors, twice; a hundred queries are asked together, and ms a query is their time divided by them. Disk: half a GB a million.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bm25s
import numpy as np
from encode import apart
from growth import NEIGHBOURS, QUERIES, WIDTH, most_held, sentences, vectors

from cardioembed_study import lexical, records, search

PART, PROBES, REPEATS = 100_000, (1, 4, 16, 64, 256), 3


def main() -> None:
    """Measure, print and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=100_000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10**5, 10**6, 10**7])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    given = parser.parse_args()
    metrics = {f"words, {name}": arm for name, arm in apart(by_words, given.words).items()}
    for n in given.sizes:
        metrics[f"vectors, {n}"] = apart(by_vectors, n)
    for name, found in metrics.items():
        print(name, found)
    records.write(
        given.out / "search.cpu.json",
        metrics=metrics,
        counts={"threads": os.cpu_count(), "passages": given.words, "queries": QUERIES, "neighbours": NEIGHBOURS},
        inputs=[],
        params={"width": WIDTH, "probes": list(PROBES), "part": PART, "repeats": REPEATS},
    )


def by_words(n: int) -> dict[str, dict]:
    """Return queries a second of each arm, over its repeats."""
    texts = sentences(n + QUERIES)
    passages, queries = texts[:n], texts[n:]
    ours, asked = lexical.bm25_index(passages), lexical.stems(queries)
    peers = {backend: bm25s.BM25(k1=1.5, b=0.75, method="lucene", backend=backend) for backend in ("numpy", "numba")}
    for peer in peers.values():
        peer.index(lexical.stems(passages), show_progress=False)
    cosines = np.random.default_rng(17).random((QUERIES, n), dtype=np.float32)
    scores = np.stack([ours.get_scores(words) for words in asked])
    arms: dict[str, Callable] = {
        "BM25": lambda: [ours.get_scores(words) for words in asked],
        "fusion of both": lambda: lexical.fused(scores, cosines),
        "bm25s": lambda: peers["numpy"].retrieve(asked, k=NEIGHBOURS, show_progress=False),
        "bm25s, compiled": lambda: peers["numba"].retrieve(asked, k=NEIGHBOURS, show_progress=False),
    }
    arms["bm25s, compiled"]()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(REPEATS):
        for name, arm in arms.items():
            started = time.perf_counter()
            arm()
            seconds[name].append(time.perf_counter() - started)
    return {
        name: {"median": QUERIES / statistics.median(all), "all": [QUERIES / s for s in all]}
        for name, all in seconds.items()
    }


def by_vectors(n: int) -> dict[str, float]:
    """Return what an index on disk of n vectors takes, and how much of the ten nearest it finds."""

    def parts() -> Iterator[np.ndarray]:
        for start in range(0, n, PART):
            yield vectors(min(PART, n - start), seed=start)

    queries = vectors(QUERIES, 5)
    right = nearest(queries, parts())
    with tempfile.TemporaryDirectory() as folder:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget what comparing all has held
        started = time.perf_counter()
        index = search.faiss_on_disk(parts, Path(folder) / "index", n, progress=True)
        found = {"build_seconds": time.perf_counter() - started, "gb": most_held() / 1e9}
        found["disk_gb"] = sum(file.stat().st_size for file in (Path(folder) / "index").iterdir()) / 1e9
        found |= {"probes": {}}
        for probes in PROBES:
            index.nprobe = probes
            taken, places = [], None
            for _ in range(REPEATS):
                started = time.perf_counter()
                places = search.approximate(index, queries, NEIGHBOURS)[1]
                taken.append(time.perf_counter() - started)
            recall = np.mean([len({*a} & {*b}) / NEIGHBOURS for a, b in zip(places, right, strict=True)])
            found["probes"][str(probes)] = {
                "recall": float(recall),
                "ms_a_query": 1000 * statistics.median(taken) / QUERIES,
            }
    return found


def nearest(queries: np.ndarray, parts: Iterator[np.ndarray]) -> np.ndarray:
    """Return the places of the ten nearest of all parts, (QUERIES, 10)."""
    scores, places, n = np.empty((QUERIES, 0), np.float32), np.empty((QUERIES, 0), np.int64), 0
    for part in parts:
        some = search.exact(queries, part, NEIGHBOURS)
        scores, places = np.hstack([scores, some[0]]), np.hstack([places, some[1] + n])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :NEIGHBOURS]
        scores, places = np.take_along_axis(scores, best, 1), np.take_along_axis(places, best, 1)
        n += len(part)
    return places


if __name__ == "__main__":
    main()
