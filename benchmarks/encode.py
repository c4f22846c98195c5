"""How fast does a model read, and how much memory does it take: the comparative study's speed table, on this machine?

    python benchmarks/encode.py [--repeats 3] [--dtypes float32 bfloat16] [--out benchmarks/results]

Width, parameters, latency of one text (mean and 95th percentile), throughput of a batch of 32, weights and the growth of
memory, for every published model of ``models.yaml`` that lies in a package or in the hub's cache (nothing is fetched), ours with
its adapter merged, and for the published models' shapes with random weights: speed and memory depend on the shape, not on
what the weights are. The shapes are facts of the published configurations (MPNet's position bias and BioLinkBERT's own
vocabulary are left out), run in the first dtype only, on the tokens of all-MiniLM-L6-v2's tokenizer. GB is 10^9 bytes.

The texts are 32 sentences of the primer. Each measurement is a process of its own, forked from one that has imported
everything and done nothing, so that its memory is its own. The arms alternate; the middle of the repeats counts.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin cost a busy machine a factor of 5
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers: a model that is not here is skipped, not fetched

import importlib.util
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedModel, Qwen2Config, Qwen2Model
from transformers.utils import logging

from cardioembed_lib import encoder
from cardioembed_lib import models as lib_models
from cardioembed_study import mappings, paths, records
from cardioembed_study.corpus import manifests, passages

MODEL = "all-MiniLM-L6-v2"  # ours is this with an adapter; the shapes borrow its tokenizer
DTYPES = ("float32", "bfloat16")
N_TEXTS = 32  # the study's batch; a repeat reads each text once alone and all in one call
MOST_MILLIONS = 1000  # parameters of the largest model measured
SECONDS = 1.0  # batches are read again until so much time has passed
BUSY = 0.9  # share of the cores' time below which the machine was not ours


@dataclass(frozen=True)
class Shape:
    """An architecture, filled with random weights, and the models of ``models.yaml`` that have it."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    published: tuple[str, ...]
    kv_heads: int | None = None  # a Qwen2 where given, else a BERT

    def build(self, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        """Return the model; on the device that is the default when called."""
        sizes = {
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.feed_forward,
        }
        attention = "sdpa" if torch.cuda.is_available() else "eager"  # as encoder.load
        if self.kv_heads is None:
            return BertModel._from_config(
                BertConfig(vocab_size=30522, **sizes), dtype=dtype, attn_implementation=attention
            )
        sizes |= {"vocab_size": 151936, "num_key_value_heads": self.kv_heads, "use_cache": False}
        return Qwen2Model._from_config(Qwen2Config(**sizes), dtype=dtype, attn_implementation=attention)


SHAPES = {
    "BERT of 12 x 384": Shape(
        12, 384, 12, 1536, ("all-MiniLM-L12-v2", "bge-small-en-v1.5", "e5-small-v2", "MedEmbed-small-v0.1")
    ),
    "BERT of 12 x 768": Shape(
        12, 768, 12, 3072, ("MPNet-base", "all-mpnet-base-v2", "bge-base-en-v1.5", "gte-base", "PubMedBERT")
    ),
    "BERT of 24 x 1024": Shape(24, 1024, 16, 4096, ("BioLinkBERT-large", "bge-large-en-v1.5", "e5-large-v2")),
    "Qwen2.5 of 24 x 896": Shape(24, 896, 14, 4864, ("Qwen2.5-0.5B",), kv_heads=2),
}


@dataclass(frozen=True)
class Arm:
    """One thing measured: a model of ``models.yaml``, with an adapter or without, or a shape."""

    model: str
    dtype: str
    adapter: Path | None = None

    @property
    def label(self) -> str:
        """The model and its adapter."""
        return f"{self.model} + {self.adapter.name}" if self.adapter else self.model

    @property
    def name(self) -> str:
        """What the record calls it."""
        return f"{self.label}, {self.dtype}"


def main(arguments: Sequence[str] | None = None) -> dict:
    """Measure, print a table and write the record, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--adapter", type=Path, help="by default the first folder of adapters/")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    given = parser.parse_args(arguments)
    adapter = given.adapter or next(iter(sorted(paths.ADAPTERS.glob("*"))), None)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    started = time.perf_counter()
    arms, skipped = candidates(given.dtypes, adapter)
    read = texts()
    found, shares = alternate(arms, read, given.repeats, skipped)
    metrics = {arm.name: describe(arm) | middle(measured) for arm, measured in found.items()}
    record = records.write(
        given.out / f"encode.{device}.json",
        metrics=metrics,
        counts={
            "texts": N_TEXTS,
            "tokens_mean": np.mean([len(ids) for ids in tokens(read)]),
            "repeats": given.repeats,
            "calls": given.repeats * N_TEXTS,
            "threads": torch.get_num_threads(),
            "share_of_cores": min(shares),
        },
        inputs=[],
        params={"contended": min(shares) < BUSY, "skipped": skipped, "batch_size": N_TEXTS, "source": "primer"},
        seconds=time.perf_counter() - started,
        device=device,
    )
    report(record)
    return record


def candidates(dtypes: Sequence[str], adapter: Path | None) -> tuple[list[Arm], dict[str, str]]:
    """Return what to measure, and for each model left out beforehand the reason; shapes in the first dtype only."""
    listed = (lib_models.spec(name, paths.MODELS) for name in mappings.read(paths.MODELS))
    sizes = {spec.name: spec.parameters for spec in listed if spec.layers is None}
    skipped = {
        name: f"more than {MOST_MILLIONS:,} million parameters: minutes a batch, and more memory than a laptop's, on two cores"
        for name, size in sizes.items()
        if size and size > MOST_MILLIONS
    }
    models = [(name, None) for name in sizes if name not in skipped] + ([(MODEL, adapter)] if adapter else [])
    arms = [Arm(name, dtype, laid) for name, laid in models for dtype in dtypes]
    return arms + [Arm(name, dtypes[0]) for name in SHAPES], skipped


def alternate(
    arms: Sequence[Arm], read: list[str], repeats: int, skipped: dict[str, str]
) -> tuple[dict[Arm, list[dict]], list[float]]:
    """Return each arm's repeats, and the share of the cores' time before each round; what cannot run joins ``skipped``."""
    found: dict[Arm, list[dict]] = {}
    shares = []
    started = time.perf_counter()
    for _ in range(repeats):
        shares.append(share_of_cores())
        for arm in arms:
            if arm.label in skipped:
                continue
            try:
                one = apart(measure, arm, read)
            except (OSError, ValueError, BrokenProcessPool) as error:
                skipped[arm.label] = reason(error)
                found.pop(arm, None)
                continue
            found.setdefault(arm, []).append(one)
            print(f"{time.perf_counter() - started:5.0f} s  {line(arm.name, one)}", flush=True)
    return found, shares


def reason(error: Exception) -> str:
    """Return why an arm was left out, in one line."""
    if isinstance(error, BrokenProcessPool):
        return "its process was killed, most likely for lack of memory"
    if isinstance(error, OSError):
        return "neither in an installed package nor in the hub's cache on this machine"
    return " ".join(str(error).split())


def texts() -> list[str]:
    """Return 32 sentences of the primer, drawn by a fixed seed."""
    source = manifests.load("primer")
    found = passages.prepare(source, manifests.fetch(source))[0].filter(kind="sentence")["text"].to_list()
    return [found[i] for i in np.random.default_rng(17).permutation(len(found))[:N_TEXTS]]


def apart(task: Callable, *given) -> dict:
    """Return what a task gives in a process of its own.

    Raises:
        concurrent.futures.process.BrokenProcessPool: if that process was killed, as for lack of memory.
    """
    with ProcessPoolExecutor(1, mp_context=fresh()) as pool:
        return pool.submit(task, *given).result()


def fresh() -> multiprocessing.context.BaseContext:
    """Return how to fork from a server that has imported what is needed, and has run none of it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["peft", "transformers", "cardioembed_lib.encoder", "cardioembed_study.corpus.passages"]
    )
    return context


def share_of_cores() -> float:
    """Return the share of all cores' time that this machine gives us just now: 1 when nobody else uses it."""
    n = os.cpu_count() or 1
    with ProcessPoolExecutor(n, mp_context=fresh()) as pool:
        list(pool.map(spin, [0.1] * n))  # so that every process is up
        return min(1.0, statistics.mean(pool.map(spin, [1.0] * n)))


def spin(seconds: float) -> float:
    """Return the share of some seconds for which this process had a core."""
    started, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        pass
    return (time.process_time() - used) / (time.perf_counter() - started)


def measure(arm: Arm, read: list[str]) -> dict:
    """Return one repeat's numbers of one arm; runs in a process of its own.

    Raises:
        OSError: if the model is not here.
        ValueError: if it cannot be run.
    """
    logging.disable_progress_bar()
    before = peak_bytes()
    found = load(arm)
    # Kernels are made for each length when they are first used, and a young process asks for all its memory anew.
    warmed: list[float] = []
    while sum(warmed) < SECONDS:
        warmed += [seconds(lambda text=text: encoder.encode(found, [text])) for text in read]
    latencies = [seconds(lambda text=text: encoder.encode(found, [text])) for text in read]
    encoder.encode(found, read)
    batches: list[float] = []
    while sum(batches) < SECONDS:
        batches.append(seconds(lambda: encoder.encode(found, read)))
    parameters = list(found.model.parameters())
    return {
        "latencies_ms": [1000 * s for s in latencies],
        "texts_per_s": len(read) / statistics.median(batches),
        "width": found.model.config.hidden_size,
        "parameters": sum(p.numel() for p in parameters),
        "weights_gb": sum(p.numel() * p.element_size() for p in parameters) / 1e9,
        "peak_gb": (peak_bytes() - before) / 1e9,
    }


def seconds(task: Callable) -> float:
    """Return how long a task takes; ``encode`` gives its vectors to the processor, so a GPU has then finished."""
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def peak_bytes() -> int:
    """Return the most memory held so far: the GPU's where there is one, else this process's resident pages."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def load(arm: Arm) -> encoder.Encoder:
    """Return an arm's encoder."""
    if arm.model not in SHAPES:
        return lib_models.load(lib_models.spec(arm.model, paths.MODELS), adapter=arm.adapter, dtype=arm.dtype)
    torch.manual_seed(17)
    shape = SHAPES[arm.model]
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = shape.build(getattr(torch, arm.dtype)).eval().requires_grad_(False)
    return encoder.Encoder(
        arm.model, model, tokenizer(), "last" if shape.kv_heads else "mean", {}, 512, "random weights"
    )


def tokenizer():
    """Return all-MiniLM-L6-v2's tokenizer, without its weights."""
    module, _, inside = lib_models.spec(MODEL, paths.MODELS).package.path.partition("/")
    return AutoTokenizer.from_pretrained(Path(importlib.util.find_spec(module).submodule_search_locations[0]) / inside)


def tokens(read: list[str]) -> list[list[int]]:
    """Return the token ids of the texts, the two special ones included."""
    return tokenizer()(read)["input_ids"]


def describe(arm: Arm) -> dict:
    """Return what an arm is, in words."""
    shape = SHAPES.get(arm.model)
    return {
        "model": arm.model,
        "adapter": arm.adapter.name if arm.adapter else None,
        "dtype": arm.dtype,
        "random_weights": shape is not None,
        "shape_of": list(shape.published) if shape else [],
    }


def middle(measured: Sequence[dict]) -> dict:
    """Return the middle of the repeats: of each mean latency, each speed and each growth; P95 is over all calls.

    >>> twice = {"texts_per_s": 9.0, "width": 4, "parameters": 8, "weights_gb": 0.1, "peak_gb": 0.2}
    >>> found = middle([twice | {"latencies_ms": [1.0, 3.0]}, twice | {"latencies_ms": [2.0, 4.0]}])
    >>> found["latency_ms"], found["latency_all_ms"]
    (2.5, [2.0, 3.0])
    """
    means = [statistics.mean(one["latencies_ms"]) for one in measured]
    calls = np.concatenate([one["latencies_ms"] for one in measured])
    keys = ("texts_per_s", "peak_gb")
    return {
        "latency_ms": statistics.median(means),
        "latency_p95_ms": float(np.percentile(calls, 95)),
        **{key: statistics.median(one[key] for one in measured) for key in keys},
        **{key: measured[0][key] for key in ("width", "parameters", "weights_gb")},
        "latency_all_ms": means,
        "texts_per_s_all": [one["texts_per_s"] for one in measured],
    }


def line(name: str, one: dict) -> str:
    """Return one repeat in words."""
    latency = statistics.mean(one["latencies_ms"])
    return f"{name}: {latency:.1f} ms a text, {one['texts_per_s']:.1f} texts/s, {one['peak_gb']:.2f} GB"


def report(record: dict) -> None:
    """Print the table, what was skipped, and whether the machine was ours."""
    print(f"{'':44} width  million  latency (P95), ms    texts/s  weights, GB  growth, GB")
    for name, m in record["metrics"].items():
        print(
            f"{name:44} {m['width']:5}  {m['parameters'] / 1e6:7.1f}  {m['latency_ms']:7.1f} ({m['latency_p95_ms']:7.1f})"
            f"  {m['texts_per_s']:9.1f}  {m['weights_gb']:11.3f}  {m['peak_gb']:10.3f}"
        )
    skipped = record["params"]["skipped"]
    for why in dict.fromkeys(skipped.values()):
        print(f"skipped: {', '.join(name for name in skipped if skipped[name] == why)}: {why}")
    share = record["counts"]["share_of_cores"]
    print(f"{record['device']}, {record['seconds']} s; of the cores' time we had at least {share:.0%}")
    if record["params"]["contended"]:
        print("The machine was busy: these numbers say little. Run again when nothing else runs.")


if __name__ == "__main__":
    main()
