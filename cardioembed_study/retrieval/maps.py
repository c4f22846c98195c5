"""Where does UMAP put vectors on a plane?"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from umap import UMAP

from cardioembed_lib import encoder as encoders
from cardioembed_lib.encoder import Encoder

LARGEST = 8  # as many as there are colours a colour-blind reader can tell apart


def term_map(passages: pl.DataFrame, encoder: Encoder, seed: int) -> pl.DataFrame:
    """Return where UMAP (McInnes et al. 2018, arXiv 1802.03426) puts the cardiology terms of a model.

    Args:
        passages: of the corpus; the glossary entries of cardiology are taken, a term a point; all, if none is of cardiology.
        encoder: the model.
        seed: of UMAP, which is then deterministic on one machine.

    Returns:
        ``x``, ``y``, ``chapter``: a title, or "other" beyond the eight chapters with most terms. No row for fewer than
        ``maps.FEWEST_POINTS`` terms: too few for a map.
    """
    entries = passages.filter(kind="glossary")
    heart = entries.filter(topic="cardiology")
    entries = (heart if len(heart) else entries).with_columns(
        term=pl.col("terms").list.first(), chapter=pl.col("section").str.split(" > ").list.first()
    )
    if len(entries) < FEWEST_POINTS:
        return pl.DataFrame(schema={"x": pl.Float64, "y": pl.Float64, "chapter": pl.String})
    sizes = entries.group_by("chapter").len().sort(["len", "chapter"], descending=[True, False])
    large = sizes["chapter"].head(LARGEST).to_list()
    vectors = encoders.encode(encoder, entries["term"].to_list())
    places = umap_points(vectors, seed)
    chapter = pl.when(pl.col("chapter").is_in(large)).then("chapter").otherwise(pl.lit("other"))
    return entries.select(x=pl.Series(places[:, 0]), y=pl.Series(places[:, 1]), chapter=chapter)


FEWEST_POINTS = 20  # UMAP looks at 15 neighbours


def umap_points(vectors: ArrayLike, seed: int) -> NDArray[np.float64]:
    """Return where UMAP (McInnes et al. 2018, arXiv 1802.03426) puts the vectors on a plane, by cosine distance.

    Args:
        vectors: (N, D), at least ``FEWEST_POINTS``.
        seed: of UMAP, which is then deterministic on one machine, on one thread.

    Returns:
        (N, 2) float64.

    Raises:
        ValueError: too few vectors.
    """
    points = np.asarray(vectors, dtype=np.float32)
    if points.ndim != 2 or len(points) < FEWEST_POINTS:
        raise ValueError(f"vectors have shape {points.shape}; a map needs (N, D) with N of {FEWEST_POINTS} or more")
    return UMAP(metric="cosine", random_state=seed, n_jobs=1).fit_transform(points).astype(np.float64)
