"""What does a vector for each token find that one vector for a text does not, and what does it cost?

Late interaction (ColBERT: Khattab and Zaharia 2020, arXiv 2004.12832). Model, loss, trainer, MaxSim and token pooling are
those of sentence-transformers; bases, adapters, batches, folders and their digests are ours, as for single vectors.

Shapes: Q queries, N passages, T tokens, D width.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import torch
from numpy.typing import ArrayLike, NDArray
from sentence_transformers import MultiVectorEncoder, MultiVectorEncoderTrainer, util
from sentence_transformers import MultiVectorEncoderTrainingArguments as Arguments
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask
from torch import nn
from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback

from cardioembed_lib import files, lora, models, training
from cardioembed_lib.encoder import Encoder
from cardioembed_study import embeddings
from cardioembed_study.medembed import asked as asking
from cardioembed_study.medembed.asked import Asked
from cardioembed_study.retrieval import contrasts

ADAPTER = {"rank": 16, "alpha": 32.0, "dropout": 0.05, "targets": "all-linear"}  # as in all our runs
LENGTH = 128  # tokens of a text in training, as in all our runs
CHUNK = 2**23  # numbers that MaxSim holds at once: 32 MiB in float32
COLUMNS = 512  # passages turned to float32 at once
RATES = (2e-4, 5e-4, 1e-3)  # tried on dev
POOLED, DEPTH = 10, 100  # tokens to a vector; passages that a first pass hands on
MADE = "late.json"  # what a trained model was made of, and its history
REMEDY = "remove the folder and train it again"

Tokens = list[NDArray[np.float16]]  # of each text (T, D), unit vectors


def untrained(encoder: Encoder) -> MultiVectorEncoder:
    """Return a model of the token vectors that an encoder has already: its last states, normalised.

    Args:
        encoder: a base, or one with what it learnt merged in.
    """
    with tempfile.TemporaryDirectory() as folder:
        for part in (encoder.model, encoder.tokenizer):
            part.save_pretrained(folder)
        lengths = {"query_length": encoder.max_length, "document_length": encoder.max_length}
        transformer = Transformer(folder, model_kwargs={"attn_implementation": "sdpa"}, **lengths)
    transformer.model.config.name_or_path = encoder.name
    modules = [transformer, MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
    return MultiVectorEncoder(modules=modules, prompts=encoder.prompts, device=str(encoder.device)).eval()


def trained(
    model: MultiVectorEncoder, pairs: pl.DataFrame, plan: training.Plan, folder: Path, progress: bool = True
) -> MultiVectorEncoder:
    """Return the model tuned on pairs, from ``folder`` if that very training is finished there.

    InfoNCE of MaxSim with the batch's other positives and all its negatives as negatives; LoRA on every linear layer, merged
    at the end. As for single vectors only the adapter has dropout, and no batch holds
    two pairs of one group, since this loss cannot mask them.

    Args:
        model: ``untrained``; it is used up.
        pairs: ``anchor``, ``positive``, ``negatives`` (as many in each row) and ``group``.
        plan: batches, learning rate, warm-up and half a cosine, decay, clipping, seed, precision; ``temperature`` divides a
            MaxSim, the sum over a query's tokens, so that 1.0 is ColBERT's and the library's.
        folder: model of safetensors, what it was made of with its history (``MADE``), and the digests of all files.
        progress: show a bar.

    Raises:
        ValueError: if the folder holds another training or was changed, or there are too few pairs for a batch.
    """
    plan = replace(plan, one_of_group=True, precision=training.precision(plan.precision))
    texts = pairs.select("anchor", "positive", "negatives", "group").write_json()
    made = {"plan": asdict(plan), "adapter": ADAPTER, "max_length": LENGTH, "base": fingerprint(model)}
    made["pairs"] = hashlib.sha256(texts.encode()).hexdigest()
    if (folder / models.SUMS).exists():
        if (found := made_of(folder)["made"]) != made:
            odd = ", ".join(key for key in made if made[key] != found.get(key))
            raise ValueError(f"{folder.name} holds another training ({odd}); choose another folder, or {REMEDY}")
        return load(folder)
    started = time.monotonic()
    history = _train(model, pairs, plan, progress)
    model.save_pretrained(str(folder), create_model_card=False)
    seconds = time.monotonic() - started
    files.write(folder / MADE, json.dumps({"made": made, "seconds": seconds, "history": history}, indent=1))
    files.write_sums(folder / models.SUMS, (path for path in folder.rglob("*") if path.is_file()))
    return load(folder)


def load(folder: Path) -> MultiVectorEncoder:
    """Return a trained model; ValueError or FileNotFoundError if its files are not those that were written."""
    files.verify(folder / models.SUMS, ("modules.json", models.WHOLE, MADE), REMEDY)
    return MultiVectorEncoder(str(folder), local_files_only=True).eval()


def made_of(folder: Path) -> dict:
    """Return what a trained model was made of (``made``), ``seconds`` and ``history``, a row a step; raises as ``load``."""
    files.verify(folder / models.SUMS, (MADE,), REMEDY)
    return json.loads((folder / MADE).read_text(encoding="utf-8"))


def _train(model: MultiVectorEncoder, pairs: pl.DataFrame, plan: training.Plan, progress: bool) -> list[dict]:
    """Train in place, merge the adapter and return loss and learning rate of each step."""
    groups = (pairs["group"].rank("dense") - 1).cast(pl.Int64).to_list()
    drawn = (training.batches(len(pairs), plan, epoch, groups) for epoch in range(plan.epochs))
    if not (batches := [rows.tolist() for batch in drawn for rows in batch]):
        raise ValueError(
            f"{len(pairs)} pairs, {len(set(groups))} groups: no batch of {plan.batch_size}; lower batch_size"
        )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model[0].model = lora.attach(model[0].model, **ADAPTER, seed=plan.seed)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=plan.learning_rate, weight_decay=plan.weight_decay, foreach=False)
    rate = functools.partial(
        training.learning_rate_at, steps=len(batches), peak=1.0, warmup_fraction=plan.warmup_fraction
    )
    both = optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    with tempfile.TemporaryDirectory() as scratch:
        recipe = {"seed": plan.seed, "bf16": plan.precision == "bfloat16", "max_grad_norm": plan.clip_norm}
        sizes = {"max_length": LENGTH, "per_device_train_batch_size": plan.batch_size, "max_steps": len(batches)}
        quiet = {"report_to": "none", "logging_steps": 1, "disable_tqdm": not progress, "dataloader_pin_memory": False}
        quiet |= {"save_strategy": "no", "use_cpu": model.device.type == "cpu"}  # a checkpoint would hold pickles
        arguments = Arguments(scratch, batch_sampler=lambda *_, **__: batches, **recipe, **sizes, **quiet)
        loss = MultiVectorMultipleNegativesRankingLoss(model, scale=1 / plan.temperature, mini_batch_size=32)
        trainer = MultiVectorEncoderTrainer(model, arguments, _columns(model, pairs), loss=loss, optimizers=both)
        trainer.remove_callback(ProgressCallback if progress else PrinterCallback)
        if progress:
            trainer.add_callback(_Bar)
        trainer.train()
    model[0].model = lora.merge(model[0].model)
    model.eval()
    log = trainer.state.log_history
    return [{key: row[key] for key in ("step", "loss", "learning_rate")} for row in log if "loss" in row]


class _Bar(ProgressCallback):
    """A bar with the loss beside it, where the library writes a line a step."""

    def on_log(self, args, state, control, logs=None, **_) -> None:
        self.training_bar.set_postfix(loss=logs.get("loss"))


def _columns(model: MultiVectorEncoder, pairs: pl.DataFrame) -> datasets.Dataset:
    """Return the pairs as the trainer reads them: a query, then its documents, the model's prompts in front."""
    negatives = pairs["negatives"].list.len().unique().to_list()
    if len(negatives) != 1:
        raise ValueError(f"pairs have {min(negatives)} to {max(negatives)} negatives; wanted as many for each")
    sides = {"positive": pairs["positive"]}
    sides |= {f"negative_{n}": pairs["negatives"].list.get(n) for n in range(negatives[0])}
    query, document = (model.prompts.get(side) or "" for side in ("query", "document"))
    texts = {name: [document + text for text in column] for name, column in sides.items()}
    return datasets.Dataset.from_dict({"anchor": [query + text for text in pairs["anchor"]]} | texts)


def fingerprint(model: MultiVectorEncoder) -> str:
    """Return a digest of all that decides the vectors: weights, modules, lengths, prompts."""
    digest = hashlib.sha256(json.dumps([str(model), model.prompts, model[0].get_config_dict()], default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def vectors(asked: Asked, model: MultiVectorEncoder, cache: Path) -> tuple[Tokens, Tokens]:
    """Return the token vectors of queries and passages, from ``cache`` as far as this model has seen these texts.

    A file holds ``embeddings.SHARD`` texts; its key is of weights and texts; what is damaged is embedded again.
    """
    weights = fingerprint(model)
    queries = _cached(asked.queries, model.encode_query, f"{weights} query", cache)
    return queries, _cached(asked.passages, model.encode_document, f"{weights} document", cache)


def _cached(texts: Sequence[str], encode: Callable[..., list], key: str, cache: Path) -> Tokens:
    found: Tokens = []
    shards = [list(texts[start : start + embeddings.SHARD]) for start in range(0, len(texts), embeddings.SHARD)]
    for shard in tqdm(shards, desc="token vectors", unit=f"{embeddings.SHARD} texts", disable=len(shards) < 2):
        file = cache / f"{hashlib.sha256(json.dumps([key, *shard]).encode()).hexdigest()[:24]}.safetensors"
        if (known := embeddings.read(file, functools.partial(_misfit, n=len(shard)))) is None:
            embedded = encode(shard, convert_to_numpy=True, show_progress_bar=False)
            known = {"vectors": np.concatenate(embedded).astype(np.float16)}
            known["lengths"] = np.array([len(tokens) for tokens in embedded])
            embeddings.keep(file, **known)
        found += np.split(known["vectors"], np.cumsum(known["lengths"])[:-1])
    return found


def _misfit(arrays: Mapping[str, NDArray], n: int) -> str:
    fits = {*arrays} == {"vectors", "lengths"} and len(arrays["lengths"]) == n
    return "" if fits and arrays["lengths"].sum() == len(arrays["vectors"]) else f"holds no token vectors of {n} texts"


def similarities(queries: Tokens, passages: Tokens) -> NDArray[np.float32]:
    """Return (Q, N): for each token of a query its nearest in the passage, the mean of these cosines.

    The mean over a query's tokens ranks as ColBERT's sum does, and its rounding is small enough for equals to tie
    (``metrics.gold_ranks``). Memory is bounded by ``CHUNK`` and ``COLUMNS``.

    >>> apart = np.eye(2, dtype=np.float16)
    >>> similarities([apart], [apart, apart[:1]]).tolist()
    [[1.0, 0.5]]
    """
    asked = [torch.from_numpy(tokens).float() for tokens in queries]
    order = np.argsort([len(tokens) for tokens in passages], kind="stable")
    out = np.empty((len(queries), len(passages)), dtype=np.float32)
    for start in range(0, len(order), COLUMNS):
        columns = order[start : start + COLUMNS]
        kept = [torch.from_numpy(passages[column]).float() for column in columns]
        out[:, columns] = util.mean_maxsim(asked, kept, chunk_elements=CHUNK).numpy()
    return out


def pooled(passages: Tokens, factor: float) -> Tokens:
    """Return about one vector for ``factor`` tokens: Ward clusters' means, the first token apart (arXiv 2409.14683)."""
    found = HierarchicalTokenPooling(factor).pool([torch.from_numpy(tokens).float() for tokens in passages])
    return [tokens.numpy().astype(np.float16) for tokens in found]


def eight_bits(passages: Tokens) -> tuple[Tokens, int]:
    """Return the vectors as whole numbers of 8 bits give them back, and the bytes of those with a scale for each vector.

    >>> vectors, size = eight_bits([np.array([[1.0, -0.5]], dtype=np.float16)])
    >>> vectors[0].round(2).tolist(), size
    ([[1.0, -0.5]], 4)
    """
    scales = [(np.abs(each).max(axis=1, keepdims=True) / np.float32(127)).astype(np.float16) for each in passages]
    pairs = [(np.rint(each / scale).astype(np.int8), scale) for each, scale in zip(passages, scales, strict=True)]
    return [codes * scale for codes, scale in pairs], sum(codes.nbytes + scale.nbytes for codes, scale in pairs)


def size(passages: Tokens) -> dict[str, float]:
    """Return vectors and bytes of a passage, on average, as they lie in memory."""
    n = len(passages)
    return {"vectors": sum(map(len, passages)) / n, "bytes": sum(tokens.nbytes for tokens in passages) / n}


def milliseconds(queries: Sequence[Any], scored: Callable[[Any], Any], n: int = 20) -> float:
    """Return the median processor time of scoring one query, n queries one by one; other work does not count."""
    times = []
    for query in queries[:n]:
        started = time.process_time()
        scored(query)
        times.append(time.process_time() - started)
    return 1000 * float(np.median(times))


def second_pass(first: ArrayLike, second: ArrayLike, depth: int = DEPTH) -> NDArray[np.float32]:
    """Return the second pass's similarities (Q, N) of what is among the first ``depth`` of the first pass, else ``-inf``.

    Ties count against us: passages that tie across the border are all left out, so some queries keep fewer.

    >>> second_pass([[3, 2, 1]], [[0.1, 0.2, 0.9]], depth=2).tolist()
    [[0.10000000149011612, 0.20000000298023224, -inf]]
    """
    first, second = (np.asarray(scores, dtype=np.float32) for scores in (first, second))
    if first.shape != second.shape:
        raise ValueError(f"the passes score {first.shape} and {second.shape}; give both all queries and passages")
    border = np.full((len(first), 1), -np.inf)
    if depth < first.shape[1]:
        border = -np.partition(-first, depth, axis=1)[:, depth : depth + 1]  # the best that must stay out
    return np.where(first > border, second, -np.inf).astype(np.float32)


def tuned(encoder: Encoder, pairs: pl.DataFrame, plan: training.Plan, folder: Path) -> MultiVectorEncoder:
    """Return a base tuned for late interaction, from ``folder`` if it was trained before: a folder a rate and seed."""
    return trained(untrained(encoder), pairs, plan, folder / f"rate-{plan.learning_rate:g}-seed-{plan.seed}")


def score(asked: Asked, model: MultiVectorEncoder, cache: Path) -> NDArray[np.float64]:
    """Return what all token vectors of a model score on a task, query by query (``asked.score``)."""
    return asking.score(asked, similarities(*vectors(asked, model, cache)))


def forms(
    asked: Asked, model: MultiVectorEncoder, first: Mapping[str, ArrayLike], cache: Path
) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """Return how close passages are to queries by each way of keeping a model's token vectors, and the bytes of a passage.

    Args:
        asked: the task.
        model: whose token vectors are kept.
        first: a name to the similarities (Q, N) of a first pass, whose hundred nearest a second pass by all token vectors sorts.
        cache: folder of embeddings.

    Returns:
        Similarities (Q, N) by form: ``all``, ``all_int8``, ``tenth``, ``tenth_int8``, ``second_<name>``; bytes by form but
        the last, of which only the first pass has an index.
    """
    queries, passages = vectors(asked, model, cache)
    few = pooled(passages, POOLED)
    found, kept = {}, {}
    for name, tokens in (("all", passages), ("tenth", few)):
        small, whole = eight_bits(tokens)
        found |= {name: similarities(queries, tokens), f"{name}_int8": similarities(queries, small)}
        kept |= {name: size(tokens)["bytes"], f"{name}_int8": whole / len(tokens)}
    return found | {f"second_{name}": second_pass(scores, found["all"]) for name, scores in first.items()}, kept


def measured(
    tasks: Mapping[str, Asked],
    models: Mapping[str, Sequence[MultiVectorEncoder]],
    single: Mapping[str, Mapping[str, NDArray[np.float64]]],
    first: Mapping[str, Mapping[str, ArrayLike]],
    cache: Path,
    seed: int,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what token vectors score in each form, and that less one vector for a text, asked of the same pools.

    Args:
        tasks: by name, all those of ``asked.JOINED``.
        models: recipe to its models, whose scores are averaged.
        single: recipe, then task: what one vector for a text scores, query by query (``asked.scores``).
        first: as for ``forms``, by task.
        cache: folder of embeddings.
        seed: of draws and sign flips.

    Returns:
        Recipe, key of ``asked.JOINED`` and form to ``score``, ``bytes`` (of a passage in the index, over the pools
        of all its tasks) and ``contrasts.measured`` of the difference; the first passes themselves stand among the forms.
    """
    units, found = asking.units(tasks), {}
    for recipe, members in models.items():
        scored: dict[str, dict[str, NDArray]] = {}
        kept: dict[str, dict[str, float]] = {}
        for name, task in tasks.items():
            made = [forms(task, model, first[name], cache) for model in members]
            for form in made[0][0]:
                each = [asking.score(task, similar[form]) for similar, _ in made]
                scored.setdefault(form, {})[name] = np.mean(each, axis=0)
            for way, scores in first[name].items():
                scored.setdefault(way, {})[name] = asking.score(task, scores)
            kept[name] = {form: float(np.mean([sizes[form] for _, sizes in made])) for form in made[0][1]}
        alone = asking.joined(single[recipe])
        found[recipe] = {key: {} for key in alone}
        for form, by_task in scored.items():
            for key, scores in asking.joined(by_task).items():
                less = contrasts.measured(scores - alone[key], units[key], seed)
                joined = asking.JOINED[key]
                pools = [len(tasks[name].passages) for name in joined]
                sizes = [kept[name][form] for name in joined if form in kept[name]]
                size_of = {"bytes": float(np.average(sizes, weights=pools))} if sizes else {}
                found[recipe][key][form] = {"score": float(scores.mean()), **size_of, **less}
    return found


def times(asked: Asked, model: MultiVectorEncoder, single: tuple[NDArray, NDArray], cache: Path) -> dict[str, float]:
    """Return the processor milliseconds of scoring a query that is embedded already, the index ready in float32.

    Args:
        asked: the task; a query is scored among all its passages.
        model: of the token vectors.
        single: vectors of queries (Q, D) and passages (N, D).
        cache: folder of embeddings.

    Returns:
        ``single``: by one vector a text; ``all`` and ``tenth``: by token vectors; ``second``: by one vector a text, then the
        first ``DEPTH`` by all their token vectors.
    """
    queries, passages = vectors(asked, model, cache)
    ready = {name: _laid_out(each) for name, each in (("all", passages), ("tenth", pooled(passages, POOLED)))}
    both = list(zip(queries, single[0], strict=True))

    def second(query: tuple[NDArray, NDArray]) -> NDArray[np.float32]:
        nearest = np.argpartition(single[1] @ -query[1], min(DEPTH, len(passages)) - 1)[:DEPTH]
        return _of_one(query[0], *_laid_out([passages[n] for n in nearest]))

    found = {
        name: milliseconds(both, lambda query, index=index: _of_one(query[0], *index)) for name, index in ready.items()
    }
    return found | {
        "single": milliseconds(both, lambda query: single[1] @ query[1]),
        "second": milliseconds(both, second),
    }


def _laid_out(passages: Tokens) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return all token vectors, one passage after the other, and where each passage begins."""
    return np.concatenate(passages).astype(np.float32), np.cumsum([0, *map(len, passages[:-1])])


def _of_one(query: NDArray, vectors: NDArray[np.float32], begins: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return ``similarities`` of one query."""
    return np.maximum.reduceat(vectors @ query.astype(np.float32).T, begins, axis=0).mean(axis=1)
