"""Which passages are nearest to a query, among many?

Records are made from exact search; an index of FAISS, an extra that this project does not need, is for millions of passages:
in memory (``faiss_index``), or on disk where they are more than memory holds (``faiss_on_disk``).

Shapes: Q queries, N passages, D width.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from cardioembed_lib import files

if TYPE_CHECKING:
    import faiss

KINDS = ("flat", "hnsw", "ivf")
LEARNT, CELLS = 64, 4096  # passages a cell that an index on disk learns its cells from; cells at most


def exact(
    queries: ArrayLike, passages: ArrayLike, k: int, block: int = 256
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k passages with the largest inner product, best first; among equals the lower index stands first.

    Args:
        queries: (Q, D); normalise both sides for cosines.
        passages: (N, D).
        k: neighbours wanted, 1 to N.
        block: queries compared at once (memory is 4 * block * N bytes); the result is the same but for float rounding.

    Returns:
        Scores (Q, k) float32, indices (Q, k) int64.

    Raises:
        ValueError: shapes do not fit, a vector holds NaN, or k is not between 1 and N.

    >>> scores, indices = exact([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], k=2)
    >>> indices.tolist(), scores.tolist()
    ([[1, 2]], [[1.0, 1.0]])
    """
    q, p = _vectors(queries, "queries"), _vectors(passages, "passages")
    if q.shape[1] != p.shape[1]:
        raise ValueError(f"queries are {q.shape[1]} wide, passages {p.shape[1]}; embed both with the same model")
    if not 1 <= k <= len(p):
        raise ValueError(f"k is {k}; choose 1 to {len(p)}, the number of passages")
    scores = np.empty((len(q), k), dtype=np.float32)
    indices = np.empty((len(q), k), dtype=np.int64)
    for start in range(0, len(q), block):
        part = slice(start, start + block)
        scores[part], indices[part] = largest(q[part] @ p.T, k)
    return scores, indices


def faiss_index(passages: ArrayLike, kind: str = "flat") -> faiss.Index:
    """Return a FAISS inner-product index of the passages.

    ``flat`` compares with every passage. ``hnsw`` walks a graph (32 links a node, effort 200 to build and 128 to search:
    recall above speed; Malkov and Yashunin 2016). ``ivf`` looks into an eighth of about 4 * sqrt(N) cells. The seeds are
    FAISS's fixed ones, but a graph built on several threads may differ from run to run: nothing in a record comes from it.

    Args:
        passages: (N, D), normalised: on vectors of other lengths the graph's neighbourhoods mislead.
        kind: "flat", "hnsw" or "ivf".

    Raises:
        ValueError: an unknown kind, NaN, or a shape that is not (N, D).
        ModuleNotFoundError: FAISS is not installed.

    >>> faiss_index([[1.0, 0.0], [0.0, 1.0]]).ntotal
    2
    """
    faiss = _faiss()
    p = _vectors(passages, "passages")
    width = p.shape[1]
    if kind == "flat":
        index = faiss.IndexFlatIP(width)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 200, 128
    elif kind == "ivf":
        cells = max(1, min(round(4 * len(p) ** 0.5), len(p) // 39))  # FAISS asks for 39 training points a cell
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = max(1, cells // 8)
        index.train(p)
    else:
        raise ValueError(f"no index {kind!r}; known: {', '.join(KINDS)}")
    index.add(p)
    return index


def faiss_on_disk(
    parts: Callable[[], Iterable[ArrayLike]], folder: Path, total: int, probes: int = 64, progress: bool = False
) -> faiss.Index:
    """Return an inner-product index of any number of passages, which lie on disk: what a search reads is read from there.

    Inverted lists (as ``ivf``) of vectors in one byte a number, a quarter of float32. Parts are indexed one after another and
    each is written; called again after a kill, the parts that are written are passed over. A finished index is opened.

    Args:
        parts: gives normalised vectors, (n, D) at a time, such as ``embeddings.stream`` does; is called twice, since cells are
            learnt from every so-manyth vector.
        folder: where ``cells.faiss``, ``part<first>-<n>.faiss`` and in the end ``index.faiss`` with ``lists.ivfdata`` lie.
        total: passages of all parts, for the number of cells: 4 * sqrt(total), at most ``CELLS``.
        probes: cells looked into by a search.
        progress: show a bar.

    Raises:
        ValueError: the parts hold fewer or more passages than ``total``, NaN, or a shape that is not (n, D); or what is on
            disk cannot be read, or has another size than it says.
        ModuleNotFoundError: FAISS is not installed.
    """
    faiss = _faiss()
    from faiss.contrib.ondisk import merge_ondisk

    done, cells = folder / "index.faiss", folder / "cells.faiss"
    if not done.exists():
        if total < 1:
            raise ValueError(f"total is {total}; there is nothing to index")
        if not cells.exists():
            with files.replacing(cells) as aside:
                faiss.write_index(_learnt(faiss, parts(), total), str(aside))
        made, n = [], 0
        with tqdm(total=total, unit="vector", unit_scale=True, desc="index", disable=not progress) as bar:
            for part in parts():
                made.append(folder / f"part{n:012}-{len(part)}.faiss")
                if not made[-1].exists():
                    index = faiss.read_index(str(cells))
                    index.add_with_ids(_vectors(part, "passages"), np.arange(n, n + len(part)))
                    with files.replacing(made[-1]) as aside:
                        faiss.write_index(index, str(aside))
                n += len(part)
                bar.update(len(part))
        if n != total:
            raise ValueError(f"the parts hold {n:,} passages, total says {total:,}; delete {folder.name}/ and say {n}")
        index = faiss.read_index(str(cells))
        with _silent():
            merge_ondisk(index, list(map(str, made)), str(folder / "lists.ivfdata"))
        with files.replacing(done) as aside:
            faiss.write_index(index, str(aside))
    for file in folder.glob("part*.faiss"):
        file.unlink()
    lists, remedy = folder / "lists.ivfdata", f"delete {folder.name}/ and index again"
    try:
        with _silent():
            index = faiss.read_index(str(done), faiss.IO_FLAG_READ_ONLY | faiss.IO_FLAG_ONDISK_SAME_DIR)
    except RuntimeError as error:
        raise ValueError(f"{done} or {lists.name} cannot be read; {remedy}") from error
    found = faiss.extract_index_ivf(index)
    wanted = faiss.downcast_InvertedLists(found.invlists).totsize
    if (size := lists.stat().st_size) != wanted:
        raise ValueError(f"{lists} has {size:,} bytes, its index says {wanted:,}; {remedy}")
    found.nprobe = probes
    return index


def _learnt(faiss, parts: Iterable[ArrayLike], total: int) -> faiss.Index:
    """Return an empty index whose cells are learnt from ``LEARNT`` vectors a cell, from all over the parts."""
    cells = max(1, min(round(4 * total**0.5), CELLS, total // LEARNT))
    step = max(1, total // (LEARNT * cells))
    sample = np.concatenate([_vectors(part[::step], "passages") for part in map(np.asarray, parts)])
    width, form = sample.shape[1], faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(width), width, cells, form, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 10
    index.train(sample)
    return index


@contextmanager
def _silent() -> Iterator[None]:
    """Drop what FAISS, which is C++, prints of its files."""
    sys.stdout.flush()
    before = os.dup(1)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def _faiss():
    try:
        import faiss
    except ModuleNotFoundError as error:
        advice = 'pip install "cardioembed-reproduced[search]", or search with `exact`'
        raise ModuleNotFoundError(f"an index of passages needs FAISS; {advice}", name="faiss") from error
    return faiss


def approximate(index: faiss.Index, queries: ArrayLike, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k nearest passages as a FAISS index sees them, best first; the order of equals is FAISS's own.

    Args:
        index: from ``faiss_index``.
        queries: (Q, D).
        k: neighbours wanted, 1 to N.

    Returns:
        Scores (Q, k) float32, indices (Q, k) int64; -1 where ``hnsw`` or ``ivf`` found fewer than k.

    Raises:
        ValueError: another width than the index's, NaN, or k not between 1 and N.

    >>> approximate(faiss_index([[1.0, 0.0], [0.0, 1.0]]), [[0.1, 0.9]], k=1)[1].tolist()
    [[1]]
    """
    q = _vectors(queries, "queries")
    if q.shape[1] != index.d:
        raise ValueError(f"queries are {q.shape[1]} wide, the index {index.d}; embed both with the same model")
    if not 1 <= k <= index.ntotal:
        raise ValueError(f"k is {k}; choose 1 to {index.ntotal}, the number of passages")
    return index.search(q, k)


def largest(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the k largest of each row, largest first, and their columns; of equals the lower column stands first.

    Whatever sorts them: a processor's own order of equals is not the next one's.

    >>> largest(np.array([[1.0, 3.0, 3.0, 3.0]]), k=2)[1].tolist()
    [[1, 2]]
    """
    values, columns = (x.numpy() for x in torch.from_numpy(scores).topk(min(k + 1, scores.shape[1])))
    for row in np.flatnonzero(values[:, k - 1] == values[:, -1]) if values.shape[1] > k else ():
        columns[row, :k] = first(scores[row], np.ones(scores.shape[1], dtype=bool), k)  # topk chose blindly
    columns = columns[:, :k]
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.lexsort((columns, -values), axis=-1)
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(columns, order, axis=1)


def first(row: NDArray[np.float32], fits: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    """Return the columns of the k largest scores among those that fit, fewer if there are not so many, in that order."""
    columns = np.flatnonzero(fits)
    if k < len(columns):
        columns = columns[row[columns] >= np.partition(row[columns], -k)[-k]]
    return columns[np.argsort(-row[columns], kind="stable")][:k]


def _vectors(vectors: ArrayLike, name: str) -> NDArray[np.float32]:
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} have shape {array.shape}; give (texts, width), at least one of each")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise ValueError(f"{name} hold NaN or infinite values in row {bad[0]} ({bad.size} such rows)")
    return array
