"""How fast does the paper's setting train on this GPU, how much memory does it take, and how near is it to the chip's limit?

    python benchmarks/gpu.py [--bits 0|8] [--steps 30] [--out benchmarks/results]
    python benchmarks/gpu.py --tiny          # the same code, a toy shape: runs anywhere in seconds
    python benchmarks/gpu.py --memory        # on a processor: what autograd keeps of one block, for the table of cards

The shape of Qwen3-Embedding-8B (``models.yaml``) with random weights: speed and memory do not depend on what they are. Rank
16 on all linear layers, batches of 128 pairs of sentences as long as a textbook's, gradient checkpointing. The share of the
matrix rate sets the products that training needs (forward, again for the checkpoints, backward to the inputs; the base's
weights have no gradients) against a plain product of two large bfloat16 matrices, measured here in the same minute.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, Qwen3Config, Qwen3Model

from cardioembed_lib import encoder as encoders
from cardioembed_lib import fused, lora, models, packing, training
from cardioembed_study import paths, records

MODEL = "Qwen3-Embedding-8B"
RANK, BATCH = 16, 128  # CardioEmbed, section 2.2
WARM_UP = 5  # steps that are not timed
COUNTED, TOKENS = 512, 33  # tokens of a count of memory; of a text, as in benchmarks/train.py


def main(arguments: list[str] | None = None) -> dict:
    """Measure, print and write the record, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--bits", type=int, choices=(0, 8), default=0, help="8: the base in 8 bits, as the paper's")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--token-budget", type=int, default=16384)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args(arguments)
    if given.memory:
        return memory(given)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not given.tiny:
        raise ValueError("no CUDA device here; an 8B model needs one: run with --tiny to see that the code works")
    started = time.perf_counter()
    shape = config(given.tiny)
    plan = training.Plan(
        batch_size=8 if given.tiny else BATCH,
        epochs=1,
        learning_rate=2e-4,
        seed=17,
        precision="bfloat16",
        token_budget=given.token_budget,
        eval_every=WARM_UP,
        checkpoint_every=10**6,
    )
    metrics = measure(
        build(shape, given.bits, device), sentences(given.steps * plan.batch_size, shape.vocab_size), plan
    )
    metrics["matrix_tflop_per_s"] = matrix_rate(device, 256 if given.tiny else 8192)
    metrics["share_of_matrix_rate"] = metrics["tflop_per_s"] / metrics["matrix_tflop_per_s"]
    name = f"gpu{'-tiny' if given.tiny else ''}-{given.bits or 16}bit.{device}.json"
    record = records.write(
        given.out / name,
        metrics=metrics,
        counts={"pairs": given.steps * plan.batch_size, "steps": given.steps, "steps_timed": given.steps - WARM_UP},
        inputs=[],
        params={
            "shape": "tiny" if given.tiny else MODEL,
            "bits": given.bits,
            "rank": RANK,
            "batch_size": plan.batch_size,
        }
        | {"token_budget": given.token_budget},
        seconds=time.perf_counter() - started,
    )
    for key, value in record["metrics"].items():
        print(f"{key:24} {value:12.4f}")
    return record


def memory(given: argparse.Namespace) -> dict:
    """Count the bytes a token and block that autograd keeps, write the record, and return it.

    With a quantised base the adapter's layers are peft's own; with checkpoints a block's input is all that is kept of it.
    """
    shape, metrics = config(given.tiny), {}
    for name, ours, checkpoints in (("fused", True, False), ("peft", False, False), ("checkpoint", True, True)):
        one, two = (
            kept(shape, 2, n, ours, checkpoints) - kept(shape, 1, n, ours, checkpoints) for n in (COUNTED // 2, COUNTED)
        )
        metrics[name] = (two - one) / (COUNTED / 2)  # what does not grow with the tokens is left out
        print(f"{name:12} {metrics[name]:12,.0f} bytes a token and block")
    with torch.device("meta"):
        whole = Qwen3Model(shape)
    counts = {"tokens": COUNTED, "pairs": BATCH, "tokens_a_text": TOKENS, "layers": shape.num_hidden_layers}
    counts |= {"parameters": sum(p.numel() for p in whole.parameters()), "words": whole.embed_tokens.weight.numel()}
    counts |= {"trained": lora.count(whole, RANK, "all-linear")}
    params = {"shape": "tiny" if given.tiny else MODEL, "rank": RANK, "dropout": 0.05}
    path = given.out / f"memory{'-tiny' if given.tiny else ''}.json"
    return records.write(path, metrics=metrics, counts=counts, inputs=[], params=params)


def kept(shape: Qwen3Config, layers: int, tokens: int, ours: bool, checkpoints: bool) -> int:
    """Return the bytes that autograd keeps of so many tokens in so many blocks, with a GPU's attention and dropout masks."""
    small = Qwen3Config(**shape.to_dict() | {"num_hidden_layers": layers, "layer_types": None, "vocab_size": 1000})
    found = build(small, 0, "cpu")
    packing.allow(found.model.get_base_model())
    if not checkpoints:
        found.model.gradient_checkpointing_disable()
    training.train_mode(found.model)
    weights = {p.untyped_storage().data_ptr() for p in found.model.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if (storage := tensor.untyped_storage()).data_ptr() not in weights:
            storages[storage.data_ptr()] = storage
        return tensor

    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(AttentionInterface._global_mapping, {packing.NAME: _attention}))
        stack.enter_context(mock.patch.object(fused, "_dropped", lambda x, p, key: torch.rand(x.numel()) < p))
        stack.enter_context(fused.fused(found.model) if ours else nullcontext())
        stack.enter_context(fused.draws(0))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        encoders._vectors(found, [[5] * 32] * (tokens // 32))
    return sum(storage.nbytes() for storage in storages.values())


class _Kernel(torch.autograd.Function):
    """In the place of variable-length attention: it keeps what the kernel keeps, and computes nothing."""

    @staticmethod
    def forward(ctx, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = q.contiguous().clone()
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out


def _attention(module, query, key, value, mask, **given):
    q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))
    return _Kernel.apply(q, k, v)[None], None


def config(tiny: bool) -> Qwen3Config:
    """Return the shape of the paper's base, or one that a test can hold."""
    shape = models.spec(MODEL, paths.MODELS).architecture
    if tiny:
        shape = {
            "layers": 2,
            "width": 64,
            "heads": 4,
            "kv_heads": 2,
            "head_dim": 16,
            "feed_forward": 96,
            "vocabulary": 500,
        }
    return Qwen3Config(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["width"],
        intermediate_size=shape["feed_forward"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        head_dim=shape["head_dim"],
        use_cache=False,
    )


def build(shape: Qwen3Config, bits: int, device: str) -> encoders.Encoder:
    """Return an encoder of random bfloat16 weights, the blocks' linear layers in 8 bits if asked, and an adapter on it."""
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3Model._from_config(shape, dtype=torch.bfloat16)
    model.eval().requires_grad_(False)
    if bits == 8:
        _to_8_bits(model, device)
    model.gradient_checkpointing_enable()
    model = lora.attach(model, rank=RANK, alpha=2 * RANK, dropout=0.05, targets="all-linear", seed=1)
    tokenizer = SimpleNamespace(padding_side="left", pad_token_id=0)  # texts are token ids already
    return encoders.Encoder(MODEL, model, tokenizer, "last", {}, 128, "random")


def _to_8_bits(model: nn.Module, device: str) -> None:
    """Put bitsandbytes' 8-bit layers in place of linear ones, as loading with ``lora.quantisation(8)`` would."""
    import bitsandbytes  # an extra: only this arm needs it

    for name in lora.target_modules(model, "all-linear"):
        old = model.get_submodule(name)
        new = bitsandbytes.nn.Linear8bitLt(
            old.in_features,
            old.out_features,
            bias=old.bias is not None,
            has_fp16_weights=False,
            threshold=6.0,
            device="meta",
        )
        new.weight = bitsandbytes.nn.Int8Params(old.weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
        model.set_submodule(name, new.to(device))  # quantised on the move
    model.is_loaded_in_8bit = True


def sentences(n: int, vocabulary: int) -> training.Pairs:
    """Return n pairs of random tokens, as long as a textbook's sentences: log-normal, mean 28, 8 to 128 tokens."""
    rng = np.random.default_rng(17)
    spread = 0.45
    counts = rng.lognormal(np.log(28) - spread**2 / 2, spread, (2, n)).round().clip(8, 128).astype(int)
    anchors, positives = ([rng.integers(1, vocabulary, k).tolist() for k in side] for side in counts)
    return training.Pairs(anchors, positives, [[]] * n, list(range(n)), [str(i) for i in range(n)])


def measure(encoder: encoders.Encoder, pairs: training.Pairs, plan: training.Plan) -> dict[str, float]:
    """Return speed, memory and the losses at both ends of one epoch."""
    on_gpu = encoder.device.type == "cuda"
    stamps: list[float] = []

    def stamp(_: encoders.Encoder) -> float:
        if on_gpu:
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())
        return float(len(stamps))

    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        history = training.train(encoder, pairs, plan, Path(folder), stamp, progress=False)
    loss = [row["loss"] for row in history if "loss" in row]
    seconds = stamps[-1] - stamps[1]  # stamps: before the first step, after each WARM_UP steps, after the last
    timed = [r for e, p in enumerate(training.batches(len(pairs.ids), plan, 0)) if e >= WARM_UP for r in p]
    tokens = sum(len(pairs.anchors[r]) + len(pairs.positives[r]) for r in timed)
    adapter = sum(p.numel() for p in encoder.model.parameters() if p.requires_grad)
    linear = sum(
        m.in_features * m.out_features
        for n, m in encoder.model.named_modules()
        if n.endswith("base_layer") and isinstance(m, nn.Linear)
    )
    products = tokens * (3 * 2 * linear + 4 * 2 * adapter)
    return {
        "pairs_per_s": len(timed) / seconds,
        "tokens_per_s": tokens / seconds,
        "tokens_a_text": tokens / len(timed) / 2,
        "tflop_per_s": products / seconds / 1e12,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0,
        "loss_first": loss[0],
        "loss_last": loss[-1],
    }


def matrix_rate(device: str, size: int) -> float:
    """Return the TFLOP/s of a product of two square bfloat16 matrices of random numbers: the best of five runs."""
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(10):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 10 * 2 * size**3 / (time.perf_counter() - started) / 1e12)
    return best


if __name__ == "__main__":
    main()
