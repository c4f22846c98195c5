"""What vector does a model, with or without an adapter, give a text?

Shapes: B texts, T tokens, D width.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from cardioembed_lib import fused, lora, packing, pooling

TOKEN_BUDGET = 1024  # tokens in one forward pass; on a CPU more no longer fits its caches (benchmarks/train.py)
EVEN = 4  # chunks while learning come in multiples of this, so that up to as many threads have as much to do
MOST = 8  # chunks side by side: Python calls the layers of one after another's
WINDOW = 8192  # texts whose tokens are held at once
LEAST = 256  # tokens of a chunk below which calling the layers costs more than computing them


@dataclass(frozen=True)
class Encoder:
    """A loaded model with all that decides its vectors; make one with ``models.load``."""

    name: str
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    pooling: str
    prompts: dict[str, str]
    max_length: int
    revision: str

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters()).device


def tokenise(encoder: Encoder, texts: Sequence[str], prompt: str = "") -> list[list[int]]:
    """Return token ids of each text, prompt in front, cut to ``max_length``, special tokens as the tokenizer adds them.

    Qwen3-Embedding's tokenizer appends its end token itself (id 151643, which is not ``eos_token_id``).
    """
    if not texts:
        return []
    return encoder.tokenizer([prompt + t for t in texts], truncation=True, max_length=encoder.max_length)["input_ids"]


def chunks(lengths: Sequence[int], token_budget: int, padded: bool = True) -> list[np.ndarray]:
    """Return row numbers in chunks of similar length, each at most ``token_budget`` tokens when padded to its longest.

    Without padding they are as even as whole texts allow: over the budget by less than the longest text, if at all.

    >>> [c.tolist() for c in chunks([5, 1, 4, 1], token_budget=10)]
    [[0, 2], [1, 3]]
    >>> [c.tolist() for c in chunks([5, 1, 4, 1], token_budget=10, padded=False)]
    [[0], [2, 1, 3]]
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    if not padded and len(order):
        ends = np.cumsum(np.asarray(lengths)[order])
        n = math.ceil(ends[-1] / token_budget)
        middles = ends - np.asarray(lengths)[order] / 2
        parts = np.split(order, np.searchsorted(middles, ends[-1] * np.arange(1, n) / n))
        return [part for part in parts if len(part)]
    out: list[list[int]] = []
    for row in order:
        if not out or (len(out[-1]) + 1) * lengths[out[-1][0]] > token_budget:
            out.append([])
        out[-1].append(int(row))
    return [np.array(rows) for rows in out]


def pad(encoder: Encoder, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return the model's input of some texts: ``input_ids`` and ``attention_mask``, both (B, T), on its device.

    The mask hides the padding, so a tokenizer without a padding token is padded with id 0.
    """
    texts = [torch.tensor(text, dtype=torch.long) for text in ids]
    side, filler = encoder.tokenizer.padding_side, encoder.tokenizer.pad_token_id or 0
    tokens = pad_sequence(texts, batch_first=True, padding_value=filler, padding_side=side)
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True, padding_side=side)
    return {"input_ids": tokens.to(encoder.device), "attention_mask": mask.to(encoder.device)}


def forward(
    encoder: Encoder, ids: Sequence[Sequence[int]], token_budget: int = TOKEN_BUDGET, cached: bool = False
) -> Tensor:
    """Return the pooled vectors of tokenised texts, in their order, with gradients.

    Texts run in chunks of similar length, on a CPU one to each thread; the vectors are those of one large batch.

    Args:
        encoder: the model.
        ids: B token lists from ``tokenise``.
        token_budget: tokens in one chunk; speed and memory only, never the result, but for which numbers a dropout draws.
        cached: keep no activations; the backward pass computes each chunk again, with the same dropout (gradient cache, Gao
            et al. 2021, arXiv 2101.06983). Memory is then one chunk's for each thread, however large the batch.

    Returns:
        (B, D) in the model's dtype, not normalised.
    """
    learnt = [p for p in encoder.model.parameters() if p.requires_grad] if torch.is_grad_enabled() else []
    threads = threads_for(encoder)
    # A dropout is drawn by chunk: while learning, chunks are the same whatever number of threads shares them.
    parts = _parts(encoder, ids, token_budget, EVEN if learnt else threads)
    if lora.sharded(encoder.model):
        parts = _as_many(parts, encoder.device)
    again = cached and threads == 1  # side by side, nothing draws from torch's generator
    seed = int(torch.empty((), dtype=torch.int64).random_()) if learnt else 0
    device = encoder.device.type
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None

    def run(part: int) -> Tensor:
        mixed = torch.autocast(device, low) if low else nullcontext()  # it is a thread's own, as the grad mode is
        with fused.draws(seed, part), mixed, _generator(seed + part if again else None, encoder.device):
            return _vectors(encoder, [ids[r] for r in parts[part]])

    back = torch.from_numpy(np.argsort(np.concatenate(parts))).to(encoder.device)
    return _Chunked.apply(run, seed, len(parts), threads, cached, *learnt)[back]


class _Chunked(torch.autograd.Function):
    """What ``run`` gives for each chunk, one below the other; gradients are added in the chunks' order, whoever is done first."""

    @staticmethod
    def forward(ctx, run: Callable, seed: int, n: int, threads: int, cached: bool, *learnt: Tensor) -> Tensor:
        keep = bool(learnt) and not cached

        def one(part: int) -> Tensor:
            with torch.set_grad_enabled(keep):
                return run(part)

        found = list(side_by_side(one, range(n), threads))
        ctx.given = run, seed, threads, learnt, found if keep else [None] * n, [len(x) for x in found]
        return torch.cat([x.detach() for x in found])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple:
        run, seed, threads, learnt, found, sizes = ctx.given
        del ctx.given
        parts = list(zip(range(len(sizes)), gradient.split(sizes), strict=True))

        def one(task: tuple[int, Tensor]) -> tuple[Tensor | None, ...]:
            part, above = task
            with torch.enable_grad():
                vectors, found[part] = run(part) if found[part] is None else found[part], None
            with fused.draws(seed, part):  # blocks with gradient checkpointing are computed again here
                return torch.autograd.grad(vectors, learnt, above, allow_unused=True)

        total: list[Tensor | None] = [None] * len(learnt)
        for gradients in side_by_side(one, parts, threads):
            total = [t if g is None else g if t is None else t.add_(g) for t, g in zip(total, gradients, strict=True)]
        return *[None] * 5, *total


def largest(n: int, device: torch.device) -> int:
    """Return the largest of the numbers that the ranks bring."""
    found = torch.tensor(int(n), device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def _as_many(parts: list[np.ndarray], device: torch.device) -> list[np.ndarray]:
    """Return the chunks, as many on every rank: each pass through a sharded block takes all ranks."""
    wanted = largest(len(parts), device)
    while len(parts) < wanted:
        longest = max(range(len(parts)), key=lambda part: len(parts[part]))
        parts[longest : longest + 1] = np.array_split(parts[longest], 2)
    return parts


def _vectors(encoder: Encoder, ids: Sequence[Sequence[int]]) -> Tensor:
    """Return the pooled vectors of one chunk, without padding where the model allows it."""
    if packing.allowed(encoder.model):
        return packing.vectors(encoder.model, ids, encoder.pooling, encoder.device)
    batch = pad(encoder, ids)
    return pooling.pool(encoder.model(**batch).last_hidden_state, batch["attention_mask"], encoder.pooling)


def threads_for(encoder: Encoder) -> int:
    """Return how many chunks run side by side: on a CPU one a thread.

    One at a time where a dropout draws from the one shared generator, on a sharded base, and on a quantised one: its layers
    change at first use.
    """
    model = encoder.model
    alone = getattr(model, "is_quantized", False) or lora.sharded(model) or not fused.drawn_here(model)
    return 1 if alone or encoder.device.type != "cpu" else min(MOST, torch.get_num_threads())


def _parts(encoder: Encoder, ids: Sequence[Sequence[int]], token_budget: int, threads: int) -> list[np.ndarray]:
    """Return the chunks of some texts, such that every thread has as many and all are about as large."""
    lengths = [len(text) for text in ids]
    rounds = max(1, math.ceil(sum(lengths) / token_budget / threads))
    even = min(token_budget, max(LEAST, math.ceil(sum(lengths) / rounds / threads)))
    return chunks(lengths, even, padded=not packing.allowed(encoder.model))


def side_by_side(task: Callable, parts: Iterable, threads: int) -> Iterator:
    """Yield what a task gives for each part, in order; parts run in threads of their own, which share torch's processors.

    A task must not call this itself.

    Products of a thousand tokens are too small to be shared out: two threads that each compute a chunk need a sixth (float32) to
    a third (bfloat16) less time than two that share every product (benchmarks/train.py --explore).
    """
    parts = list(parts)
    if threads == 1 or len(parts) == 1:
        yield from map(task, parts)
        return
    before = torch.get_num_threads()
    each, started = max(1, before // threads), []
    try:
        torch.set_num_threads(each)
        started += [_pool(os.getpid(), threads, each).submit(task, part) for part in parts]
        yield from (future.result() for future in started)
    finally:
        try:
            _ = [future.cancel() for future in started]
            wait(started)
        finally:
            torch.set_num_threads(before)


@lru_cache
def _pool(process: int, threads: int, each: int) -> ThreadPoolExecutor:
    """Return the threads of a process, always the same: memory that one has freed is its own, and lost to a new one."""
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(each,))


@contextmanager
def _generator(seed: int | None, device: torch.device) -> Iterator[None]:
    """Draw from torch's generators as from a seed, and leave them as they were; nothing for ``None``."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def encode(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    prompt: str = "",
    width: int | None = None,
    token_budget: int = TOKEN_BUDGET,
    progress: bool = False,
) -> np.ndarray:
    """Return unit vectors of texts.

    Args:
        encoder: the model.
        texts: B texts, none empty.
        prompt: put in front of each, for example ``encoder.prompts["query"]``.
        width: Matryoshka width; the model's own when ``None``.
        token_budget: see ``forward``.
        progress: show a bar.

    Returns:
        (B, width or D) float32, each row of length 1, in the order of ``texts``.

    Raises:
        ValueError: naming the first empty text, or if a vector is not finite.
    """
    refuse_empty(texts)
    out = np.empty((len(texts), width or encoder.model.config.hidden_size), dtype=np.float32)
    bar = tqdm(total=len(texts), unit="text", desc=f"encode {encoder.name}", disable=not progress, mininterval=2)
    with bar:
        for start in range(0, len(texts), WINDOW):
            ids = tokenise(encoder, texts[start : start + WINDOW], prompt)
            threads = threads_for(encoder)
            parts = _parts(encoder, ids, token_budget, threads)
            read = partial(_read, encoder, [[ids[r] for r in rows] for rows in parts], width)
            for rows, vectors in zip(parts, side_by_side(read, range(len(parts)), threads), strict=True):
                out[start + rows] = vectors
                bar.update(len(rows))
    if not np.isfinite(out).all():
        raise ValueError(f"{encoder.name} gave vectors that are not finite; load it in float32")
    return out


def _read(encoder: Encoder, parts: Sequence[Sequence[Sequence[int]]], width: int | None, part: int) -> np.ndarray:
    with torch.inference_mode():  # a thread's own
        return pooling.normalise(_vectors(encoder, parts[part]), width).cpu().numpy()


def refuse_empty(texts: Sequence[str]) -> None:
    """Raise ValueError naming the first text that holds nothing but spaces."""
    empty = [i for i, t in enumerate(texts) if not t.strip()]
    if empty:
        raise ValueError(
            f"{len(empty)} of {len(texts)} texts are empty, the first at position {empty[0]}; drop them before encoding"
        )


def with_model(encoder: Encoder, model: nn.Module) -> Encoder:
    """Return the same encoder around another model, for example one with an adapter on it.

    Its ``revision`` is empty: the weights may change, so nothing may be kept under their name.
    """
    return replace(encoder, model=model, revision="")
