"""Which of thousands of paraphrases is the one of a given sentence? The paper's own task, with paraphrases of our own.

The paper's were written by a language model. Ours are of two kinds: those of the minimal pairs (``probe``), written by hand
in other words, and those of book sentences, made by rule (``rewording``). A rule keeps most words of a sentence, so the
second kind is easy to find by words alone, and the first is hard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

from cardioembed_study.corpus import rewording
from cardioembed_study.retrieval import pools, probe

POOL = 6259  # candidates, as many as the paper has pairs in its test (section 2.4)
N_ASKED = 600  # ours: queries at most, so that the task is cheap


def tasks(
    passages: pl.DataFrame, items: Sequence[probe.Item], size: int = POOL, seed: int = 17, split: str = "test"
) -> dict[str, pools.Task]:
    """Return the tasks ``paraphrase_hand`` and ``paraphrase_rule``: a sentence asks for its paraphrase among those of many.

    Asked are the minimal pairs' anchors, and sentences of the split that have a paraphrase, cardiology first, up to
    ``N_ASKED`` of both. One pool serves both: their paraphrases, then those of other sentences, of the split first and again
    cardiology first. The order of rows changes nothing.

    Args:
        passages: one row a passage, with ``split`` (``passages.SCHEMA``).
        items: minimal pairs; each is a cluster of its own, a sentence's is its document.
        size: candidates at most; fewer where the texts give fewer.
        seed: of the draw.
        split: whose documents are asked; without a sentence that has a paraphrase there is no task of that kind.
    """
    rows = passages.filter(kind="sentence").sort("text", "source", "document").iter_rows(named=True)
    order = sorted({row["text"]: row for row in rows}.values(), key=lambda row: _place(row, split, seed))
    columns = dict.fromkeys(("anchor", "positive", "source", "document", "split"), pl.String)
    by_hand = [(item.anchor, item.paraphrase, "probe", item.id, None) for item in items][:N_ASKED]
    by_rule = [
        (row["text"], made, row["source"], row["document"], row["split"])
        for row in order
        if (made := rewording.paraphrase(row["text"]))
    ]
    hand, rule = (pl.DataFrame(pairs, schema=columns, orient="row") for pairs in (by_hand, by_rule))
    asked = {"paraphrase_hand": hand, "paraphrase_rule": rule.filter(split=split).head(N_ASKED - len(hand))}
    pool = pl.concat([*asked.values(), rule]).unique("positive", keep="first", maintain_order=True).head(size)
    return {name: pools.from_pairs(name, part, pool) for name, part in asked.items() if len(part)}


def _place(row: dict, split: str, seed: int) -> tuple[bool, bool, bytes]:
    """Return a sentence's place in the draw: of the split first, then cardiology, else by chance."""
    chance = hashlib.sha256(f"{seed}:{row['text']}".encode()).digest()
    return row["split"] != split, row["topic"] != "cardiology", chance
