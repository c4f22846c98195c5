"""Which pairs does each arm of the experiment on specialty and format learn from?

Is what tuning teaches a specialty (cardiology) or a format (glossary entry to sentence)? Arms of one experiment take as many
steps each: pairs are drawn a second time where there are fewer of them. Three arms are compared with all definitions of the
textbooks, three in small with the cardiology pairs alone. In the folds each cardiology definition is held out once, with its
whole document, whatever the split of the corpus.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from cardioembed_study.corpus import pairs as pairing
from cardioembed_study.corpus import passages as passaging

FOLDS = 4
DOCUMENT = ("source", "document")
KINDS = (
    *("arm_all", "arm_without", "arm_swapped", "arm_cardiology", "arm_other", "arm_heading"),
    *(f"arm_fold{k}" for k in range(1, FOLDS + 1)),
)


def make(
    passages: pl.DataFrame, made: Mapping[str, pl.DataFrame], threshold: float, seed: int
) -> dict[str, pl.DataFrame]:
    """Return the pairs of every arm by name (``KINDS``): training pairs, dev pairs, and in a fold what it holds out as test.

    ``arm_all``: every definition. ``arm_without``: those that are no cardiology. ``arm_swapped``: as many as these, every
    cardiology definition among them. ``arm_cardiology``, ``arm_other``, ``arm_heading``: cardiology definitions, as many
    definitions of other subjects, as many cardiology headings. ``arm_fold<k>``: all definitions of other subjects and those
    cardiology definitions, of any split, that lie outside fold k; near repeats of what the fold holds out are left out.

    Args:
        passages: of the corpus, with their split.
        made: pairs by kind; ``definition`` and ``heading`` are read.
        threshold: from which Jaccard similarity two texts count as one.
        seed: of all draws and of the order in which documents are dealt.

    Raises:
        ValueError: there are no training definitions of either topic.
    """
    definitions, headings = pairing.of_glossary(made["definition"]), made["heading"]
    train, dev = (definitions.filter(split=split) for split in ("train", "dev"))
    heart, other = train.filter(topic="cardiology"), train.filter(topic="other")
    if heart.is_empty() or other.is_empty():
        raise ValueError(
            f"of the training definitions {len(heart)} are cardiology and {len(other)} are not; wanted some of each, "
            "or `with_arms: false`"
        )
    n, few = len(train), len(heart)
    swapped = pl.concat([heart, other.sample(len(other) - few, seed=seed)])
    titles = headings.filter(split="train", topic="cardiology")
    found = {
        "arm_all": pl.concat([train, dev]),
        "arm_without": pl.concat([repeated(other, n, seed), dev]),
        "arm_swapped": pl.concat([repeated(swapped, n, seed), dev]),
        "arm_cardiology": pl.concat([heart, dev]),
        "arm_other": pl.concat([other.sample(few, seed=seed), dev]),
        "arm_heading": pl.concat([titles.sample(min(few, len(titles)), seed=seed), headings.filter(split="dev")]),
    }
    dealt = folds(definitions.filter(topic="cardiology"), seed)
    for k in range(1, FOLDS + 1):
        held = dealt.filter(fold=k).drop("fold").with_columns(split=pl.lit("test"))
        learnt = dealt.filter(pl.col("fold") != k).drop("fold").with_columns(split=pl.lit("train"))
        learnt = _without_repeats(pl.concat([other, learnt]), held, passages, threshold, seed)
        found[f"arm_fold{k}"] = pl.concat([learnt, dev.filter(topic="other"), held])
    return found


def repeated(pairs: pl.DataFrame, n: int, seed: int) -> pl.DataFrame:
    """Return n pairs: all of them, and as many drawn once more as are lacking.

    >>> repeated(pl.DataFrame({"anchor": ["a", "b"]}), 3, seed=17)["anchor"].len()
    3
    """
    whole, rest = divmod(n, len(pairs))
    return pl.concat([*[pairs] * whole, pairs.sample(rest, seed=seed)])


def folds(pairs: pl.DataFrame, seed: int, k: int = FOLDS) -> pl.DataFrame:
    """Return the pairs with a column ``fold``, 1 to k; a document lies in one fold, and folds have pairs of like number.

    Documents are dealt by their number of pairs, the largest first, each to the fold that has fewest; equals in an order
    drawn by the seed.

    >>> folds(pl.DataFrame({"source": ["a"] * 3, "document": ["x", "x", "y"]}), seed=17, k=2)["fold"].to_list()
    [1, 1, 2]
    """
    sizes = pairs.group_by(DOCUMENT).len().sort(DOCUMENT).sample(fraction=1.0, shuffle=True, seed=seed)
    sizes = sizes.sort("len", descending=True, maintain_order=True)
    held, place = np.zeros(k, dtype=int), []
    for size in sizes["len"]:
        place.append(int(held.argmin()) + 1)
        held[place[-1] - 1] += size
    dealt = sizes.select(DOCUMENT).with_columns(fold=pl.Series(place, dtype=pl.Int64))
    return pairs.join(dealt, on=DOCUMENT, how="left", maintain_order="left")


def _without_repeats(
    learnt: pl.DataFrame, held: pl.DataFrame, passages: pl.DataFrame, threshold: float, seed: int
) -> pl.DataFrame:
    """Return the training pairs of which no text nearly repeats a text that is held out (``passages.near_duplicate_audit``)."""
    ids = {split: [*part["anchor_id"], *part["positive_id"]] for split, part in (("train", learnt), ("test", held))}
    used = pl.concat([passages.filter(pl.col("passage_id").is_in(ids[s])).with_columns(split=pl.lit(s)) for s in ids])
    repeats = passaging.near_duplicate_audit(used, threshold, seed)["passage_id"].implode()
    return learnt.filter(~pl.col("anchor_id").is_in(repeats) & ~pl.col("positive_id").is_in(repeats))
