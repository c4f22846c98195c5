"""How many pairs a second does training see, ours beside sentence-transformers' trainer, in one run?

    python benchmarks/train.py [--repeats 3] [--steps 2] [--out benchmarks/results]
    python benchmarks/train.py --explore          # ours alone: what each part of it is worth
    python benchmarks/train.py --read             # the same of reading: texts a second, and the vectors compared

The same model (all-MiniLM-L6-v2), adapter (rank 16, all linear layers, dropout 0.05), loss (in-batch InfoNCE, temperature
0.05), optimiser (AdamW) and pairs: neighbouring sentences of the primer. The peer runs twice: as it comes, which trains with
the base's own dropout of 0.1, and with that set to 0, as ours has it. The arms alternate, so that a busy machine slows all.
Ours is timed from the tokenising to the last checkpoint, the peer from the first batch to the end of the last step: what
favours one, favours the peer. Threads wait without spinning; with OMP_WAIT_POLICY=ACTIVE the peer was up to a fifteenth
faster on two quiet cores, ours a third slower.

The limit is what the processor reaches in a plain product of the model's own sizes, taken in each round beside the arms:
operations a pair needs (``operations``), none for padding, divided by that rate.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch, as cardioembed_lib sets it


import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import torch
from datasets import Dataset
from encode import seconds
from peft import LoraConfig
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from transformers import TrainerCallback

from cardioembed_lib import encoder, fused, lora, models, training
from cardioembed_study import paths, records
from cardioembed_study.corpus import manifests, pairs
from cardioembed_study.corpus import passages as corpus_passages

MODEL = "all-MiniLM-L6-v2"
ADAPTER = {"rank": 16, "alpha": 32.0, "dropout": 0.05, "targets": "all-linear"}
PLAN = training.Plan(batch_size=128, epochs=1, learning_rate=2e-4, seed=17, precision="float32", checkpoint_every=10**6)
DTYPES = ("float32", "bfloat16")
PARTS = ("threads", "packing", "fused adapters", "oneDNN")
REPEATED = 60  # products timed together


def main() -> None:
    """Measure, print a table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="batches of 128 pairs in each repeat")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--explore", action="store_true")
    parser.add_argument("--read", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    given = parser.parse_args()
    texts = sentences(given.steps * PLAN.batch_size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plans = {dtype: replace(PLAN, precision=dtype) for dtype in given.dtypes}
    apart: dict[str, object] = {}
    if given.explore:
        arms = exploration(texts, plans)
        apart = {f"{dtype}, shares of a step": shares(texts, plan) for dtype, plan in plans.items()}
    else:
        arms = {(dtype, "ours"): lambda p=plan: ours(texts, p) for dtype, plan in plans.items()}
        arms |= {(d, "peer"): lambda d=d: peer(texts, d, base_dropout=True) for d in plans}
        arms |= {(d, "peer, base dropout 0"): lambda d=d: peer(texts, d, base_dropout=False) for d in plans}
    needed = operations(texts)
    arms |= {(d, "limit"): lambda d=d: needed / matrix_rate(getattr(torch, d)) for d in plans}
    if given.read:
        texts = [anchor for anchor, _ in texts]
        needed = operations(texts, forward_only=True)
        arms, apart = reading(texts, needed)
    unit = "texts" if given.read else "pairs"
    started = time.perf_counter()
    speeds: dict[tuple, list[float]] = {arm: [] for arm in arms}
    for _ in range(given.repeats):
        for arm, measure in arms.items():
            speeds[arm].append(len(texts) / measure())
            print(
                f"{time.perf_counter() - started:6.0f} s  {', '.join(arm)}: {speeds[arm][-1]:.1f} {unit}/s", flush=True
            )
    spread: dict[tuple, list[float]] = {}
    medians = {arm: statistics.median(values) for arm, values in speeds.items()}
    for (dtype, name), values in sorted(speeds.items()):
        ratio = "" if given.explore else f"{medians[dtype, 'ours'] / medians[dtype, name]:6.2f}"
        spread[dtype, name] = [] if given.explore else ratios(speeds[dtype, "ours"], values)
        shown = ", ".join(f"{v:.1f}" for v in values)
        print(f"{dtype:9} {name:28} {medians[dtype, name]:8.1f} {unit}/s  ours is x {ratio}  ({shown})")
    path = given.out / f"{'read' if given.read else 'train-explore' if given.explore else 'train'}.{device}.json"
    records.write(
        path,
        metrics={
            f"{dtype}, {name}": {"median": medians[dtype, name], "all": v, "ours_over_it": spread[dtype, name]}
            for (dtype, name), v in speeds.items()
        },
        counts={
            unit: len(texts),
            f"gflop_a_{unit[:-1]}": needed / len(texts) / 1e9,
            "repeats": given.repeats,
            "threads": torch.get_num_threads(),
            **lengths(texts),
        },
        inputs=[],
        params={
            **apart,
            "source": "primer",
            "model": MODEL,
            "batch_size": PLAN.batch_size,
            "token_budget": PLAN.token_budget,
            **ADAPTER,
        },
        seconds=time.perf_counter() - started,
    )
    print(f"{len(texts)} {unit}, tokens {lengths(texts)}; {path}")


def sentences(n: int) -> list[tuple[str, str]]:
    """Return n pairs of neighbouring sentences of the primer, drawn by a fixed seed, repeated if there are too few."""
    source = manifests.load("primer")
    passages = corpus_passages.prepare(source, manifests.fetch(source))[0].with_columns(split=pl.lit("train"))
    found = pairs.make(passages, "adjacent").select("anchor", "positive")
    order = np.random.default_rng(17).permutation(len(found))
    return found[np.resize(order, n)].rows()


def flat(texts: Sequence) -> list[str]:
    """Return pairs of texts, or texts, as texts."""
    return [text for pair in texts for text in ([pair] if isinstance(pair, str) else pair)]


def lengths(texts: Sequence) -> dict[str, float]:
    """Return the mean and the longest number of tokens of a sentence."""
    found = [len(ids) for ids in encoder.tokenise(base(), flat(texts))]
    return {"tokens_mean": float(np.mean(found)), "tokens_longest": max(found)}


def base() -> encoder.Encoder:
    """Return a fresh base model, cut at 128 tokens as ``02_train`` does."""
    return models.load(models.spec(MODEL, paths.MODELS), max_length=128)


def operations(texts: Sequence, forward_only: bool = False) -> float:
    """Return the floating-point operations of one epoch: 2 a weight and token, of every product that training cannot do without.

    Forward, and backward to the inputs, through the blocks' linear layers; nothing backward to the tokens' own vectors, which
    the first layer's q, k and v would need; the adapter's twice more, for its own gradients; scores and sums of attention.
    """
    found = base()
    modules = dict(found.model.named_modules())
    layers = {
        n: modules[n].in_features * modules[n].out_features for n in lora.target_modules(found.model, "all-linear")
    }
    first = sum(size for name, size in layers.items() if re.search(r"layer\.0\.attention\.self", name))
    adapter = lora.count(found.model, ADAPTER["rank"], ADAPTER["targets"])
    counts = [len(ids) for ids in encoder.tokenise(found, flat(texts))]
    config = found.model.config
    a_token = 2 * (sum(layers.values()) if forward_only else 2 * sum(layers.values()) - first + 3 * adapter)
    passes = 1 if forward_only else 3
    attention = passes * 4 * config.hidden_size * config.num_hidden_layers  # times the square of a text's length
    return float(sum(n * a_token + n * n * attention for n in counts))


def reading(texts: list[str], needed: float) -> tuple[dict, dict[str, float]]:
    """Return what reads texts, in seconds: ours and sentence-transformers in each dtype; and how far ours are from its vectors.

    The peer reads in batches of 32, as it does unless told otherwise. Ours in bfloat16 is compared with the peer in float32.
    """
    theirs, ours_ = {d: sentence_transformer(getattr(torch, d)) for d in DTYPES}, {}
    for d in DTYPES:
        ours_[d] = models.load(models.spec(MODEL, paths.MODELS), max_length=128, dtype=d)
    exact = theirs["float32"].encode(texts, normalize_embeddings=True)
    apart = {f"{d}_largest_difference": float(abs(encoder.encode(ours_[d], texts) - exact).max()) for d in DTYPES}
    apart["bfloat16_least_cosine"] = float((encoder.encode(ours_["bfloat16"], texts) * exact).sum(axis=1).min())
    arms = {}
    for d in DTYPES:
        arms[d, "ours"] = lambda d=d: seconds(lambda: encoder.encode(ours_[d], texts))
        arms[d, "peer"] = lambda d=d: seconds(lambda: theirs[d].encode(texts, normalize_embeddings=True))
        arms[d, "limit"] = lambda d=d: needed / matrix_rate(getattr(torch, d))
    arms["bfloat16", "peer in float32"] = arms["float32", "peer"]
    arms["bfloat16", "limit in int8"] = lambda: needed / matrix_rate(torch.int8)
    return arms, apart


def sentence_transformer(dtype: torch.dtype = torch.float32) -> SentenceTransformer:
    """Return the peer's model, cut at 128 tokens as ours."""
    module, _, inside = models.spec(MODEL, paths.MODELS).package.path.partition("/")
    folder = Path(importlib.util.find_spec(module).submodule_search_locations[0]) / inside
    model = SentenceTransformer(str(folder), model_kwargs={"dtype": dtype})
    model.max_seq_length = 128
    return model


def matrix_rate(dtype: torch.dtype) -> float:
    """Return the operations a second of products of the model's own sizes, one after another, or on every processor one.

    Whichever of both, and of torch's two libraries, is the faster: the highest rate that this machine shows.
    """
    x, w = (torch.randn(n, 384).to(dtype) for n in (1024, 1536))
    products = [lambda: torch._int_mm(x, w.T)]
    if dtype != torch.int8:
        layer = fused.quicken(torch.nn.Linear(384, 1536).to(dtype))
        products = [lambda: x @ w.T, lambda: layer(x)]
    threads, each = torch.get_num_threads(), 2 * 1024 * 384 * 1536 * REPEATED

    def run(product, _=0) -> None:
        with torch.inference_mode():
            for _ in range(REPEATED):
                product()

    rates = []
    for product in products:
        for parts in ([0], range(threads)):
            started = time.perf_counter()
            list(encoder.side_by_side(partial(run, product), parts, len(parts)))
            rates.append(each * len(parts) / (time.perf_counter() - started))
    return max(rates)


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Return median, lowest and highest of ours over the other's, round by round."""
    found = [a / b for a, b in zip(ours, theirs, strict=True)]
    return [statistics.median(found), min(found), max(found)]


def ours(texts: list[tuple[str, str]], plan: training.Plan, without: str = "") -> float:
    """Return the seconds of one epoch of our training, all of it or without one of its parts (``PARTS``)."""
    with ExitStack() as stack:
        if without == "threads":
            stack.enter_context(mock.patch.object(encoder, "threads_for", lambda _: 1))
        if without == "oneDNN":
            stack.enter_context(mock.patch.object(fused, "_onednn", None))
        if without == "fused adapters":
            stack.enter_context(mock.patch.object(training.fused, "fused", lambda _: nullcontext()))
        return _ours(texts, plan, packed=without != "packing")


def _ours(texts: list[tuple[str, str]], plan: training.Plan, packed: bool) -> float:
    found = base()
    if not packed:
        found.model.set_attn_implementation("eager")
    found = encoder.with_model(found, lora.attach(found.model, **ADAPTER, seed=1))
    started = time.perf_counter()
    rows = tokenised(found, texts)
    with tempfile.TemporaryDirectory() as folder:
        training.train(found, rows, plan, Path(folder), progress=False)
        return time.perf_counter() - started


def tokenised(found: encoder.Encoder, texts: list[tuple[str, str]]) -> training.Pairs:
    """Return pairs of texts as ours trains on them, each a group of its own."""
    anchors, positives = (encoder.tokenise(found, side) for side in zip(*texts, strict=True))
    n = len(texts)
    return training.Pairs(anchors, positives, [[]] * n, list(range(n)), [str(i) for i in range(n)])


def peer(texts: list[tuple[str, str]], dtype: str, base_dropout: bool) -> float:
    """Return the seconds of one epoch of sentence-transformers' trainer: every batch padded to its longest text."""
    model = sentence_transformer()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout) and not base_dropout:
            part.p = 0.0
    names = lora.target_modules(model[0].auto_model, ADAPTER["targets"])
    config = LoraConfig(
        r=ADAPTER["rank"], lora_alpha=ADAPTER["alpha"], lora_dropout=ADAPTER["dropout"], target_modules=names
    )
    model.add_adapter(config)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=PLAN.batch_size,
                learning_rate=PLAN.learning_rate,
                weight_decay=PLAN.weight_decay,
                warmup_steps=1,
                lr_scheduler_type="cosine",
                bf16=dtype == "bfloat16",
                use_cpu=not torch.cuda.is_available(),
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                seed=1,
            ),
            train_dataset=Dataset.from_dict({"anchor": [a for a, _ in texts], "positive": [p for _, p in texts]}),
            loss=losses.MultipleNegativesRankingLoss(model, scale=1 / PLAN.temperature),
            callbacks=[clock],
        ).train()
    return clock.seconds


class Clock(TrainerCallback):
    """Takes the time from the start of the loop to the end of the last step."""

    def on_train_begin(self, *args, **kwargs) -> None:
        """Start."""
        self.started = time.perf_counter()

    def on_step_end(self, *args, **kwargs) -> None:
        """Stop; the last one counts."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started


def shares(texts: list[tuple[str, str]], plan: training.Plan) -> dict[str, float]:
    """Return which share of a step in one thread each kind of work takes, by torch's profiler, and what the limit is of it.

    The limit is the time of the step's operations at the rate that this thread reaches in a plain product (``matrix_rate``).
    """
    threads = torch.get_num_threads()
    found = base()
    found = encoder.with_model(found, lora.attach(found.model, **ADAPTER, seed=1))
    texts = texts[: plan.batch_size]
    rows = tokenised(found, texts)
    training.train_mode(found.model)

    def step() -> float:
        return seconds(lambda: training.batch_loss(found, rows, range(len(texts)), plan).backward())

    try:
        torch.set_num_threads(1)
        with fused.fused(found.model):
            step()
            limit = operations(texts) / matrix_rate(getattr(torch, plan.precision))
            with torch.profiler.profile(record_shapes=True) as profile:
                whole = step()
    finally:
        torch.set_num_threads(threads)
    parts: Counter[str] = Counter()
    for event in profile.key_averages(group_by_input_shape=True):
        parts[kind(event.key, event.input_shapes)] += event.self_cpu_time_total / 1e6 / whole
    return dict(parts) | {"limit": limit / whole}


def kind(operation: str, shapes: list[list[int]]) -> str:
    """Return what sort of work an operation of torch's is."""
    if re.search(r"mm$|mm_$|_linear_pointwise$", operation):
        narrowest = min(size for shape in shapes if len(shape) > 1 for size in shape)
        return "adapter's products" if narrowest <= 3 * ADAPTER["rank"] else "base's products"  # q, k and v together
    names = {"attention": "attention", "gelu": "GELU", "norm": "norms", "::": "other of torch"}
    return next((name for part, name in names.items() if part in operation), "Python and NumPy")


def exploration(texts: list[tuple[str, str]], plans: dict[str, training.Plan]) -> dict:
    """Return our arms: all of it, without each part, and with other sizes of a chunk."""
    arms = {}
    for dtype, plan in plans.items():
        arms[dtype, "all"] = lambda p=plan: ours(texts, p)
        for part in PARTS:
            arms[dtype, f"without {part}"] = lambda p=plan, part=part: ours(texts, p, part)
        for budget in (512, 2048):
            other = replace(plan, token_budget=budget)
            arms[dtype, f"{budget} tokens a chunk"] = lambda p=other: ours(texts, p)
    return arms


if __name__ == "__main__":
    main()
