"""How are texts of different lengths read in one pass without padding?

All their tokens stand in one row; every layer but attention works token by token and needs no more. Attention is told where
texts begin (``cu_seq_lens_q``, as transformers calls it for its variable-length kernels) and never looks past a text's end.

Shapes: N tokens of all texts, H heads, h width of a head; B texts, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from cardioembed_lib import pooling

NAME = "packed"
SHORT = 128  # tokens of a text up to which plain products read faster than the fused kernel
# Tokens, reached by texts of one token: oneDNN compiles a kernel for each new number of them, and keeps it.
MULTIPLE = 64
ARCHITECTURES = {"bert", "qwen2", "qwen3", "gemma3_text"}  # those whose attention the tests compare with padded texts


def allow(model: nn.Module) -> nn.Module:
    """Return the model, its attention ours where its architecture is known to work with it, else as it was."""
    if model.config.model_type in ARCHITECTURES:
        model.set_attn_implementation(NAME)
    return model


def allowed(model: nn.Module) -> bool:
    """Return whether ``vectors`` can be asked of a model."""
    return model.config._attn_implementation == NAME


def vectors(model: nn.Module, ids: Sequence[Sequence[int]], how: str, device: torch.device) -> Tensor:
    """Return the pooled vectors of some texts, read in one pass without padding.

    Args:
        model: one that is ``allowed``.
        ids: B token lists; faster if texts of one length are neighbours.
        how: the pooling (``pooling.pool``).
        device: where the model's weights are.

    Returns:
        (B, D) in the model's dtype, not normalised.
    """
    lengths = [len(text) for text in ids]
    filling = -sum(lengths) % MULTIPLE if sum(lengths) > 4 * MULTIPLE else 0
    read = [*ids, *[[0]] * filling]
    tokens = torch.tensor([token for text in read for token in text], device=device)
    places = torch.tensor([place for text in read for place in range(len(text))], device=device)
    ends = np.cumsum([0, *map(len, read)], dtype=np.int32)
    hidden = model(
        input_ids=tokens[None],
        position_ids=places[None],
        cu_seq_lens_q=torch.from_numpy(ends).to(device),
        max_length_q=max(lengths),
        runs=list(runs([len(text) for text in read])),
    ).last_hidden_state[0]  # (N, D)
    parts = [hidden[start:stop].unflatten(0, (-1, length)) for start, stop, length in runs(lengths)]
    return torch.cat([pooling.pool(part, part.new_ones(part.shape[:2], dtype=torch.long), how) for part in parts])


def runs(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield first token, end and length of each run of neighbouring texts of one length.

    >>> list(runs([3, 3, 2]))
    [(0, 6, 3), (6, 8, 2)]
    """
    start = 0
    for length, run in groupby(lengths):
        stop = start + length * len(list(run))
        yield start, stop, length
        start = stop


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given
) -> tuple[Tensor, None]:
    """Return attention within each text; of padded texts what transformers' ``sdpa`` returns.

    Args:
        module: the layer; its ``is_causal`` says whether a token sees the ones after it.
        query: (1, H, N, h).
        key: (1, H or fewer, N, h).
        value: as ``key``.
        attention_mask: of padded texts only.
        given: ``runs``, ``cu_seq_lens_q`` and ``max_length_q`` of packed texts; ``scaling``, ``sliding_window``.

    Returns:
        (1, N, H, h), and no weights.

    Raises:
        ValueError: if packed texts are to be read with dropout.
    """
    causal, window = bool(getattr(module, "is_causal", False)), given.get("sliding_window")
    if "runs" not in given and (attention_mask is not None or window is None):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    if given.get("dropout"):
        raise ValueError("texts without padding are read without dropout of attention; put the model in eval mode")
    scale = given.get("scaling") or query.size(-1) ** -0.5
    wanted = value.dtype
    query, key = query.to(wanted), key.to(wanted)  # norms of queries and keys give float32 under autocast
    if "runs" in given and query.is_cuda and wanted in (torch.bfloat16, torch.float16):
        return _kernel(query, key, value, given, scale, causal, window)[None], None
    if query.device.type == "cpu":  # of half precision each size needs a kernel of its own, and runs have many sizes
        query, key, value = query.float(), key.float(), value.float()
    groups = query.size(1) // key.size(1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if "runs" not in given:  # rows of one length, and no mask was made for their window
        hidden = _hidden(query.size(2), causal, window, query.device)
        return _attend(query, key, value, hidden, scale).transpose(1, 2).to(wanted), None
    sizes = [stop - start for start, stop, _ in given["runs"]]
    split = (x[0].split(sizes, dim=1) for x in (query, key, value))
    found = []
    for (_, _, length), *parts in zip(given["runs"], *split, strict=True):
        q, k, v = (x.unflatten(1, (-1, length)).transpose(0, 1) for x in parts)  # (b, H, T, h) of b texts of one length
        hidden = _hidden(length, causal, window, q.device)
        with torch.autocast(q.device.type, enabled=False):
            found.append(_attend(q, k, v, hidden, scale).transpose(1, 2).flatten(0, 1))
    return torch.cat(found)[None].to(wanted), None


def _attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, scale: float) -> Tensor:
    """Return (b, H, T, h); the fused kernel is the faster one for gradients and for long texts."""
    if torch.is_grad_enabled() or q.size(2) > SHORT:
        mask = None if hidden is None else ~hidden
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    scores = (q * scale) @ k.transpose(2, 3)
    return (scores if hidden is None else scores.masked_fill(hidden, float("-inf"))).softmax(dim=-1) @ v


def _hidden(length: int, causal: bool, window: int | None, device: torch.device) -> Tensor | None:
    """Return (T, T) True where a token must not look: ahead, or as far as a window's size; ``None`` if it may look anywhere."""
    if not causal and (window is None or length <= window):
        return None
    place = torch.arange(length, device=device)
    back = place[:, None] - place[None, :]
    hidden = back < 0 if causal else torch.zeros_like(back, dtype=torch.bool)
    return hidden if window is None else hidden | (back.abs() >= window)


def _kernel(query: Tensor, key: Tensor, value: Tensor, given: dict, scale: float, causal: bool, window) -> Tensor:
    """Return (N, H, h) by the fused kernel of variable lengths, which a GPU has for half precision."""
    from torch.nn.attention import varlen  # torch 2.10 and later; only here is it needed

    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    ends, longest = given["cu_seq_lens_q"], given["max_length_q"]
    reach = -1 if window is None else window - 1
    return varlen.varlen_attn(
        q, k, v, ends, ends, longest, longest, scale=scale, window_size=(reach, 0 if causal else reach),
        enable_gqa=q.size(1) != k.size(1),
    )  # fmt: skip


def _mask(*args, attention_mask: Tensor | None = None, **given) -> Tensor | None:
    """Return the mask of padded texts as ``sdpa`` has it; packed texts have none."""
    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **given)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, _mask)
