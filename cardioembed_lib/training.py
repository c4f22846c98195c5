"""How does a model learn from pairs, and how is nothing lost when the process dies?

Shapes: B pairs a batch, D width. Everything random is drawn from ``Plan.seed``. Under torch.distributed every rank takes
its slice of each batch and all end with the same adapter, that of one process (but for rounding and the dropout's draws).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn
from tqdm import tqdm

import cardioembed_lib
from cardioembed_lib import checkpoint, files, fused, hierarchical, lora, losses
from cardioembed_lib import encoder as encoders
from cardioembed_lib.encoder import Encoder


@dataclass(frozen=True)
class Pairs:
    """Training pairs, tokenised once: token ids of B anchors, positives and, for K > 0, K negatives of each."""

    anchors: list[list[int]]
    positives: list[list[int]]
    negatives: list[list[list[int]]]
    groups: list[int]
    ids: list[str]
    labels: np.ndarray | None = None  # a row for each pair, as the hierarchical loss wants it (``hierarchical``)


def tokenise(encoder: Encoder, frame: pl.DataFrame, labels: np.ndarray | None = None) -> Pairs:
    """Return a table of pairs as token ids, the encoder's prompts in front.

    Args:
        encoder: whose tokenizer, prompts and length are used.
        frame: B rows of ``anchor`` and ``positive`` (texts), ``negatives`` (as many texts in each row), ``group`` (pairs of
            one group are not each other's negatives), ``anchor_id`` and ``positive_id`` (for messages).
        labels: (B, C) bool or (B, L) int64, for the hierarchical losses.

    Raises:
        ValueError: if the pairs have different numbers of negatives.
    """
    query, document = (encoder.prompts.get(side, "") for side in ("query", "document"))
    flat = [text for texts in frame["negatives"].to_list() for text in texts]
    if len(counts := set(frame["negatives"].list.len())) > 1:
        raise ValueError(f"pairs have {min(counts)} to {max(counts)} negatives; wanted as many for each")
    each = len(flat) // max(1, len(frame))
    negatives = encoders.tokenise(encoder, flat, document)
    return Pairs(
        anchors=encoders.tokenise(encoder, frame["anchor"].to_list(), query),
        positives=encoders.tokenise(encoder, frame["positive"].to_list(), document),
        negatives=[negatives[i * each : (i + 1) * each] for i in range(len(frame))],
        groups=(frame["group"].rank("dense") - 1).cast(pl.Int64).to_list(),
        ids=(frame["anchor_id"] + " -> " + frame["positive_id"]).to_list(),
        labels=labels,
    )


@dataclass(frozen=True)
class Kept:
    """General texts, tokenised, and the vectors (M, D) that the base gives them: what training is to leave in place."""

    ids: list[list[int]]
    vectors: np.ndarray


KEPT_CHUNKS = 32  # of a batch of more tokens than these hold, activations are not kept but computed again
NO_TEXTS = Kept([], np.zeros((0, 0), dtype=np.float32))


def keep(encoder: Encoder, texts: Sequence[str], vectors: np.ndarray | None = None) -> Kept:
    """Return texts with the vectors an encoder gives them now, in float32; nothing for no texts.

    Args:
        encoder: the base, before any training.
        texts: M texts.
        vectors: (M, D), the base's, where they are known already; ``None`` embeds the texts.
    """
    if not texts:
        return NO_TEXTS
    return Kept(
        encoders.tokenise(encoder, texts), np.asarray(encoders.encode(encoder, texts) if vectors is None else vectors)
    )


LABELLED = {  # loss, and its least value
    "soft_chapter": (hierarchical.soft_chapter, hierarchical.soft_chapter_floor),
    "himulcon": (hierarchical.himulcon, hierarchical.himulcon_floor),
}


@dataclass(frozen=True)
class Plan:
    """How to train; what has no default is the recipe's own, the rest is as the notebook ``02_train`` has and explains it."""

    batch_size: int
    epochs: int
    learning_rate: float
    seed: int
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    loss: str = "infonce"
    temperature: float = 0.05
    margin: float = 0.2
    symmetric: bool = False
    shared_negatives: bool = False
    mask_groups: bool = True
    one_of_group: bool = False
    keep_weight: float = 0.0
    keep_texts: int = 64
    precision: str = "auto"
    token_budget: int = encoders.TOKEN_BUDGET
    eval_every: int = 10
    patience: int = 0
    checkpoint_every: int = 10

    def __post_init__(self) -> None:
        """Refuse a loss that is none."""
        if self.loss not in (known := ("infonce", "matryoshka", "triplet", *LABELLED)):
            raise ValueError(f"no loss {self.loss!r}; {files.near_miss(self.loss, known)}")

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Plan:
        """Return the plan in a notebook's parameters, which hold more than a plan; ``precision`` is settled (``precision``)."""
        given = {field.name: parameters[field.name] for field in fields(cls)}
        return cls(**given | {"precision": precision(given["precision"])})


def precision(wanted: str) -> str:
    """Return ``bfloat16`` or ``float32``; for ``auto`` the former where the processor or GPU multiplies it natively."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def learning_rate_at(step: int, steps: int, peak: float, warmup_fraction: float) -> float:
    """Return the rate of a step, counted from 0: linear warm-up, then half a cosine to zero (paper section 2.2).

    >>> [round(learning_rate_at(s, 10, peak=1.0, warmup_fraction=0.2), 3) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    warmup = max(1, round(warmup_fraction * steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def batches(n: int, plan: Plan, epoch: int, groups: Sequence[int] = ()) -> Iterator[np.ndarray]:
    """Yield the row numbers of each batch of an epoch: a fresh shuffle by (seed, epoch), the ragged rest left out.

    Args:
        n: pairs.
        plan: with ``one_of_group`` no batch holds two pairs of one group; a group larger than there are batches loses some.
        epoch: counted from 0.
        groups: n numbers, needed for ``one_of_group``.
    """
    order = np.random.default_rng([plan.seed, epoch]).permutation(n)
    if not plan.one_of_group:
        for start in range(0, n - plan.batch_size + 1, plan.batch_size):
            yield order[start : start + plan.batch_size]
        return
    waiting: dict[int, list[int]] = {}
    for row in order:
        waiting.setdefault(groups[row], []).append(row)
    while len(waiting) >= plan.batch_size:  # from the fullest groups, so that the most pairs are seen
        fullest = sorted(waiting, key=lambda group: -len(waiting[group]))[: plan.batch_size]
        yield np.array([waiting[group].pop() for group in fullest])
        waiting = {group: rows for group, rows in waiting.items() if rows}


def label_floor(pairs: Pairs, plan: Plan) -> float:
    """Return the least value that the labels let a hierarchical loss reach, the mean over the first epoch's batches, in nats.

    The published project's loss fell to 0.03 where its targets' entropy was above 2: its lookups had missed, so that every
    target was one-hot and the loss InfoNCE. Here that is an error.

    Args:
        pairs: with labels.
        plan: loss and batches; 0.0 for a loss without labels.

    Raises:
        ValueError: if more than half of the pairs have no label, or all targets are one-hot; says how many lookups missed.
    """
    if plan.loss not in LABELLED:
        return 0.0
    n, labels = len(pairs.ids), pairs.labels
    if labels is None:
        missed, found = n, 0.0
    else:
        missed = int(np.count_nonzero(~labels.any(axis=1) if labels.dtype == bool else (labels < 0).all(axis=1)))
        floors = [LABELLED[plan.loss][1](torch.from_numpy(labels[rows])) for rows in batches(n, plan, 0, pairs.groups)]
        found = float(np.mean(floors)) if floors else 0.0
    if 2 * missed > n or found == 0.0:
        raise ValueError(
            f"loss {plan.loss}: {missed:,} of {n:,} label lookups missed and the targets' entropy is {found:.4f}, so they are "
            "(nearly) one-hot and the loss is InfoNCE; train on pairs that have labels (of clinical notes: 'temporal')"
        )
    return found


def batch_loss(
    encoder: Encoder,
    pairs: Pairs,
    rows: Sequence[int],
    plan: Plan,
    gather: bool = False,
    kept: Kept = NO_TEXTS,
    kept_rows: Sequence[int] = (),
) -> Tensor:
    """Return the loss of some pairs, and of some kept texts: all are embedded together, in chunks of similar length.

    The chunks change speed and memory only: loss and gradients are those of one unchunked batch.

    Args:
        encoder: base with an adapter.
        pairs: tokenised pairs.
        rows: which of them.
        plan: loss, temperature, weights.
        gather: see ``losses.info_nce``.
        kept: texts that are to keep the base's vectors.
        kept_rows: which of them; their ``losses.distillation`` is added with ``plan.keep_weight``.
    """
    b, m = len(rows), len(kept_rows)
    texts = [kept.ids[r] for r in kept_rows]
    texts += [pairs.anchors[r] for r in rows] + [pairs.positives[r] for r in rows]
    texts += [negative for r in rows for negative in pairs.negatives[r]]
    device = encoder.device.type
    with torch.autocast(device, torch.bfloat16) if plan.precision == "bfloat16" else nullcontext():
        large = sum(map(len, texts)) > KEPT_CHUNKS * plan.token_budget
        if lora.sharded(encoder.model):
            large = encoders.largest(large, encoder.device) > 0
        vectors = encoders.forward(encoder, texts, plan.token_budget, cached=large)  # (M + (2 + K) B, D)
    still, vectors = vectors[:m], vectors[m:]
    loss = _pair_loss(vectors[:b], vectors[b : 2 * b], vectors[2 * b :], pairs, rows, plan, gather)
    if m:
        teachers = torch.from_numpy(kept.vectors[np.asarray(kept_rows)]).to(still.device)
        loss = loss + plan.keep_weight * losses.distillation(still, teachers)
    return loss


def _pair_loss(
    anchors: Tensor, positives: Tensor, extra: Tensor, pairs: Pairs, rows: Sequence[int], plan: Plan, gather: bool
) -> Tensor:
    negatives = extra.view(len(rows), -1, anchors.size(1)) if len(extra) else None
    if plan.loss == "triplet":
        return losses.triplet(anchors, positives, negatives, margin=plan.margin)
    if plan.loss in LABELLED:
        labels = torch.from_numpy(pairs.labels[np.asarray(rows)])
        return LABELLED[plan.loss][0](anchors, positives, labels, temperature=plan.temperature, gather=gather)
    loss = partial(
        losses.info_nce,
        temperature=plan.temperature,
        shared_negatives=plan.shared_negatives,
        symmetric=plan.symmetric,
        groups=[pairs.groups[r] for r in rows] if plan.mask_groups else None,
        gather=gather,
    )
    if plan.loss == "matryoshka":
        return losses.matryoshka(loss, anchors, positives, negatives)
    return loss(anchors, positives, negatives)


def train_mode(model: nn.Module) -> None:
    """Turn on the dropout of the adapter, and no other: the frozen base computes as it will when it encodes.

    The only dropout the paper names is LoRA's (0.05); Qwen3 has none of its own, BERT-like bases would add 0.1 at every
    layer. Blocks with gradient checkpointing get their own flag back, since transformers recomputes only where it is set; their
    parts stay in eval mode.
    """
    model.eval()
    for name, module in model.named_modules():
        if name.endswith("lora_dropout"):
            module.train()
        module.training |= getattr(module, "gradient_checkpointing", False)


def train(
    encoder: Encoder,
    pairs: Pairs,
    plan: Plan,
    folder: Path,
    evaluate: Callable[[Encoder], float] | None = None,
    progress: bool = True,
    kept: Kept = NO_TEXTS,
) -> list[dict]:
    """Train the adapter in place, leave it at its best dev score, and return the history.

    The state is kept in ``folder/checkpoint/last.safetensors``; called again after a kill, training goes on from there and
    ends, on one machine, with the bitwise same adapter. Only the adapter's dropout is active (``train_mode``).

    Under torch.distributed every rank calls this with the same arguments, each with its own copy of the model, or all with one
    (``lora.shard``); rank 0 alone evaluates (of a shared one, all do) and writes, and all see its scores. A run may go on in
    another number of processes.

    Args:
        encoder: base with an adapter (``lora.attach``), or trained as a whole (``lora.whole``); only tensors that require
            gradients are trained.
        pairs: tokenised pairs, at least one batch.
        plan: how to train.
        folder: the run's folder; ``history.jsonl`` is written there, a line a step or evaluation.
        evaluate: dev score of an encoder, higher is better; called before the first step, every ``plan.eval_every`` steps
            and after the last. ``None`` keeps the last state.
        progress: show a bar with loss and pairs per second.
        kept: texts that are to keep their vectors; ``plan.keep_texts`` of them are drawn for each step.

    Raises:
        ValueError: if there are fewer pairs than one batch, or fewer kept texts than a step takes, ranks do not divide
            either, a hierarchical loss has no labels (``label_floor``), or the checkpoint in ``folder`` belongs to another
            plan, other pairs or other kept texts.
        FloatingPointError: if a loss, its gradient or a dev score is not finite, with the ids of the batch; the adapter is
            not touched by that step, and the last checkpoint is kept.
        RuntimeError: if another rank has died.
    """
    rank, processes = ranks()
    if len(pairs.ids) < plan.batch_size:
        raise ValueError(
            f"{len(pairs.ids)} training pairs are fewer than one batch of {plan.batch_size}; lower batch_size"
        )
    for name in ("batch_size", "keep_texts")[: 1 + (plan.keep_weight > 0)]:
        if (size := getattr(plan, name)) % processes:
            raise ValueError(f"{name} is {size}; it must be a multiple of the {processes} processes that share a batch")
    if plan.keep_weight and len(kept.ids) < plan.keep_texts:
        raise ValueError(f"{len(kept.ids)} kept texts are fewer than the {plan.keep_texts} of a step; lower keep_texts")
    label_floor(pairs, plan)
    plan = replace(plan, precision=precision(plan.precision))
    drawn = (batches(len(pairs.ids), plan, epoch, pairs.groups) for epoch in range(plan.epochs))
    schedule = [(epoch, rows) for epoch, batch in enumerate(drawn) for rows in batch]
    state = checkpoint.State(
        encoder.model, _optimiser(encoder.model, plan), _identity(plan, pairs, kept), folder, rank == 0
    )
    state.resume()
    with _together(state):
        _agree(state, bool(evaluate))
        if evaluate and not state.history:
            _judge(encoder, evaluate, plan, state)
        bar = tqdm(total=len(schedule), initial=state.step, unit="step", desc="train", disable=not progress or rank > 0)
        with fused.fused(encoder.model), bar:
            while state.step < len(schedule) and not state.stopped:
                started = time.perf_counter()
                loss = _step(encoder, pairs, kept, plan, state, schedule)
                pace = plan.batch_size / (time.perf_counter() - started)
                bar.set_postfix(loss=f"{loss:.4f}", pairs_per_s=f"{pace:.0f}", refresh=False)
                bar.update()
                last = state.step == len(schedule)
                if evaluate and (state.step % plan.eval_every == 0 or last):
                    _judge(encoder, evaluate, plan, state)
                if state.step % plan.checkpoint_every == 0 or last or state.stopped:
                    state.save()
        if processes > 1:
            distributed.barrier()  # no rank goes on before rank 0 has written all
    if evaluate:
        state.restore_best()
    encoder.model.eval()
    return state.history


def _optimiser(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=plan.learning_rate, weight_decay=plan.weight_decay, foreach=False)


def _identity(plan: Plan, pairs: Pairs, kept: Kept) -> dict[str, Any]:
    """Return what a checkpoint must have been made with, to be gone on from."""
    labels = None if pairs.labels is None else pairs.labels.tolist()
    content = json.dumps([pairs.anchors, pairs.positives, pairs.negatives, pairs.groups, kept.ids, labels])
    return asdict(plan) | {"pairs": hashlib.sha256(content.encode()).hexdigest()[:12]}


def _step(
    encoder: Encoder, pairs: Pairs, kept: Kept, plan: Plan, state: checkpoint.State, schedule: Sequence[tuple]
) -> float:
    """Take one optimiser step and return its loss."""
    epoch, rows = schedule[state.step]
    rank, processes = ranks()
    train_mode(encoder.model)
    # Dropout is drawn by step and rank: a resumed run needs no generator state, whatever evaluation drew in between.
    torch.manual_seed(int(np.random.SeedSequence([plan.seed, state.step, rank]).generate_state(1, np.uint64)[0] >> 1))
    held = _kept_rows(len(kept.ids), plan, state.step)
    shares = [np.split(part, processes)[rank] for part in (rows, held)]
    loss = batch_loss(encoder, pairs, shares[0], plan, processes > 1, kept, shares[1])
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    gradients = [p.grad for p in state.parameters.values() if p.grad is not None]
    value = _mean_over_ranks([loss.detach(), *gradients])[0].item()
    norm = torch.nn.utils.clip_grad_norm_(state.parameters.values(), plan.clip_norm).item()
    if not (math.isfinite(value) and math.isfinite(norm)):
        names = ", ".join(pairs.ids[r] for r in rows[:8])
        raise FloatingPointError(
            f"loss is {value}, gradient norm {norm} at step {state.step + 1}, batch of pairs {names}, …; {state.where()}; "
            "lower learning_rate or use precision float32, under another run name"
        )
    rate = learning_rate_at(state.step, len(schedule), plan.learning_rate, plan.warmup_fraction)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.optimiser.step()
    state.step += 1
    state.log({"step": state.step, "epoch": epoch, "loss": value, "learning_rate": rate, "gradient_norm": norm})
    return value


def _judge(encoder: Encoder, evaluate: Callable[[Encoder], float], plan: Plan, state: checkpoint.State) -> None:
    """Score the model on dev, keep it if it is the best so far, stop when patience is spent."""
    encoder.model.eval()
    rank, processes = ranks()
    score = float(evaluate(encoder)) if rank == 0 or lora.sharded(encoder.model) else 0.0
    if processes > 1:
        told = torch.tensor(score, dtype=torch.float64, device=encoder.device)
        distributed.broadcast(told, 0)
        score = told.item()
    if not math.isfinite(score):
        raise FloatingPointError(
            f"dev score is {score} at step {state.step}; {state.where()}; look at what evaluate returns"
        )
    state.log({"step": state.step, "dev_score": score})
    spent = state.step - state.best_step >= plan.patience * plan.eval_every
    if not state.keep_best(score) and plan.patience and spent:
        state.stopped = True


def _kept_rows(n: int, plan: Plan, step: int) -> np.ndarray:
    """Return which kept texts a step takes, drawn anew by (seed, step)."""
    if not plan.keep_weight:
        return np.empty(0, dtype=int)
    return np.random.default_rng([plan.seed, step, 1]).choice(n, plan.keep_texts, replace=False)


def ranks() -> tuple[int, int]:
    """Return this process's rank and how many share the work: (0, 1) for one alone.

    Processes that ``accelerate launch``, its ``notebook_launcher`` or ``torchrun`` has started join each other here.
    """
    if cardioembed_lib.launched()[1] > 1 and not distributed.is_initialized():
        PartialState(cpu=not torch.cuda.is_available())
    shared = distributed.is_available() and distributed.is_initialized()
    return (distributed.get_rank(), distributed.get_world_size()) if shared else (0, 1)


def _agree(state: checkpoint.State, evaluates: bool) -> None:
    """Raise ValueError on all ranks that do not begin alike: from one step of one run, all with a dev score or none."""
    found = [None] * ranks()[1]
    if len(found) == 1:
        return
    distributed.all_gather_object(found, [state.step, evaluates, state.identity])
    for rank, other in enumerate(found):
        if other != found[0]:
            raise ValueError(
                f"rank {rank} begins at step {other[0]}, rank 0 at {found[0][0]}, or their plans, pairs or evaluate differ; give "
                "all the same, and one disk for the run's folder"
            )


@contextmanager
def _together(state: checkpoint.State) -> Iterator[None]:
    """Say in words what torch.distributed says of a process that no longer answers."""
    try:
        yield
    except RuntimeError as error:  # gloo has no class of its own
        rank, processes = ranks()
        if processes == 1 or not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise
        raise RuntimeError(
            f"rank {rank} of {processes} gets no answer from another at step {state.step + 1}: one has died (out of memory is "
            f"the usual reason) or raised an error of its own; {state.where()}; start all again to go on from there, in as "
            "many processes as you like that divide the batch"
        ) from error


def _mean_over_ranks(tensors: list[Tensor]) -> list[Tensor]:
    """Replace each tensor by its mean over the ranks: losses are means of equal slices, so this is the whole batch's."""
    for tensor in tensors if ranks()[1] > 1 else ():
        distributed.all_reduce(tensor)
        tensor /= ranks()[1]
    return tensors
