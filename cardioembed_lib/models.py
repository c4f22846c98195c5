"""Which base model is it, where do its verified weights come from, and how is it loaded?"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import torch
import yaml
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, PositiveInt
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, AutoTokenizer

from cardioembed_lib import files, fused, lora, packing
from cardioembed_lib.encoder import Encoder

ADAPTER, WHOLE = "adapter_model.safetensors", "model.safetensors"  # what training leaves: an adapter, or all weights
SUMS, SUMMED = "SHA256SUMS", ("*.safetensors", "*.json", "*/*.json")  # the list of its hashes, and of which files


class Package(BaseModel):
    """A copy of a model inside a Python package, and the hashes that make it the same model."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    path: str
    sha256: dict[str, str]


class ModelSpec(BaseModel):
    """How a base model is found and must be run."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    hub_id: str
    revision: str | None  # 40 hexadecimal digits; None: the newest
    pooling: str  # mean, cls or last
    prompts: dict[str, str]  # "query" and "document", put in front of a text
    width: int  # of the vector
    max_length: int  # tokens
    parameters: float | None = None  # millions
    licence: str = "unknown"
    causal: bool = False
    layers: PositiveInt | None = None  # only so many of the first layers are used; None: all
    package: Package | None = None
    needs_remote_code: bool = False

    @property
    def identity(self) -> str:
        """What an adapter was trained on: the hub's name, which a model cut to its first layers no longer answers to.

        No hub takes the longer name, so no other program lays the adapter of a cut model on the whole one.
        """
        return self.hub_id if self.layers is None else f"{self.hub_id}, cut to {self.layers} of its layers"


def spec(name: str, table: Path) -> ModelSpec:
    """Return one entry of a YAML file that maps names to the fields of ``ModelSpec``.

    Raises:
        KeyError: for an unknown name, with the nearest known one.
    """
    known = yaml.safe_load(table.read_text(encoding="utf-8"))
    if name not in known:
        raise KeyError(f"no model {name!r} in {table.name}; {files.near_miss(name, known)}")
    return ModelSpec.model_validate({"name": name, **known[name]})


def load(
    base: ModelSpec,
    *,
    adapter: Path | None = None,
    weight: float = 1.0,
    bits: int | None = None,
    dtype: str = "float32",
    max_length: int | None = None,
    device: str | None = None,
) -> Encoder:
    """Return a base model, ready to encode.

    A copy inside an installed package is used when its hashes are right, else the hub's fixed revision.

    Args:
        base: which model.
        adapter: folder of a trained adapter, merged into the weights, or of a model trained as a whole, with ``SHA256SUMS``.
        weight: share of what was learnt, 0..1 (``lora.merge``, ``lora.load_whole``).
        bits: 8 or 4 to quantise the frozen base with bitsandbytes, to train on it; no adapter can be merged then.
        dtype: of the weights: ``float32`` or ``bfloat16``.
        max_length: tokens kept of a text; the model's own limit when ``None``.
        device: where it runs; a GPU when there is one, of several processes on a machine each its own (``LOCAL_RANK``).

    Raises:
        ValueError: if its packaged weights or the adapter's files have other hashes, it needs remote code, they do not fit,
            or it has fewer layers than are asked for.
        FileNotFoundError: if there is no such adapter, or no list of its hashes.
        OSError: if the hub cannot be reached, with what to do.
    """
    if base.needs_remote_code:
        raise ValueError(
            f"{base.name} runs only with code from the hub, which this project never executes (trust_remote_code)"
        )
    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    learnt = "" if adapter is None else f"+{checked(base, adapter, bits)}*{weight}"
    where, revision = _source(base)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, revision=revision)
        model = AutoModel.from_pretrained(
            where,
            revision=revision,
            dtype=getattr(torch, dtype),
            quantization_config=lora.quantisation(bits),
        )
    except OSError as error:
        raise OSError(
            f"{base.name}: neither an installed package nor the hub gave {base.hub_id} at {revision}; go online once to "
            "fill the hub's cache, or choose a model with a `package:` in models.yaml"
        ) from error
    if base.layers is not None:
        _cut(model, base)
    if adapter is not None and weights(adapter).name == WHOLE:
        model = lora.load_whole(model, load_file(weights(adapter)), weight)
    elif adapter is not None:
        model = lora.merge(PeftModel.from_pretrained(model, adapter), weight)
    model.config.use_cache = False  # a decoder's keys and values are of no use once the text has been read
    packing.allow(fused.quicken(lora.keep_differentiable(model))).eval().requires_grad_(False)
    if bits is None:
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Encoder(
        name=base.name,
        model=model,
        tokenizer=tokenizer,
        pooling=base.pooling,
        prompts=base.prompts,
        max_length=min(max_length or base.max_length, base.max_length),
        revision=f"{base.identity}@{base.revision}:{dtype}:{bits}{learnt}",
    )


def _cut(model: nn.Module, base: ModelSpec) -> None:
    """Leave a model its first layers; a norm after the last layer, where it has one, now follows the last of these.

    Cut once loaded: transformers, told to build fewer layers, reports every weight of the others as unexpected, and keeps
    lists such as ``layer_types`` at their old length.
    """
    config, whole = model.config, model.config.num_hidden_layers
    if base.layers > whole:
        raise ValueError(f"{base.name}: layers is {base.layers}, but {base.hub_id} has {whole}; choose at most {whole}")
    blocks = next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == whole)
    del blocks[base.layers :]
    for key, value in config.to_dict().items():
        if "layer" in key and isinstance(value, list) and len(value) == whole:
            setattr(config, key, value[: base.layers])
    config.num_hidden_layers = base.layers


def weights(folder: Path) -> Path:
    """Return the file of weights in a trained folder: of an adapter, or of a model that was trained as a whole."""
    return folder / (WHOLE if (folder / WHOLE).exists() else ADAPTER)


def checked(base: ModelSpec, adapter: Path, bits: int | None) -> str:
    """Return the hashes of a trained folder's weights and configuration, for the key under which vectors are kept."""
    config = adapter / ("config.json" if weights(adapter).name == WHOLE else "adapter_config.json")
    remedy = f"train or copy it again, or, if you trust it as it is, run there: sha256sum {' '.join(SUMMED)} > {SUMS}"
    sums = files.verify(adapter / SUMS, (config.name, weights(adapter).name), remedy)
    trained_on = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if trained_on != base.identity:
        raise ValueError(
            f"{adapter.name} was trained on {trained_on}, not on {base.name} ({base.identity}); load it on its own base"
        )
    if bits is not None:
        raise ValueError(f"{adapter.name} cannot be merged into a base of {bits} bits; load the base with bits=None")
    return f"{sums[weights(adapter).name]}+{sums[config.name]}"


def _source(base: ModelSpec) -> tuple[str, str | None]:
    """Return (folder, None) of an installed and verified package, or (hub id, revision)."""
    package = base.package
    found = importlib.util.find_spec(package.path.partition("/")[0]) if package else None
    if found is None:
        return base.hub_id, base.revision
    folder = Path(found.submodule_search_locations[0]) / package.path.partition("/")[2]
    for file, wanted in package.sha256.items():
        if (got := files.sha256(folder / file)) != wanted:
            raise ValueError(
                f"{base.name}: {file} of package {package.name} has sha256 {got[:12]}…, models.yaml says {wanted[:12]}…; "
                "install the package again"
            )
    return str(folder), None
