"""Does a model tell same from opposite?

Three answers from the minimal pairs of ``data_manifests/probe``. The *separation score* of CardioEmbed's comparative study
asks only that paraphrases stand closer than sentences that have nothing in common. The *probe* asks for more: that a
sentence stands closer to its paraphrase than to its contradiction, which looks almost like it. Models that go by words fail
nearly every item, which leaves no room to compare them; so the *choice* turns the question round: which of the two, anchor
or contradiction, is closer to the paraphrase, which shares hardly a word with either?

Shapes: N items, each of an anchor, a paraphrase and a contradiction.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cardioembed_lib import encoder as encoders
from cardioembed_lib import metrics, statistics
from cardioembed_lib.encoder import Encoder
from cardioembed_study import lexical, paths

PROBE = paths.MANIFESTS / "probe" / "minimal_pairs.jsonl"
EDGES = np.linspace(-0.2, 1, 41).round(6)  # the same for every model, so that their histograms can share axes
TOLERANCE = 1e-6  # as in ``metrics.gold_ranks``: cosines of equal texts may differ in the last bit
Category = Literal["negation", "laterality", "number", "drug", "direction"]
Text = Annotated[str, Field(pattern=r"\S")]


class Item(BaseModel):
    """One minimal pair; the fields are explained in ``data_manifests/probe/README.md``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Annotated[str, Field(pattern=r"^[a-z]+-[0-9]+$")]
    category: Category
    anchor: Text
    paraphrase: Text
    contradiction: Text

    @model_validator(mode="after")
    def _agrees(self) -> Item:
        if self.id.split("-")[0] != self.category:
            raise ValueError(f"id {self.id!r} does not begin with its category, {self.category!r}")
        if len({self.anchor, self.paraphrase, self.contradiction}) < 3:
            raise ValueError("anchor, paraphrase and contradiction must be three different texts")
        return self


def load(path: Path = PROBE) -> tuple[Item, ...]:
    """Return the items of a probe in the order of the file.

    Args:
        path: JSON Lines, one item a line.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: naming file and line: a line is not an item, or its id or anchor has been used before; or no line at all.

    >>> load()[0].id
    'negation-001'
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; restore it from the repository, or name your own probe")
    items, seen = [], {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        item = _item(line, f"{path.name}:{number}")
        for field in ("id", "anchor"):
            value = getattr(item, field)
            if (first := seen.setdefault((field, value), number)) != number:
                raise ValueError(f"{path.name}:{number}: {field} {value!r} stands in line {first} already; keep one")
        items.append(item)
    if not items:
        raise ValueError(f"{path.name} holds no item; write one JSON object a line")
    return tuple(items)


def measure(encoder: Encoder, items: Sequence[Item], seed: int) -> dict[str, dict]:
    """Return what an encoder makes of the probe. Neither side gets a prompt, because no sentence is a query here.

    The different pairs are anchors of two items, drawn as one round trip through all of them in random order: as many pairs
    as items, no pair twice, each anchor in two. The order of ``items`` changes nothing.

    Args:
        encoder: the model.
        items: from ``load``, at least three.
        seed: of the different pairs and the bootstrap.

    Returns:
        ``metrics``: ``separation`` (mean cosine of the pairs ``similar``, anchor and paraphrase; ``negated``, anchor and
        contradiction; ``different``; the score ``separation``, and ``negated_gap`` = similar - negated, below 0 where
        contradictions look more alike than paraphrases; ``_low`` and ``_high`` of both), ``probe`` (for each category and
        ``all``: ``accuracy``, the share of items whose paraphrase is strictly closer than the contradiction, ties against
        us, ``low``, ``high``, and ``ties``, their share), ``choice`` (in the same form: the share whose paraphrase is
        strictly closer to the anchor than to the contradiction), ``cosines`` (for each kind of pair 40 counts between the
        41 ``edges``; what lies outside is in the end cells). ``counts``: items of each category and ``all``.

        Where no item, or every item, is right, an interval by bootstrap has no width: 0 of 66 still allows about 5 %
        (Clopper and Pearson 1934).

    Raises:
        ValueError: fewer than three items, or two of one id.
    """
    items = _ordered(items)
    texts = [text for item in items for text in (item.anchor, item.paraphrase, item.contradiction)]
    vectors = encoders.encode(encoder, texts).reshape(len(items), 3, -1)
    anchors, paraphrases, contradictions = vectors[:, 0], vectors[:, 1], vectors[:, 2]
    return _outcome(
        items,
        similar=metrics.positive_cosines(anchors, paraphrases),
        negated=metrics.positive_cosines(anchors, contradictions),
        crossed=metrics.positive_cosines(paraphrases, contradictions),
        different=metrics.positive_cosines(anchors, anchors[_partners(len(items), seed)]),
        seed=seed,
    )


def measure_lexical(items: Sequence[Item], seed: int) -> dict[str, dict]:
    """Return what shared words alone make of the probe: the same as ``measure``, from cosines of TF-IDF vectors.

    Contradictions are written to share nearly all their words with the anchor and paraphrases hardly any, so this floor of
    the probe is about nothing. In the choice half of the items are ties to words, and ties count against us: to compare with
    a model, which has none, add half of ``ties`` to ``accuracy``, as if a coin had decided them.

    Args:
        items: from ``load``, at least three; weights of words are learnt from all their texts.
        seed: as for ``measure``; the different pairs are the same.
    """
    items = _ordered(items)
    texts = [text for item in items for text in (item.anchor, item.paraphrase, item.contradiction)]
    cosines, anchors = lexical.tfidf_scores(texts, texts), np.arange(0, len(texts), 3)
    return _outcome(
        items,
        similar=cosines[anchors, anchors + 1],
        negated=cosines[anchors, anchors + 2],
        crossed=cosines[anchors + 1, anchors + 2],
        different=cosines[anchors, anchors[_partners(len(items), seed)]],
        seed=seed,
    )


def _item(line: str, where: str) -> Item:
    try:
        return Item.model_validate_json(line)
    except ValidationError as error:
        item = error.errors()[0]
        field = f"field {item['loc'][0]!r}: " if item["loc"] else ""
        message = item["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {field}{message}; data_manifests/probe/README.md explains the fields") from None


def _ordered(items: Sequence[Item]) -> list[Item]:
    if len(items) < 3:
        raise ValueError(
            f"found {len(items)} items of the probe; give at least three, so that no different pair comes twice"
        )
    ordered = sorted(items, key=lambda item: item.id)
    for a, b in pairwise(ordered):
        if a.id == b.id:
            raise ValueError(f"item {a.id!r} is given twice; keep one")
    return ordered


def _partners(n: int, seed: int) -> NDArray[np.int64]:
    """Return for each item the next one on a random round trip through all of them."""
    trip = np.random.default_rng(seed).permutation(n)
    partners = np.empty(n, dtype=np.int64)
    partners[trip] = np.roll(trip, -1)
    return partners


def _outcome(items: Sequence[Item], *, similar, negated, crossed, different, seed: int) -> dict[str, dict]:
    """Return metrics and counts from (N,) cosines; ``crossed`` are those of paraphrase and contradiction."""
    kinds = {"similar": similar, "negated": negated, "different": different}
    categories = np.array([item.category for item in items])
    chosen = {name: categories == name for name in get_args(Category) if name in categories}
    chosen["all"] = np.ones(len(items), dtype=bool)
    return {
        "metrics": {
            "separation": _separation(similar, negated, different, seed),
            "probe": {name: _accuracy(similar[rows], negated[rows], seed) for name, rows in chosen.items()},
            "choice": {name: _accuracy(similar[rows], crossed[rows], seed) for name, rows in chosen.items()},
            "cosines": {kind: _histogram(values) for kind, values in kinds.items()} | {"edges": EDGES.tolist()},
        },
        "counts": {name: int(rows.sum()) for name, rows in chosen.items()},
    }


def _separation(similar, negated, different, seed: int) -> dict[str, float]:
    found = metrics.separation(similar, different, seed)
    gap = np.subtract(similar, negated, dtype=np.float64)
    gap_low, gap_high = statistics.bootstrap(gap, seed)
    return {
        "similar": found["similar"],
        "different": found["different"],
        "negated": float(np.mean(negated, dtype=np.float64)),
        "separation": found["separation"],
        "separation_low": found["low"],
        "separation_high": found["high"],
        "negated_gap": float(gap.mean()),
        "negated_gap_low": gap_low,
        "negated_gap_high": gap_high,
    }


def _accuracy(closer: NDArray, farther: NDArray, seed: int) -> dict[str, float]:
    right = closer > farther + TOLERANCE
    low, high = statistics.bootstrap(right, seed)
    ties = np.abs(closer - farther) <= TOLERANCE
    return {"accuracy": float(right.mean()), "low": low, "high": high, "ties": float(ties.mean())}


def _histogram(cosines) -> list[int]:
    counts, _ = np.histogram(np.clip(cosines, EDGES[0], EDGES[-1]), EDGES)
    return counts.tolist()
