"""What must a folder hold so that others can load a trained adapter?

peft writes and reads weights and configuration, sentence-transformers reads the rest; no pickle and no path is among them.
``SentenceTransformer.save_pretrained`` does not serve (tried with 6.2): it needs the base loaded again, names classes that
earlier versions lack, and keeps peft's own configuration (in the order of a set), its empty README and the base's folder.
"""

from __future__ import annotations

import copy
import json
import shutil
import uuid
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import nn

from cardioembed_lib import files, models
from cardioembed_lib.encoder import Encoder
from cardioembed_lib.models import ModelSpec

CONFIG = "adapter_config.json"
# The flags that name a pooling in 1_Pooling/config.json: read by every version of sentence-transformers, 6 included.
POOLINGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
USE = "Research on retrieval of medical text. Not a medical device; not for the care of patients."
MODULES = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}


def save(encoder: Encoder, base: ModelSpec, folder: Path, card: Mapping[str, object]) -> Path:
    """Write what was trained as a folder that sentence-transformers and ``models.load`` can read; return the folder.

    An adapter (then peft reads it too), or the whole model. It is written aside and moved: a failure leaves what was there
    before, and what a killed save left is removed. The same weights give the same bytes.

    Args:
        encoder: base with an adapter on it (``lora.attach``), or trained as a whole (``lora.whole``).
        base: what it was trained on.
        folder: an earlier adapter there is replaced, anything else refused.
        card: facts for the model card, a line each, in their order. Base, its licence and the intended use are added here.

    Raises:
        ValueError: if nothing of the model was trained, or the folder holds something else.
    """
    adapted = isinstance(encoder.model, PeftModel)
    if not adapted and not hasattr(encoder.model, "base_weights"):
        raise ValueError(f"{encoder.name} has no adapter; lay one on with lora.attach and encoder.with_model first")
    replaceable = any((folder / name).exists() for name in (CONFIG, models.WHOLE))
    if folder.exists() and any(folder.iterdir()) and not replaceable:
        raise ValueError(f"{folder} exists and holds no adapter; choose another folder")
    aside, before = (folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.{end}") for end in ("partial", "before"))
    try:
        aside.mkdir(parents=True)
        (_write_adapter if adapted else _write_whole)(encoder.model, base, aside)
        _write_tokenizer(encoder, base, aside)
        _write_modules(base, aside)
        files.write_sums(aside / models.SUMS, (file for pattern in models.SUMMED for file in aside.glob(pattern)))
        (aside / "README.md").write_text(model_card(base, card, adapted), encoding="utf-8")
        if folder.exists():
            folder.replace(before)
        aside.replace(folder)
    finally:
        if before.exists() and not folder.exists():
            before.replace(folder)
        for end in ("partial", "before") if folder.exists() else ("partial",):
            for rest in folder.parent.glob(f".{folder.name}.*.{end}"):
                shutil.rmtree(rest, ignore_errors=True)
    return folder


def model_card(base: ModelSpec, card: Mapping[str, object], adapted: bool = True) -> str:
    """Return the text of README.md: metadata that the hub reads, the facts, the use."""
    title = f"LoRA adapter on {base.name}" if adapted else f"{base.name}, all weights tuned"
    tags = "[sentence-transformers, lora, peft]" if adapted else "[sentence-transformers]"
    head = {"base_model": base.hub_id, "library_name": "sentence-transformers", "pipeline_tag": "sentence-similarity"}
    facts = {"base": f"{base.identity} at revision {base.revision or 'unfixed'}", "licence of the base": base.licence}
    metadata = "\n".join(f"{key}: {value}" for key, value in (head | {"tags": tags}).items())
    body = "\n".join(f"- {name}: {_words(value)}" for name, value in (facts | dict(card)).items())
    return f"---\n{metadata}\n---\n\n# {title}\n\n{body}\n\n{USE}\n"


def _write_adapter(model: PeftModel, base: ModelSpec, folder: Path) -> None:
    model.save_pretrained(folder, save_embedding_layers=False)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base.identity, "revision": base.revision}
    target = config["target_modules"]  # a pattern, or a set
    _write_json(folder / CONFIG, config | {"target_modules": target if isinstance(target, str) else sorted(target)})


def _write_whole(model: nn.Module, base: ModelSpec, folder: Path) -> None:
    tensors = {name: p.detach().to("cpu", torch.float32).contiguous() for name, p in model.named_parameters()}
    save_file(tensors, folder / models.WHOLE, metadata={"format": "pt"})
    config = model.config.to_dict() | {"base_model_name_or_path": base.identity, "revision": base.revision}
    _write_json(folder / "config.json", {key: value for key, value in config.items() if key != "_name_or_path"})


def _write_tokenizer(encoder: Encoder, base: ModelSpec, folder: Path) -> None:
    """Write the tokenizer: sentence-transformers does not look for it at the base."""
    tokenizer = copy.deepcopy(encoder.tokenizer)
    tokenizer.backend_tokenizer.no_truncation()  # what is set there is left over from the last text encoded
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.model_max_length = base.max_length
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    dropped = {"is_local", "local_files_only", "name_or_path", "max_length", "truncation_strategy", "stride"}
    _write_json(path, {k: v for k, v in config.items() if k not in dropped})


def _write_modules(base: ModelSpec, folder: Path) -> None:
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(MODULES.items())
    ]
    pooling = {"word_embedding_dimension": base.width} | {key: how == base.pooling for how, key in POOLINGS.items()}
    names = {"sentence_transformers": "sentence-transformers", "transformers": "transformers", "pytorch": "torch"}
    _write_json(folder / "modules.json", modules)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": base.max_length, "do_lower_case": False})
    _write_json(folder / "1_Pooling" / "config.json", pooling)
    _write_json(folder / "2_Normalize" / "config.json", {})
    settings = {"prompts": base.prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    settings["__version__"] = {key: version(package) for key, package in names.items()}
    _write_json(folder / "config_sentence_transformers.json", settings)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _words(value: object) -> str:
    pairs = value.items() if isinstance(value, Mapping) else ()
    return "; ".join(f"{key} {inner}" for key, inner in pairs) or str(value)
