"""Which vectors are known already, and how is nothing embedded twice?

Shapes: B texts, D width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
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
    encoders.refuse_empty(texts)
    shards = [list(texts[start : start + SHARD]) for start in range(0, max(len(texts), 1), SHARD)]
    places = [folder / f"{_key(encoder, shard, prompt)}.npy" for shard in shards]
    missing = {file: shard for file, shard in zip(places, shards, strict=True) if not file.exists()}
    known = len(texts) - sum(map(len, missing.values()))
    hidden = not (progress and missing)
    with tqdm(total=len(texts), initial=known, unit="text", desc=f"embed {encoder.name}", disable=hidden) as bar:
        for file, shard in missing.items():
            with files.replacing(file) as aside, aside.open("wb") as stream:
                np.save(stream, encoders.encode(encoder, shard, prompt=prompt))
            bar.update(len(shard))
    parts = [np.load(file, mmap_mode="r") for file in places]
    if len(parts) == 1:
        return parts[0]
    whole = np.concatenate(parts)
    whole.flags.writeable = False
    return whole


def _key(encoder: encoders.Encoder, texts: Sequence[str], prompt: str) -> str:
    """Return the name under which the vectors of some texts are kept."""
    parts = [encoder.revision, encoder.pooling, prompt, encoder.max_length, *texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
