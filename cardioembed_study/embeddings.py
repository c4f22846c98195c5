"""Which vectors are known already, and how is nothing embedded twice?

Shapes: B texts, D width.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
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
        progress: show a bar over all texts, from the first that is not known.

    Returns:
        (B, D) float32, read only.

    Raises:
        ValueError: as for ``encode``, before anything is embedded; and if the encoder's weights have no name, because an
            adapter is still being trained on them.
    """
    encoders.refuse_empty(texts)
    shards = list(stream(folder, encoder, texts, prompt=prompt, progress=progress))
    return joined(shards or [encoders.encode(encoder, [])])


def stream(
    folder: Path, encoder: encoders.Encoder, texts: Iterable[str], *, prompt: str = "", progress: bool = False
) -> Iterator[np.ndarray]:
    """Yield the vectors of any number of texts, shard by shard: no more than one shard is held.

    Args:
        folder: see ``cached``; what lies there is not embedded again, so a stream that was killed goes on.
        encoder: the model.
        texts: read as they are needed; a list's length is the bar's.
        prompt: as for ``encode``.
        progress: show a bar over all texts, from the first that is not known.

    Yields:
        (up to ``SHARD``, D) float32, in the texts' order.

    Raises:
        ValueError: as for ``cached``, but an empty text is found when its shard is reached.
    """
    if not encoder.revision:
        raise ValueError(f"{encoder.name} has weights that may change; use encode, or save its adapter and load that")
    total, rest = (len(texts) if isinstance(texts, Sequence) else None), iter(texts)
    shards = iter(lambda: list(islice(rest, SHARD)), [])
    done, bar = 0, None
    with ExitStack() as stack:
        for shard in shards:
            file = folder / f"{key(encoder, shard, prompt)}.safetensors"
            if (vectors := kept(file, len(shard))) is None:
                options = {"total": total, "initial": done, "unit": "text", "desc": f"embed {encoder.name}"}
                bar = stack.enter_context(tqdm(**options, disable=not progress)) if bar is None else bar
                vectors = encoders.encode(encoder, shard, prompt=prompt)
                keep(file, vectors)
            done += len(shard)
            if bar is not None:
                bar.update(len(shard))
            yield vectors


def keep(file: Path, vectors: np.ndarray, **beside: np.ndarray) -> None:
    """Write vectors, and arrays that belong to them, with a digest of all and of the file's name, whole or not at all."""
    arrays = {"vectors": np.ascontiguousarray(vectors)} | beside
    with files.replacing(file) as aside:
        save_file(arrays, aside, {"sha256": _digest(file, arrays)})


def kept(file: Path, rows: int) -> np.ndarray | None:
    """Return the vectors that ``keep`` wrote; ``None`` if there are none, or if others lie there, which a line then says.

    Args:
        file: its name is the key.
        rows: how many vectors there must be.

    Returns:
        (rows, D) float32, finite.
    """

    def misfit(arrays: Mapping[str, np.ndarray]) -> str:
        if (vectors := arrays.get("vectors")) is None:
            return "holds no vectors"
        if vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == rows and np.isfinite(vectors).all():
            return ""
        return f"holds {vectors.dtype} of shape {vectors.shape} or no finite numbers, not {rows} vectors"

    known = read(file, misfit)
    return None if known is None else known["vectors"]


def read(file: Path, misfit: Callable[[Mapping[str, np.ndarray]], str]) -> dict[str, np.ndarray] | None:
    """Return the arrays that ``keep`` wrote; ``None`` if there are none, or if others lie there, which a line then says.

    Args:
        file: its name is the key.
        misfit: says what is wrong with the arrays; nothing if they fit.
    """
    if not file.exists():
        return None
    try:
        with safe_open(file, "np") as opened:
            names = opened.keys()
            arrays = {name: opened.get_tensor(name) for name in names}
            digest = (opened.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, TypeError) as error:
        problem = f"cannot be read ({type(error).__name__})"
    else:
        problem = misfit(arrays) or ("" if digest == _digest(file, arrays) else "does not hold what was written")
        if not problem:
            return arrays
    tqdm.write(f"{file.parent.name}/{file.name} {problem}; its texts are embedded again", file=sys.stderr)
    return None


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return arrays of vectors as one, read only; (0, 0) for none."""
    whole = np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)
    whole.flags.writeable = False
    return whole


def _digest(file: Path, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(file.stem.encode())
    for name in sorted(arrays, reverse=True):
        digest.update(f" {arrays[name].dtype} {arrays[name].shape} ".encode() + arrays[name].tobytes())
    return digest.hexdigest()


def key(encoder: encoders.Encoder, texts: Sequence[str], prompt: str) -> str:
    """Return a name for the vectors of some texts, which are kept under it: of all that decides them."""
    kernel = getattr(encoder.model.config, "_attn_implementation", "")
    parts = [encoder.revision, encoder.pooling, kernel, prompt, encoder.max_length, *texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
