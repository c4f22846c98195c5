"""How many mined negatives are false ones? A sample for a person to judge, and the rate among those judged.

A mined negative is false if it would by itself be an acceptable answer to the anchor: it says the same thing of the same term.
What it says of a broader, narrower or neighbouring term is no answer, nor is a sentence that only names the term.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
from scipy.stats import binomtest

from cardioembed_lib import files
from cardioembed_study import paths
from cardioembed_study.corpus import manifests

JUDGED = paths.MANIFESTS / "negatives" / "judged.csv"
KEPT = ("negatives", "seed", "anchor_id", "positive_id", "negative_id", "sha256", "false_negative")


def draw(pairs: pl.DataFrame, how: str, n: int, seed: int) -> pl.DataFrame:
    """Return mined negatives of training pairs, drawn by seed, in a table for a person, who fills ``false_negative``.

    Args:
        pairs: of one kind (``pairs.SCHEMA``).
        how: as the parameter ``negatives`` of ``02_train``.
        n: rows; all if there are fewer.
        seed: of the draw, and of mining by chance.

    Returns:
        ``KEPT`` (``sha256`` of the three texts, 16 digits), then ``anchor``, ``positive`` and ``negative``, the texts: not to
        be published.
    """
    from cardioembed_study.training import mixture  # here, since it takes seconds to load and judging needs none of it

    train = mixture.mix([pairs.filter(split="train")])
    made = mixture.with_negatives(train, how, seed).explode("negatives").rename({"negatives": "negative"})
    drawn = made.sample(min(n, len(made)), seed=seed, shuffle=False)
    origin = train.select("source", negative="positive", negative_id="positive_id").unique(
        ["source", "negative"], keep="first", maintain_order=True
    )
    drawn = drawn.join(origin, on=["source", "negative"], how="left", maintain_order="left")
    texts = drawn.select("anchor", "positive", "negative")
    digests = [hashlib.sha256("\n".join(row).encode()).hexdigest()[:16] for row in texts.rows()]
    drawn = drawn.with_columns(
        negatives=pl.lit(how), seed=pl.lit(seed), sha256=pl.Series(digests), false_negative=pl.lit("")
    )
    return drawn.select(*KEPT, *texts.columns)


def keep(sample: Path, judged: Path | None = None) -> Path:
    """Add the judgements of a sample to those kept, by ids and hash, without a text, and return their file.

    Args:
        sample: of ``draw``, judged.
        judged: their file; ``None``: ``JUDGED`` if all texts are open, else one beside the sample.

    Raises:
        FileNotFoundError: the sample is missing.
        ValueError: if a row is not judged ``true`` or ``false``.
    """
    if not sample.is_file():
        raise FileNotFoundError(
            f"{sample} is missing; make it with `cardioembed negatives`, and fill its false_negative"
        )
    separator = ";" if b";" in sample.read_bytes().split(b"\n")[0] else ","  # a spreadsheet's, as is TRUE
    found = pl.read_csv(sample, infer_schema=False, separator=separator).select(KEPT)
    found = found.filter(~pl.all_horizontal(pl.all().is_null()))  # an empty line
    found = found.with_columns(pl.col("false_negative").str.to_lowercase())
    strange = found.filter(~pl.col("false_negative").is_in(["true", "false"]).fill_null(False))
    if len(strange):
        raise ValueError(
            f"{sample.name}: {len(strange)} of {len(found)} rows have no judgement, the first of {strange['anchor_id'][0]}; "
            "wanted true or false in false_negative"
        )
    if judged is None:
        sources = found["anchor_id"].str.split(":").list.first().unique()
        is_open = all(manifests.load(name).access == "open" for name in sources)
        judged = JUDGED if is_open else sample.with_name(f"{sample.stem}.judged.csv")
    parts = [pl.read_csv(judged, infer_schema=False), found] if judged.exists() else [found]
    kept = pl.concat(parts).unique(KEPT[:-1], keep="last", maintain_order=True)
    files.write(judged, kept.write_csv())
    return judged


def rates(*judged: Path) -> pl.DataFrame:
    """Return the share of false negatives for each way of mining: ``n``, ``false``, ``rate``, and Wilson's 95 % interval."""
    table = pl.concat(pl.read_csv(file, infer_schema=False) for file in judged or [JUDGED])
    said = (pl.col("false_negative") == "true").sum()
    counts = table.group_by("negatives", maintain_order=True).agg(n=pl.len(), false=said)
    ends = [binomtest(k, n).proportion_ci(method="wilson") for n, k in counts.select("n", "false").iter_rows()]
    return counts.with_columns(
        rate=pl.col("false") / pl.col("n"),
        low=pl.Series([end.low for end in ends], dtype=pl.Float64),
        high=pl.Series([end.high for end in ends], dtype=pl.Float64),
    )
