"""What vector does a model, with or without an adapter, give a text?

Shapes: B texts, T tokens, D width.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from peft import PeftModel
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from cardioembed_lib import lora, paths, pooling, settings

TOKEN_BUDGET = 1024  # padded tokens in one forward pass; on a CPU more no longer fits its caches (benchmarks/train.py)
ADAPTER, WHOLE = "adapter_model.safetensors", "model.safetensors"  # what 02_train leaves: an adapter, or all weights
SHARD = 512  # texts embedded between two visits to the disk: what a kill may cost


class Package(BaseModel):
    """A copy of a model inside a Python package, and the hashes that make it the same model."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    path: str
    sha256: dict[str, str]


class ModelSpec(BaseModel):
    """One entry of ``data_manifests/models.yaml``: how a base model is found and must be run."""

    model_config = ConfigDict(extra="allow", frozen=True)
    hub_id: str
    revision: str | None
    pooling: str
    prompts: dict[str, str]
    width: int
    max_length: int
    parameters: float | None
    licence: str
    causal: bool
    package: Package | None = None
    needs_remote_code: bool = False


@dataclass(frozen=True)
class Encoder:
    """A loaded model with all that decides its vectors; make one with ``load``."""

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


def spec(name: str) -> ModelSpec:
    """Return the entry of ``models.yaml``.

    Raises:
        KeyError: for an unknown name, with the nearest known one.
    """
    known = yaml.safe_load((paths.MANIFESTS / "models.yaml").read_text(encoding="utf-8"))
    if name not in known:
        raise KeyError(f"no model {name!r} in data_manifests/models.yaml; {settings.near_miss(name, known)}")
    return ModelSpec.model_validate(known[name])


def load(
    name: str,
    *,
    adapter: Path | None = None,
    weight: float = 1.0,
    bits: int | None = None,
    dtype: str = "float32",
    max_length: int | None = None,
    device: str | None = None,
) -> Encoder:
    """Return a base model of ``models.yaml``, ready to encode.

    A copy inside an installed package is used when its hashes are right, else the hub's fixed revision.

    Args:
        name: key in ``models.yaml``.
        adapter: folder of a trained adapter, merged into the weights, or of a model that was trained as a whole.
        weight: share of what was learnt, 0..1 (``lora.merge``, ``lora.load_whole``).
        bits: 8 or 4 to quantise the frozen base with bitsandbytes, to train on it; no adapter can be merged then.
        dtype: of the weights: ``float32`` or ``bfloat16``.
        max_length: tokens kept of a text; the model's own limit when ``None``.
        device: where it runs; a GPU when there is one.

    Raises:
        KeyError: if the model is not in ``models.yaml``.
        ValueError: if its packaged weights have another hash, it needs remote code, or the adapter does not fit.
        FileNotFoundError: if there is no such adapter.
        OSError: if the hub cannot be reached, with what to do.
    """
    entry = spec(name)
    if entry.needs_remote_code:
        raise ValueError(
            f"{name} runs only with code from the hub, which this project never executes (trust_remote_code)"
        )
    if adapter is not None:
        _check_adapter(name, entry, adapter, bits)
    where, revision = _source(name, entry)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, revision=revision)
        model = AutoModel.from_pretrained(
            where,
            revision=revision,
            dtype=getattr(torch, dtype),
            quantization_config=lora.quantisation(bits),
            # The fused kernel wins on a GPU; on a CPU the plain products are faster for sentences (benchmarks/train.py).
            attn_implementation="sdpa" if torch.cuda.is_available() else "eager",
        )
    except OSError as error:
        raise OSError(
            f"{name}: neither an installed package nor the hub gave {entry.hub_id} at {revision}; go online once to fill "
            "the hub's cache, or choose a model with a `package:` in data_manifests/models.yaml"
        ) from error
    if adapter is not None and (adapter / WHOLE).exists():
        model = lora.load_whole(model, load_file(adapter / WHOLE), weight)
    elif adapter is not None:
        model = lora.merge(PeftModel.from_pretrained(model, adapter), weight)
    model.config.use_cache = False  # a decoder's keys and values are of no use once the text has been read
    lora.keep_differentiable(model).eval().requires_grad_(False)
    if bits is None:
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Encoder(
        name=name,
        model=model,
        tokenizer=tokenizer,
        pooling=entry.pooling,
        prompts=entry.prompts,
        max_length=min(max_length or entry.max_length, entry.max_length),
        revision=_revision(entry, adapter, weight, bits, dtype),
    )


def tokenise(encoder: Encoder, texts: Sequence[str], prompt: str = "") -> list[list[int]]:
    """Return token ids of each text, prompt in front, cut to ``max_length``, special tokens as the tokenizer adds them.

    Qwen3-Embedding's tokenizer appends its end token itself (id 151643, which is not ``eos_token_id``).
    """
    if not texts:
        return []
    return encoder.tokenizer([prompt + t for t in texts], truncation=True, max_length=encoder.max_length)["input_ids"]


def chunks(lengths: Sequence[int], token_budget: int) -> list[np.ndarray]:
    """Return row numbers in chunks of similar length, each at most ``token_budget`` tokens when padded to its longest.

    >>> [c.tolist() for c in chunks([5, 1, 4, 1], token_budget=10)]
    [[0, 2], [1, 3]]
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    out: list[list[int]] = []
    for row in order:
        if not out or (len(out[-1]) + 1) * lengths[out[-1][0]] > token_budget:
            out.append([])
        out[-1].append(int(row))
    return [np.array(rows) for rows in out]


def pad(encoder: Encoder, ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Return the model's input of some texts: ``input_ids`` and ``attention_mask``, both (B, T), on its device."""
    side = encoder.tokenizer.padding_side
    width = max(map(len, ids))
    tokens = torch.full((len(ids), width), encoder.tokenizer.pad_token_id or 0)
    mask = torch.zeros((len(ids), width), dtype=torch.long)
    for row, text in enumerate(ids):
        place = slice(0, len(text)) if side == "right" else slice(width - len(text), width)
        tokens[row, place] = torch.tensor(text)
        mask[row, place] = 1
    return {"input_ids": tokens.to(encoder.device), "attention_mask": mask.to(encoder.device)}


def forward(encoder: Encoder, ids: Sequence[Sequence[int]], token_budget: int = TOKEN_BUDGET) -> Tensor:
    """Return the pooled vectors of tokenised texts, in their order, with gradients.

    Texts run in chunks of similar length, so that little is padding; the vectors are those of one large batch.

    Args:
        encoder: the model.
        ids: B token lists from ``tokenise``.
        token_budget: padded tokens in one forward pass; speed and memory only, never the result.

    Returns:
        (B, D) in the model's dtype, not normalised.
    """
    parts = chunks([len(x) for x in ids], token_budget)
    vectors = []
    for rows in parts:
        batch = pad(encoder, [ids[r] for r in rows])
        hidden = encoder.model(**batch).last_hidden_state  # (b, t, D)
        vectors.append(pooling.pool(hidden, batch["attention_mask"], encoder.pooling))
    back = torch.from_numpy(np.argsort(np.concatenate(parts))).to(encoder.device)
    return torch.cat(vectors)[back]


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
    empty = [i for i, t in enumerate(texts) if not t.strip()]
    if empty:
        raise ValueError(
            f"{len(empty)} of {len(texts)} texts are empty, the first at position {empty[0]}; drop them before encoding"
        )
    ids = tokenise(encoder, texts, prompt)
    parts = chunks([len(x) for x in ids], token_budget)
    out = np.empty((len(ids), width or encoder.model.config.hidden_size), dtype=np.float32)
    bar = tqdm(total=len(ids), unit="text", desc=f"encode {encoder.name}", disable=not progress, mininterval=2)
    with torch.inference_mode(), bar:
        for rows in parts:
            vectors = forward(encoder, [ids[r] for r in rows], token_budget)
            out[rows] = pooling.normalise(vectors, width).cpu().numpy()
            bar.update(len(rows))
    if not np.isfinite(out).all():
        raise ValueError(f"{encoder.name} gave vectors that are not finite; load it in float32")
    return out


def cached(
    folder: Path, encoder: Encoder, texts: Sequence[str], *, prompt: str = "", progress: bool = False
) -> np.ndarray:
    """Return ``encode``'s vectors, from ``folder`` as far as the same model has seen the same texts before.

    Texts are embedded and kept in shards of ``SHARD`` neighbours, so that a long job that is killed loses one shard, and a
    list that begins like an earlier one shares its shards.

    Args:
        folder: where ``<key>.npy`` files are kept, one a shard; the key covers model revision, adapter, prompt, length and
            the shard's texts.
        encoder: the model.
        texts: B texts.
        prompt: as for ``encode``.
        progress: show a bar over all texts, unless all are known.

    Returns:
        (B, D) float32, read only; memory-mapped where one shard holds them all.

    Raises:
        ValueError: as for ``encode``, before anything is embedded; and if the encoder's weights have no name, because an
            adapter is still being trained on them.
    """
    if not encoder.revision:
        raise ValueError(f"{encoder.name} has weights that may change; use encode, or save its adapter and load that")
    if not all(text.strip() for text in texts):
        encode(encoder, texts)  # names the first empty text among all, and not within its shard
    shards = [list(texts[start : start + SHARD]) for start in range(0, max(len(texts), 1), SHARD)]
    files = [folder / f"{_key(encoder, shard, prompt)}.npy" for shard in shards]
    missing = {file: shard for file, shard in zip(files, shards, strict=True) if not file.exists()}
    known = len(texts) - sum(map(len, missing.values()))
    hidden = not (progress and missing)
    folder.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(texts), initial=known, unit="text", desc=f"embed {encoder.name}", disable=hidden) as bar:
        for file, shard in missing.items():
            aside = file.with_suffix(".partial.npy")
            try:
                np.save(aside, encode(encoder, shard, prompt=prompt))
                aside.replace(file)
            finally:
                aside.unlink(missing_ok=True)
            bar.update(len(shard))
    parts = [np.load(file, mmap_mode="r") for file in files]
    if len(parts) == 1:
        return parts[0]
    whole = np.concatenate(parts)
    whole.flags.writeable = False
    return whole


def _key(encoder: Encoder, texts: Sequence[str], prompt: str) -> str:
    """Return the name under which the vectors of some texts are kept."""
    parts = [encoder.revision, encoder.pooling, prompt, encoder.max_length, *texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def with_model(encoder: Encoder, model: nn.Module) -> Encoder:
    """Return the same encoder around another model, for example one with an adapter laid on; ``cached`` refuses it."""
    return replace(encoder, model=model, revision="")


def _check_adapter(name: str, entry: ModelSpec, adapter: Path, bits: int | None) -> None:
    config = adapter / ("config.json" if (adapter / WHOLE).exists() else "adapter_config.json")
    if not config.exists():
        raise FileNotFoundError(f"{config} is missing; train the adapter with notebooks/02_train.ipynb first")
    base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if base != entry.hub_id:
        raise ValueError(
            f"{adapter.name} was trained on {base}, not on {name} ({entry.hub_id}); load it on its own base"
        )
    if bits is not None:
        raise ValueError(f"{adapter.name} cannot be merged into a base of {bits} bits; load the base with bits=None")


def _source(name: str, entry: ModelSpec) -> tuple[str, str | None]:
    """Return (folder, None) of an installed and verified package, or (hub id, revision)."""
    if entry.package is None:
        return entry.hub_id, entry.revision
    module, _, inside = entry.package.path.partition("/")
    found = importlib.util.find_spec(module)
    if found is None:
        return entry.hub_id, entry.revision
    folder = Path(found.submodule_search_locations[0]) / inside
    for file, wanted in entry.package.sha256.items():
        got = _sha256(folder / file)
        if got != wanted:
            raise ValueError(
                f"{name}: {file} of package {entry.package.name} has sha256 {got[:12]}…, models.yaml says {wanted[:12]}…; "
                "install the package again"
            )
    return str(folder), None


def _revision(entry: ModelSpec, adapter: Path | None, weight: float, bits: int | None, dtype: str) -> str:
    """Return what tells two sets of weights apart, for the cache's key."""
    base = f"{entry.hub_id}@{entry.revision}:{dtype}:{bits}"
    if adapter is None:
        return base
    return f"{base}+{_sha256(adapter / (WHOLE if (adapter / WHOLE).exists() else ADAPTER))}*{weight}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
