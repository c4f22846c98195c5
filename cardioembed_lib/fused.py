"""How are linear layers computed fast: by the faster library, and those of an adapter without copies?

The arithmetic of an adapter is LoRA's (Hu et al. 2021, arXiv 2106.09685, eq. 3), dropout on its input included; its layers
stay peft's, and are peft's again afterwards. Layers that read one input (q, k and v) share its reading and its dropout; of the
dropout only the places of dropped numbers are drawn and kept; frozen weights are cast once; gradients are added in place.

Shapes: N tokens, D width in, E width out, r rank; L layers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from peft.tuners.lora import Linear as Lora
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional

# oneDNN's product, which torch.compile calls: in float32 on a processor a tenth faster than MKL's, which torch itself calls
# (benchmarks/train.py). It has no derivative, and is no public name: where it is missing torch's own takes its place.
_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("gate_proj", "up_proj"))
_local = threading.local()  # key: what this thread's dropout is drawn from


@contextmanager
def draws(*key: int) -> Iterator[None]:
    """Draw this thread's dropout from these numbers and each layer's own: the same whenever, and in whatever thread, asked."""
    before, _local.key = getattr(_local, "key", None), key
    try:
        yield
    finally:
        _local.key = before


@contextmanager
def fused(model: nn.Module) -> Iterator[None]:
    """Compute a model's LoRA layers as this module does, for as long as the block runs; the same but for rounding and draws.

    Left as they are: layers on a quantised or sharded base or one that learns, and those of variants such as DoRA.
    """
    groups = [_Together(layers, number) for number, layers in enumerate(_groups(model))]
    try:
        for group in groups:
            group.attach()
        yield
    finally:
        for group in groups:
            group.detach()


def drawn_here(model: nn.Module) -> bool:
    """Return whether all dropout that is active is drawn from ``draws``, so that threads may compute side by side."""
    ours = {id(m) for layer in model.modules() if "forward" in vars(layer) for m in layer.modules()}
    return not any(isinstance(m, nn.Dropout) and m.training and m.p > 0 and id(m) not in ours for m in model.modules())


def _groups(model: nn.Module) -> Iterator[list[Lora]]:
    """Yield the layers that read one input, then the others one by one."""
    for parent in model.modules():
        children = {n: m for n, m in parent.named_children() if type(m) is Lora and _plain(m)}
        for names in TOGETHER:
            if found := [children.pop(name) for name in names if name in children]:
                yield found
        yield from ([layer] for layer in children.values())


def _plain(layer: Lora) -> bool:
    return (
        type(layer.base_layer) in (nn.Linear, Linear)
        and not isinstance(layer.base_layer.weight, DTensor)
        and list(layer.lora_A) == ["default"]
        and not getattr(layer, "lora_variant", None)
        and not any(layer.lora_bias.values())
        and not any(p.requires_grad for p in layer.base_layer.parameters())
    )


class Linear(nn.Linear):
    """A linear layer that computes by oneDNN where it can, else by torch."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., E) of (..., D)."""
        autocast = torch.is_autocast_enabled(x.device.type)
        learns = torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.parameters()))
        return super().forward(x) if autocast or learns else _product(x, self.weight, self.bias)


def quicken(model: nn.Module) -> nn.Module:
    """Return the model, its linear layers ``Linear``: the same weights under the same names."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
    return model


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x W' + b without gradients."""
    if _onednn is None or x.dtype != torch.float32 or x.device.type != "cpu" or not x.numel():
        return functional.linear(x, weight, bias)
    return _onednn(x, weight, bias, "none", [], "")


class _Together:
    """Layers that read one input: whichever is called first computes for all, in each thread for itself."""

    def __init__(self, layers: Sequence[Lora], number: int) -> None:
        self.layers, self.number = layers, number
        self.low: dict[torch.dtype, list[Tensor]] = {}
        self.waiting = threading.local()

    def attach(self) -> None:
        for index, layer in enumerate(self.layers):
            layer.forward = lambda x, index=index: self(index, x)

    def detach(self) -> None:
        for layer in self.layers:
            del layer.forward

    def __call__(self, index: int, x: Tensor) -> Tensor:
        layer = self.layers[index]
        dropout = layer.lora_dropout["default"]  # an identity where the probability is 0
        p = dropout.p if dropout.training and isinstance(dropout, nn.Dropout) else 0.0
        if layer.disable_adapters or layer.merged or (p and getattr(_local, "key", None) is None):
            return type(layer).forward(layer, x)
        source, outputs = getattr(self.waiting, "state", (None, {}))
        if source is not x or index not in outputs:
            outputs = dict(enumerate(self._all(x, p)))
        found = outputs.pop(index)
        self.waiting.state = (x, outputs) if outputs else (None, {})
        return found

    def _all(self, x: Tensor, p: float) -> tuple[Tensor, ...]:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        weights = [w for layer in self.layers for w in self._frozen(layer, dtype)]
        learnt = [m["default"].weight for layer in self.layers for m in (layer.lora_A, layer.lora_B)]
        scales = [layer.scaling["default"] / (1 - p) for layer in self.layers]
        dropped = _dropped(x, p, (*_local.key, self.number)) if p else None
        return _Adapted.apply(x, dropped, scales, *weights, *learnt)

    def _frozen(self, layer: Lora, dtype: torch.dtype) -> list[Tensor | None]:
        """Return weight and bias in a dtype, cast once."""
        base = layer.base_layer
        if base.weight.dtype == dtype:
            return [base.weight, base.bias]
        key = (id(layer), dtype)
        if key not in self.low:
            with torch.inference_mode(False):  # else nothing could learn from them later
                self.low[key] = [None if w is None else w.detach().to(dtype) for w in (base.weight, base.bias)]
        return self.low[key]


class _Adapted(torch.autograd.Function):
    """y_i = x W_i' + b_i + s_i (x with some numbers dropped) A_i' B_i' for L layers; x alone and the adapters have gradients."""

    @staticmethod
    def forward(
        ctx, x: Tensor, dropped: Tensor | None, scales: Sequence[float], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        n = len(scales)
        frozen, learnt = tensors[: 2 * n], [t.to(tensors[0].dtype) for t in tensors[2 * n :]]
        flat = x.reshape(-1, x.size(-1)).to(tensors[0].dtype)  # (N, D)
        down = torch.cat(learnt[::2])  # (L r, D)
        z = _without(flat, dropped) @ down.T  # (N, L r)
        outputs = []
        for w, b, up, s, part in zip(frozen[::2], frozen[1::2], learnt[1::2], scales, z.chunk(n, 1), strict=True):
            outputs.append(_product(flat, w, b).addmm_(part, up.T, alpha=s).view(*x.shape[:-1], -1))
        ctx.scales, ctx.shape, ctx.dtypes = scales, x.shape, [x.dtype, *(t.dtype for t in tensors[2 * n :])]
        ctx.save_for_backward(flat, dropped, down, z, *frozen[::2], *learnt[1::2])
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple:
        flat, dropped, down, z, *rest = ctx.saved_tensors
        n = len(ctx.scales)
        outer = [g.reshape(-1, g.size(-1)).to(flat.dtype) for g in gradients]
        ups, inner = [], []
        for g, up, s, part in zip(outer, rest[n:], ctx.scales, z.chunk(n, 1), strict=True):
            inner.append((g @ up).mul_(s))
            ups.append((g.T @ part).mul_(s))
        inner = torch.cat(inner, 1)  # (N, L r)
        downs = (inner.T @ _without(flat, dropped)).chunk(n)
        learnt = [t.to(d) for pair, d in zip(zip(downs, ups, strict=True), ctx.dtypes[1::2], strict=True) for t in pair]
        back = None
        if ctx.needs_input_grad[0]:
            back = _product(outer[0], rest[0].T, None)
            for g, w in zip(outer[1:], rest[1:n], strict=True):
                back += _product(g, w.T, None)
            back = back.addmm_(inner, down) if dropped is None else back.add_(_clear(inner @ down, dropped))
            back = back.view(ctx.shape).to(ctx.dtypes[0])
        return back, None, None, *[None] * 2 * n, *learnt


def _without(x: Tensor, dropped: Tensor | None) -> Tensor:
    """Return (N, D) with zeros where numbers are dropped."""
    return x if dropped is None else _clear(x.clone(), dropped)


def _clear(x: Tensor, dropped: Tensor) -> Tensor:
    if dropped.dtype == torch.bool:
        return x.masked_fill_(dropped.view(x.shape), 0)
    x.view(-1).index_fill_(0, dropped, 0)
    return x


def _dropped(x: Tensor, p: float, key: Sequence[int]) -> Tensor:
    """Return which numbers of x each with probability p are dropped: their places, or on a GPU a mask by torch's generator.

    The gaps between Bernoulli's successes are geometric: twenty times fewer draws than a mask has at p = 0.05.
    """
    n = x.numel()
    if x.device.type != "cpu":
        return torch.rand(n, device=x.device) < p
    rng = np.random.Generator(np.random.SFC64(key))
    places, last = [], -1
    while last < n:
        exponential = rng.standard_exponential(int(n * p + 4 * (n * p) ** 0.5) + 8, dtype=np.float32)
        exponential /= -np.log1p(-p)
        gaps = exponential.astype(np.int64)  # how many are kept before the next is dropped
        gaps += 1
        gaps[0] += last
        places.append(gaps.cumsum(out=gaps))
        last = int(places[-1][-1])
    found = np.concatenate(places)
    return torch.from_numpy(found[: np.searchsorted(found, n)])
