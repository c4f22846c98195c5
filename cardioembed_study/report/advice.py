"""Should a reader use the adapter? The answer follows by rule from the records ``advice.<recipe>`` of ``03_retrieval``.

The rule was written down before the differences that it judges were computed.
Its parts are asked in this order, the first that holds decides:

1. *too few documents to tell*: fewer than ``LEAST`` held-out documents, or the deciding interval is wider than ``WIDEST`` MRR.
   The deciding interval is that of the adapter's difference from the best way of searching that needs no tuning (best by
   MRR among base, BM25 and both together), or of BM25 and base together less the base where nothing was tuned.
2. *use this adapter*: the deciding interval of an adapter lies above 0.
3. *use BM25 and the base together*, or *use BM25 alone*: its interval less the base lies above 0; of both the one with the
   larger MRR.
4. *tuning does not help here*: none of these; use the base as it is.

Held-out documents are those of the test split that ask at least one query of the headline task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from cardioembed_lib import files
from cardioembed_study import paths, show
from cardioembed_study.report import front_page
from cardioembed_study.retrieval import tables

LEAST, WIDEST = 20, 0.10  # held-out documents; MRR
FEW, ADAPTER, HYBRID, WORDS, BASE = "few", "adapter", "hybrid", "bm25", "base"
SAID = {
    FEW: "too few documents to tell",
    ADAPTER: "use this adapter",
    HYBRID: "use BM25 and the base together, without tuning",
    WORDS: "use BM25 alone, without tuning",
    BASE: "tuning does not help here: use the base as it is",
}
WAYS = {"base": "base", "bm25": "BM25", "hybrid": "BM25 and base"}  # those that need no tuning

NEEDED = {  # what held-out documents must have to be asked a task
    "definition_cardiology": "glossary in cardiology chapters",
    "definition_other": "glossary in other chapters",
    "question_heldout": "questions with answers",
}


def levels(m: Mapping[str, Mapping]) -> dict[str, float]:
    """Return the MRR of each way of searching that needs no tuning, the simplest first."""
    both, words = m["hybrid"]["base"], m["bm25"]["base"]
    return {"base": both["base_mrr"], "bm25": words["tuned_mrr"], "hybrid": both["tuned_mrr"]}


def deciding(m: Mapping[str, Mapping]) -> Mapping[str, Any]:
    """Return the difference that decides: the adapter's from the best of the others; without one, that of BM25 and base."""
    known = levels(m)
    return m["tuned"][max(known, key=known.get)] if "tuned" in m else m["hybrid"]["base"]


def decide(m: Mapping[str, Mapping], documents: int) -> str:
    """Return what the rule says, a key of ``SAID``.

    Args:
        m: metrics of a record ``advice.<recipe>``: way of searching, then what it is compared with.
        documents: held-out documents of its task.

    >>> def less(low, high, base=0.5, mrr=0.5):
    ...     return {"low": low, "high": high, "base_mrr": base, "tuned_mrr": mrr}
    >>> m = {"bm25": {"base": less(-0.02, 0.06, mrr=0.52)}, "hybrid": {"base": less(0.01, 0.09, mrr=0.55)}}
    >>> m["tuned"] = {"base": less(0.02, 0.11), "bm25": less(0.01, 0.1), "hybrid": less(0.004, 0.05)}
    >>> decide(m, documents=20), decide(m, documents=19)
    ('adapter', 'few')
    >>> m["tuned"]["hybrid"] = less(-0.004, 0.05)  # it beats the base, but not the best of what needs no tuning
    >>> decide(m, 20), decide(m | {"hybrid": {"base": less(-0.01, 0.09, mrr=0.55)}}, 20)
    ('hybrid', 'base')
    >>> decide(m | {"tuned": {"hybrid": less(0.01, 0.12)}}, 20)  # wider than 0.10
    'few'
    """
    found = deciding(m)
    if documents < LEAST or found["high"] - found["low"] > WIDEST:
        return FEW
    if "tuned" in m and found["low"] > 0:
        return ADAPTER
    better = {way: level for way, level in levels(m).items() if way in (HYBRID, WORDS) and m[way]["base"]["low"] > 0}
    return max(better, key=better.get, default=BASE)


def rows(records: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return the advice on each recipe, a row each, with what it follows from.

    Args:
        records: recipe to its record ``advice.<recipe>``; none of before the advice was measured.
    """
    return [
        {
            "recipe": recipe if "tuned" in m else "none was tuned",
            "advice": SAID[decide(m, n["documents"])],
            "best without tuning": f"{WAYS[best]}, MRR {known[best]:.3f}",
            "adapter's MRR": f"{m['tuned']['base']['tuned_mrr']:.3f}" if "tuned" in m else "none",
            "deciding difference": show.with_interval(d),
            "queries": n["queries"],
            "documents": n["documents"],
        }
        for recipe, record in records.items()
        for m, d, known in [(record["metrics"], deciding(record["metrics"]), levels(record["metrics"]))]
        for best, n in [(max(known, key=known.get), next(iter(record["counts"].values())))]
    ]


def gains(records: Mapping[str, Mapping]) -> pl.DataFrame:
    """Return what each way of searching scores less the base, as ``show.forest`` draws it; no row without records."""
    found = [
        ("", f"{_title(record)}, MRR", mark, m["difference"], m["low"], m["high"])
        for n, (recipe, record) in enumerate(records.items())
        for way, mark in (("tuned", recipe), ("bm25", WAYS["bm25"]), ("hybrid", WAYS["hybrid"]))
        if (m := record["metrics"].get(way, {}).get("base")) and (way == "tuned" or n == len(records) - 1)
    ]
    schema = dict.fromkeys(("group", "row", "mark"), pl.String) | dict.fromkeys(("value", "low", "high"), pl.Float64)
    return pl.DataFrame(found, schema=schema, orient="row")


def forest(records: Mapping[str, Mapping]) -> tuple[Figure, pl.DataFrame]:
    """Return the gains over the base as a forest plot, and the numbers drawn."""
    return front_page.forest(gains(records))


def write_next(profile: str, base: str, adapters: Iterable[str]) -> None:
    """Write ``tables/advice-next.md``: what a reader types next, a search, and the adapter in another program.

    Args:
        profile: whose texts.
        base: the untuned model.
        adapters: those that the profile names; `make book` lays them into ``artifacts/<profile>/adapters``.
    """
    lines = ["```console", f'cardioembed search {profile} "your question"', "```", ""]
    loads = [f'model = SentenceTransformer("artifacts/{profile}/adapters/{name}")' for name in adapters]
    if loads:
        lines += [
            "shows what the base and the tuned model find. In other programs, from the top folder of the repository:",
            "",
        ]
        lines += ["```python", "from sentence_transformers import SentenceTransformer", "", *loads]
        lines += ['vectors = model.encode(["your question"])', "```"]
    else:
        lines += [f"shows what {base} finds. The profile names no adapter (`adapters` in its file)."]
    files.write(paths.artifacts(profile) / "tables" / "advice-next.md", show.HEAD + "\n".join([*lines, ""]))


def numbers(records: Mapping[str, Mapping], asked: Iterable[str]) -> dict[str, Any]:
    """Return the words and numbers that the page quotes, by the name under which it asks for them.

    Args:
        records: recipe to its record ``advice.<recipe>``.
        asked: the tasks of 03 that the texts could be asked.
    """
    told = [(recipe, record["metrics"], next(iter(record["counts"].values()))) for recipe, record in records.items()]
    words = [f"{recipe if 'tuned' in m else 'no adapter'}: {SAID[decide(m, n['documents'])]}" for recipe, m, n in told]
    said = {"words": "; ".join(words) or front_page.NONE, "least": LEAST, "widest": WIDEST}
    said["task"] = _title(next(iter(records.values()))) if records else front_page.NONE
    lacking = [f"{tables.TASKS[task]} (no {what})" for task, what in NEEDED.items() if task not in asked]
    said["not_asked"] = ", ".join(lacking) or "none"
    return {f"advice_{name}": value for name, value in said.items()}


def _title(record: Mapping[str, Any]) -> str:
    (task, n), *_ = record["counts"].items()
    alone = {"definition_heldout": "held-out definitions, among held-out passages"}  # elsewhere it stands below another
    name = alone.get(task) or tables.TASKS.get(task, task)
    return f"{name[0].upper()}{name[1:]}, n = {n['queries']:,} from {n['documents']:,} documents"
