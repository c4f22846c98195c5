"""Which vectors are known already, and how is nothing embedded twice?

Shapes: B texts, D width.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from cardioembed_lib import encoder as encoders
from cardioembed_lib import files

SHARD = 512  # texts embedded between two visits to the disk: lost if killed


def cached(
    folder: Path, encoder: encoders.Encoder, texts: Sequence[str], *, prompt: str = "", progress: bool = False
) -> np.ndarray:
    """Return ``encode``'s vectors, from ``folder`` as far as the same model has seen the same texts before.

    Texts are embedded and kept in shards of ``SHARD`` neighbours, so that a long job that is killed loses one shard, and a
    list that begins like an earlier one shares its shards.

    Args:
        folder: where ``<key>.safetensors`` files are kept, one a shard; the key covers model revision, adapter, attention
            kernel, prompt, length and the shard's texts. What is damaged is embedded again.
        encoder: the model.
        texts: B texts.
        prompt: as for ``encode``.
        progress: show a bar over all texts, unless all are known.

    Returns:
        (B, D) float32, read only.

    Raises:
        ValueError: as for ``encode``, before anything is embedded; and if the encoder's weights have no name, because an
            adapter is still being trained on them.
    """
    if not encoder.revision:
        raise ValueError(f"{encoder.name} has weights that may change; use encode, or save its adapter and load that")
    encoders.refuse_empty(texts)
    shards = [list(texts[start : start + SHARD]) for start in range(0, max(len(texts), 1), SHARD)]
    places = [folder / f"{_key(encoder, shard, prompt)}.safetensors" for shard in shards]
    known = {file: kept(file, len(shard)) for file, shard in zip(places, shards, strict=True)}
    missing = {file: shard for file, shard in zip(places, shards, strict=True) if known[file] is None}
    done = len(texts) - sum(map(len, missing.values()))
    hidden = not (progress and missing)
    with tqdm(total=len(texts), initial=done, unit="text", desc=f"embed {encoder.name}", disable=hidden) as bar:
        for file, shard in missing.items():
            known[file] = encoders.encode(encoder, shard, prompt=prompt)
            keep(file, known[file])
            bar.update(len(shard))
    return joined([known[file] for file in places])


def keep(file: Path, vectors: np.ndarray) -> None:
    """Write vectors with a digest of themselves and of the file's name, whole or not at all."""
    with files.replacing(file) as aside:
        save_file({"vectors": np.ascontiguousarray(vectors)}, aside, {"sha256": _digest(file, vectors)})


def kept(file: Path, rows: int) -> np.ndarray | None:
    """Return the vectors that ``keep`` wrote; ``None`` if there are none, or if others lie there, which a line then says.

    Args:
        file: its name is the key.
        rows: how many vectors there must be.

    Returns:
        (rows, D) float32, finite.
    """
    if not file.exists():
        return None
    try:
        with safe_open(file, "np") as opened:
            vectors, digest = opened.get_tensor("vectors"), (opened.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, TypeError) as error:
        problem = f"cannot be read ({type(error).__name__})"
    else:
        if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != rows or not np.isfinite(vectors).all():
            problem = f"holds {vectors.dtype} of shape {vectors.shape} or no finite numbers, not {rows} vectors"
        elif digest != _digest(file, vectors):
            problem = "does not hold what was written"
        else:
            return vectors
    tqdm.write(f"{file.parent.name}/{file.name} {problem}; its texts are embedded again", file=sys.stderr)
    return None


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return arrays of vectors as one, read only; (0, 0) for none."""
    whole = np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)
    whole.flags.writeable = False
    return whole


def _digest(file: Path, vectors: np.ndarray) -> str:
    return hashlib.sha256(f"{file.stem} {vectors.dtype} {vectors.shape} ".encode() + vectors.tobytes()).hexdigest()


def _key(encoder: encoders.Encoder, texts: Sequence[str], prompt: str) -> str:
    """Return the name under which the vectors of some texts are kept."""
    kernel = getattr(encoder.model.config, "_attn_implementation", "")
    parts = [encoder.revision, encoder.pooling, kernel, prompt, encoder.max_length, *texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
