"""How long does preparation take? The open sources as they are, and near-duplicate removal of 150,000 sentences.

python benchmarks/corpus.py [--out FOLDER]     needs the open sources (fetched, or CARDIOEMBED_MIRROR)
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import polars as pl

from cardioembed_study import records
from cardioembed_study.corpus import manifests
from cardioembed_study.corpus import passages as corpus_passages

SOURCES = (
    "openstax_anatomy_physiology_2e",
    "openstax_pharmacology",
    "openstax_nutrition",
    "openstax_population_health",
    "medquad",
)
N_SENTENCES, N_PLANTED, WORDS = 150_000, 5_000, 40


def peak_gibibytes() -> float:
    """Return the most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def open_sources() -> dict[str, float]:
    """Return seconds for reading, cleaning, deduplicating, splitting and auditing every open source, hashes included."""
    started = time.perf_counter()
    frames, n_raw = [], 0
    for name in SOURCES:
        source = manifests.load(name)
        frame, counts = corpus_passages.prepare(source, manifests.fetch(source))
        manifests.check_counts(source, counts)
        frames.append(frame)
        n_raw += counts["sentences_raw"]
    passages, _ = corpus_passages.deduplicate(pl.concat(frames))
    corpus_passages.near_duplicate_audit(corpus_passages.split(passages))
    return {"seconds": time.perf_counter() - started, "sentences_raw": n_raw, "passages": len(passages)}


def planted() -> dict[str, float]:
    """Return seconds and recall for random sentences, some of them near copies: one word of forty exchanged at the end."""
    rng = np.random.default_rng(17)
    words = rng.integers(0, 20_000, (N_SENTENCES, WORDS))
    words[-N_PLANTED:] = words[:N_PLANTED]
    words[-N_PLANTED:, -1] = 20_001
    letters = [
        "".join(chr(97 + w // 26**i % 26) for i in range(4)) for w in range(20_002)
    ]  # no digits: numbers never merge
    texts = [" ".join(letters[w] for w in row) for row in words]
    rows = [(f"s:d:{i:06d}", "s", "d", "other", "x", "sentence", [], text) for i, text in enumerate(texts)]
    frame = pl.DataFrame(rows, schema=corpus_passages.SCHEMA, orient="row")
    started = time.perf_counter()
    _, counts = corpus_passages.deduplicate(frame)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "planted": N_PLANTED, "found": counts["near_duplicates"]}


def main() -> None:
    """Measure both and write a record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    out = parser.parse_args().out
    metrics = {"open_sources": open_sources(), "planted_near_duplicates": planted(), "peak_gibibytes": peak_gibibytes()}
    record = records.write(
        out / "corpus.prepare.json", metrics=metrics, counts={"sentences": N_SENTENCES}, inputs=[], params={}
    )
    print(record["device"])
    for name, value in metrics.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
