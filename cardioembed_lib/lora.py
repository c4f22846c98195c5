"""Which weights does an adapter touch, how many numbers is that, and how is it attached and merged?

The arithmetic is LoRA's (Hu et al. 2021, arXiv 2106.09685, eq. 3); the layers are peft's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import AutoModel, BitsAndBytesConfig, PretrainedConfig

# A linear layer's name says its role; feed-forward is every other linear layer of a block.
ROLES = {
    "q": r"(q_proj|\.query|attn\.q)$",
    "k": r"(k_proj|\.key|attn\.k)$",
    "v": r"(v_proj|\.value|attn\.v)$",
    "o": r"(o_proj|attention\.output\.dense|attention\.dense|attn\.o|attn\.Wo)$",
    "qkv": r"(Wqkv|qkv_proj|query_key_value)$",
}
TARGETS = {"all-linear": None, "attention": {"q", "k", "v", "o", "qkv"}, "qv": {"q", "v"}}


def target_modules(model: nn.Module, targets: str) -> list[str]:
    """Return the full names of the linear layers that an adapter touches, in the model's order.

    Args:
        model: any transformer; may live on the meta device. Layers outside its blocks (a pooler, a head) are left alone.
        targets: ``all-linear`` (paper section 2.2), ``attention`` (q, k, v, o) or ``qv`` (comparative study).

    Raises:
        KeyError: for another name.
        ValueError: if the model has no such layer.
    """
    if targets not in TARGETS:
        raise KeyError(f"no LoRA targets {targets!r}; known: {', '.join(TARGETS)}")
    wanted = TARGETS[targets]
    linear = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and re.search(r"\.\d+\.", name)
    ]
    names = [name for name in linear if wanted is None or _role(name) in wanted]
    if not names:
        raise ValueError(
            f"{type(model).__name__} has no linear layer for targets {targets!r}; its linear layers: {linear[:8]}"
        )
    return names


def count(model: nn.Module, rank: int, targets: str) -> int:
    """Return how many numbers a LoRA adapter trains: ``sum over layers of rank * (in + out)`` (arXiv 2106.09685, section 4.1).

    >>> block = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"q_proj": nn.Linear(4, 6)})])})
    >>> count(block, rank=2, targets="qv")
    20
    """
    modules = dict(model.named_modules())
    return sum(rank * (modules[n].in_features + modules[n].out_features) for n in target_modules(model, targets))


def count_from_config(config: PretrainedConfig, rank: int, targets: str) -> int:
    """Return the same count from a model's configuration alone: no weight is made or loaded (meta device)."""
    with torch.device("meta"):
        return count(AutoModel.from_config(config), rank, targets)


def mebibytes(parameters: int, dtype: torch.dtype = torch.float32) -> float:
    """Return the size of that many numbers in MiB.

    >>> mebibytes(2**20)
    4.0
    """
    return parameters * dtype.itemsize / 2**20


def quantisation(bits: int | None) -> BitsAndBytesConfig | None:
    """Return how to load the frozen base: 8 bit (the paper), 4 bit (NF4), or ``None`` for unquantised.

    Raises:
        ValueError: for another number of bits.
    """
    if bits is None:
        return None
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    if bits == 4:
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    raise ValueError(f"bits is {bits}; the base is loaded in 8 or 4 bits, or unquantised (null)")


def keep_differentiable(model: nn.Module) -> nn.Module:
    """Return a quantised model, its 4-bit layers kept in the layout that gradients pass through.

    bitsandbytes 0.50 repacks a layer at its first evaluation on a processor with AVX512-BF16. The repacked product has no
    derivative: every layer below it would then be trained, without an error, on wrong gradients.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def shard(model: nn.Module) -> nn.Module:
    """Return a model whose frozen blocks are shared out: a rank holds its part, and borrows a block's rest to compute it.

    Fully sharded data parallel (Zhao et al. 2023, arXiv 2304.11277), for a base that one GPU cannot hold; what is trained stays
    whole on every rank, and so does a checkpoint. All ranks must compute together from then on, dev scores too
    (``training.train`` does). Its adapter's layers are peft's own, not ``fused``.

    Args:
        model: with its adapter attached, on this rank's device; torch.distributed must be initialised.

    Raises:
        ValueError: if it has no list of blocks.
    """
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(model).__name__} has no list of blocks to share out")
    mesh = init_device_mesh(next(model.parameters()).device.type, (distributed.get_world_size(),))
    for block in max(lists, key=lambda blocks: sum(p.numel() for p in blocks.parameters())):
        fully_shard(block, mesh=mesh, ignored_params={p for p in block.parameters() if p.requires_grad})
        block.unshard()  # makes its tensors: made in inference mode, nothing could learn through them
        block.reshard()
    return model


def sharded(model: nn.Module) -> bool:
    """Return whether ``shard`` has shared out the model."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def attach(
    model: nn.Module,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: str,
    seed: int,
    gradient_checkpointing: bool = False,
) -> PeftModel:
    """Return the model with a fresh adapter on it, base frozen; B is zero, so its output is still the base's.

    Args:
        model: the base.
        rank: r, at least 1 (paper: 16).
        alpha: the adapter's weight is alpha / r (paper: 32).
        dropout: 0..1, on the adapter's input (paper: 0.05).
        targets: see ``target_modules``.
        seed: for A's random start; the global generator is left as it was.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them; memory only.
    """
    names = target_modules(model, targets)
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names, bias="none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def whole(model: nn.Module, *, gradient_checkpointing: bool = False) -> nn.Module:
    """Return the model with every weight of it trained: full fine-tuning, as the MIMIC project did.

    A copy of the base's weights is kept on it (``base_weights``), so that ``weighted`` can go back.

    Args:
        model: the base, in float32.
        gradient_checkpointing: see ``attach``.

    Raises:
        ValueError: if the base is quantised: its weights are no numbers that a gradient can move.
    """
    if getattr(model, "is_quantized", False):
        raise ValueError("a quantised base cannot be trained as a whole; choose base_bits 0, or tuning 'lora'")
    if gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.base_weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    return model.requires_grad_(True)


@contextmanager
def weighted(model: nn.Module, weight: float) -> Iterator[None]:
    """Let what was learnt count for ``weight`` of itself, ``base + weight * change``, for as long as the block runs."""
    if not isinstance(model, PeftModel):
        with _between(model, weight):
            yield
        return
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    kept = [dict(layer.scaling) for layer in layers]
    for layer in layers:
        layer.scaling.update({name: scale * weight for name, scale in layer.scaling.items()})
    try:
        yield
    finally:
        for layer, scaling in zip(layers, kept, strict=True):
            layer.scaling.update(scaling)


def merge(model: PeftModel, weight: float = 1.0) -> nn.Module:
    """Return ``base + weight * adapter`` as a plain model (linear interpolation; Xiao et al. 2023, arXiv 2311.13534).

    Args:
        model: base with adapter; it is used up.
        weight: 0 gives the base, 1 the tuned model.
    """
    with weighted(model, weight):
        return model.merge_and_unload()


def load_whole(model: nn.Module, weights: Mapping[str, Tensor], weight: float = 1.0) -> nn.Module:
    """Return the base with ``base + weight * (weights - base)`` in place of its own weights.

    Args:
        model: the base; it is changed.
        weights: of a whole model, by name (``export.save``).
        weight: 0 gives the base, 1 the tuned model.

    Raises:
        ValueError: naming a weight that only one of the two has.
    """
    names = {name for name, _ in model.named_parameters()}
    if odd := sorted(names ^ set(weights)):
        raise ValueError(
            f"the tuned model and its base differ in {len(odd)} weights, such as {odd[0]}; is it their base?"
        )
    _fill(model, {name: torch.lerp(p, weights[name].to(p), weight) for name, p in model.named_parameters()})
    return model


@contextmanager
def _between(model: nn.Module, weight: float) -> Iterator[None]:
    tuned = {name: p.detach().clone() for name, p in model.named_parameters()}
    _fill(model, {name: torch.lerp(base, tuned[name], weight) for name, base in model.base_weights.items()})
    try:
        yield
    finally:
        _fill(model, tuned)


def _fill(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])


def _role(name: str) -> str:
    return next((role for role, pattern in ROLES.items() if re.search(pattern, name)), "ff")
