"""What does the first page say: two figures, and sentences whose words follow from the records by rule?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from cardioembed_study import paths, records, show
from cardioembed_study.claims import evidence
from cardioembed_study.forgetting import target
from cardioembed_study.retrieval import tables

GROUPS = {  # the tasks shown, in two groups
    "Cardiology": ("definition_cardiology", "medquad_questions"),
    "Other subjects, or several": ("definition_other", "question_heldout", *target.KEPT_FROM),
}
SCORES = {"SciFact": "nDCG@10", "NFCorpus": "nDCG@10", "BIOSSES": "Spearman"}  # of the others MRR
SMALL = 0.01  # a loss below it is called small: one right answer in a hundred moves Acc@1 by as much
WORDS = {"higher": "better", "lower": "worse", "not distinguishable": "neither better nor worse"}
NONE = tables.NONE
QUOTED = {  # what the sentences tell of: measurement, recipe, task; without ``tuned`` the first recipe stands in its place
    "inside": ("comparison", "tuned", "definition_cardiology"),
    "outside": ("comparison", "tuned", "definition_other"),
    "questions": ("comparison", "tuned", "medquad_questions"),
    "kept": ("comparison", "kept", "definition_cardiology"),
    "kept_questions": ("comparison", "kept", "medquad_questions"),
}


def experiment(profile: str) -> dict[str, Mapping]:
    """Return the committed records of a profile that ends early, such as ``domain``, by their second name.

    None before it was run. Its corpus is there as ``corpus``.
    """
    folder = paths.BOOK / "results" / profile
    found = {file.name.split(".")[1]: records.read(file) for file in sorted(folder.glob(f"{profile}.*.json"))}
    return found | ({"corpus": records.read(folder / "corpus.all.json")} if found else {})


def contrasts(domain: Mapping[str, Mapping], terms: bool = False) -> dict[str, Mapping]:
    """Return the experiment's contrasts under titles: its two tests, each corrected for by itself, or the folds by their terms.

    Args:
        domain: of ``experiment``.
        terms: the folds again, by whether a definition's term was among those learnt from.
    """
    tests = {("folds", "contrasts"): "all cardiology definitions", ("matrix", "contrasts"): "held-out documents alone"}
    parts = {("folds", "seen"): "terms learnt from elsewhere", ("folds", "unseen"): "terms never learnt from"}
    return {
        f"Profile domain, {title}": domain[record]["metrics"].get(name, {}) if domain else {}
        for (record, name), title in (parts if terms else tests).items()
    }


def gains(results: Mapping[str, Mapping], base: str, recipes: Sequence[str]) -> pl.DataFrame:
    """Return what each recipe, BM25 with the base, and BM25 alone score on each task, less the base.

    Args:
        results: measurement to model or recipe to record; ``hybrid`` may be missing.
        base: the untuned model.
        recipes: those compared with it.

    Returns:
        Columns ``group``, ``row`` (task, score, n), ``mark``, ``value``, ``low``, ``high`` (null for BM25 alone), ``task``.
    """
    rows = [
        (group, _title(results, base, task), mark, m["difference"], m.get("low"), m.get("high"), task)
        for group, tasks in GROUPS.items()
        for task in tasks
        for mark, m in _marks(results, base, recipes, task)
    ]
    columns = dict.fromkeys(("group", "row", "mark"), pl.String) | dict.fromkeys(("value", "low", "high"), pl.Float64)
    return pl.DataFrame(rows, schema=columns | {"task": pl.String}, orient="row")


def forest(drawn: pl.DataFrame) -> tuple[Figure, pl.DataFrame]:
    """Return the gains as a forest plot, and the numbers drawn.

    Args:
        drawn: of ``gains``.
    """
    if drawn.is_empty():
        return show.nothing("nothing was compared with the base in this profile")
    axis = "difference from the untuned base, in the task's own score (0 to 1)\nbars: 95 % interval"
    return show.forest(drawn, axis), drawn


def verdict_bars(rows: Sequence[Mapping[str, Any]]) -> tuple[Figure, pl.DataFrame]:
    """Return a bar a paper, cut into the classes of its published numbers, with n in every part, and the numbers drawn.

    Args:
        rows: mappings with ``paper``, ``class`` and ``claims`` (how many), in the order drawn.
    """
    counted = pl.DataFrame(list(rows))
    classes = counted["class"].unique(maintain_order=True).to_list()
    drawn = counted.filter(pl.col("claims") > 0)
    papers = drawn["paper"].unique(maintain_order=True).to_list()
    ends, free = dict.fromkeys(papers, 0), dict.fromkeys(papers, 0.0)
    widest = drawn.group_by("paper").agg(pl.col("claims").sum())["claims"].max()
    with show.canvas(figsize=(4.9, 0.6 * len(papers) + 0.18 * len(classes) + 0.8)) as (fig, ax):
        for i, name in enumerate(classes):
            part = drawn.filter(pl.col("class") == name)
            colour = show.mark(i)["color"] if i < len(show.COLOURS) else (0.87, 0.87, 0.87)  # one more than there are
            if len(part):
                ax.bar(0, 0, color=colour, edgecolor="white", label=f"{name}, {part['claims'].sum():,}")
            for paper, claims in part.select("paper", "claims").rows():
                y, middle = papers.index(paper), ends[paper] + claims / 2
                ax.barh(y, claims, left=ends[paper], height=0.45, color=colour, edgecolor="white", lw=0.6)
                narrow = claims < 0.06 * widest  # then n stands below, beside the one before
                if narrow:
                    middle = max(middle, free[paper])
                    free[paper] = middle + widest * 0.02 * (len(str(claims)) + 0.7)
                ink = "black" if narrow or sum(colour) > 1.3 else "white"
                ax.text(middle, y + 0.34 * narrow, claims, ha="center", va="center", fontsize=8, color=ink)
                ends[paper] += claims
        for y, (paper, end) in enumerate(ends.items()):
            ax.text(0, y - 0.36, f"{paper}: {end:,}", fontsize=9, va="center")
        ax.set(ylim=(len(papers) - 0.4, -0.6), xlim=(0, widest), yticks=[], xlabel="published numbers")
        ax.spines["left"].set_visible(False)
        ax.grid(visible=False)
        fig.legend(loc="outside lower left", frameon=False, fontsize=9)
    return fig, drawn


def told(m: Mapping[str, Any]) -> str:
    """Return a difference in words: by its interval and, where it has one, by p after Holm's correction.

    >>> told({"low": 0.01, "high": 0.05}), told({"low": 0.01, "high": 0.05, "p_holm": 0.2})
    ('higher', 'not distinguishable')
    """
    return tables.verdict(m["low"], m["high"]) if m.get("p_holm", 0) < target.P else "not distinguishable"


def taught(contrasts: Mapping[str, Mapping]) -> str:
    """Return what tuning taught, by the contrasts over the folds.

    The task: other subjects' definitions help cardiology, and by more than cardiology's own add to them. The specialty: the
    other way round. Where no contrast decides, the sentence says so.

    Args:
        contrasts: ``specialty``, ``format`` and ``format_less_specialty``, each with its interval and p.
    """
    way = {name: told(m) for name, m in contrasts.items()}
    helps = {name for name in ("specialty", "format") if way[name] == "higher"}
    if "format" in helps and way["format_less_specialty"] == "higher":
        return f"Tuning taught the task{' more than' if 'specialty' in helps else ', not'} the specialty"
    if "specialty" in helps and way["format_less_specialty"] == "lower":
        return f"Tuning taught the specialty{' more than' if 'format' in helps else ', not'} the task"
    if len(helps) == 2:
        return "Tuning taught both the task and the specialty, and which more is undecided"
    return "Whether tuning taught the specialty or the task is undecided"


def answer(results: Mapping[str, Mapping], domain: Mapping[str, Mapping], base: str) -> dict[str, str]:
    """Return the words and numbers of the first page's sentences, by the name under which it asks for them, all as text.

    Args:
        results: measurement to model or recipe to record.
        domain: records of the experiment on specialty and format, by their second name; none where it was not run.
        base: the untuned model.
    """
    asked = results["retrieval"][base]["counts"]
    on_folds = domain["folds"]["metrics"]["contrasts"] if domain else {}
    said = {
        "taught": taught(on_folds) if on_folds else "Whether tuning taught the specialty or the task is not measured"
    }
    said |= {name: change(on_folds.get(name, {})) for name in ("specialty", "format", "format_less_specialty")}
    said |= _bounds(domain)
    mine = evidence.recipe(results)
    found = {n: _measured(results, kind, mine if of == "tuned" else of, task) for n, (kind, of, task) in QUOTED.items()}
    for name, m in found.items():
        stands = f" (recipe {mine})" * (QUOTED[name][1] == "tuned" != mine)
        said |= {
            name: f"{WORDS[told(m)]}{stands}" if m else NONE,
            f"{name}_change": change(m | asked[QUOTED[name][2]] if m else {}),
        }
    both = found["kept"] and found["inside"] and mine != "kept"  # of itself it keeps all
    share = found["kept"]["difference"] / found["inside"]["difference"] if both else None
    said |= {"kept_share": f"{100 * share:.0f} %" if share else NONE, "kept_cost": cost(results, "kept")}
    for name in ("inside", "questions"):
        task = QUOTED[name][2]
        levels = [results["retrieval"][model]["metrics"].get(task, {}).get("mrr") for model in ("bm25", base)]
        said[f"bm25_{name}"] = f"{levels[0] - levels[1]:+.3f}" if None not in levels else NONE
        said[f"hybrid_{name}"] = change(_measured(results, "hybrid", base, task))
    return {f"answer_{name}": text for name, text in said.items()}


def _bounds(domain: Mapping[str, Mapping]) -> dict[str, str]:
    """Return how much of the training was cardiology, what the tests could find, and the comparison of equal sizes."""
    names = ("dose", "power", "small", "small_power")
    if not {"corpus", "power", "matrix"} <= domain.keys():
        return dict.fromkeys(names, NONE)
    heart, other = (domain["corpus"]["counts"]["pairs"]["definition"][t]["train"] for t in ("cardiology", "other"))
    power = domain["power"]["metrics"]
    small = domain["matrix"]["metrics"]["contrasts"]["small_specialty"]
    found = (power[name]["detectable"] for name in ("specialty", "small_specialty"))
    known, equal = (f"{size:.3f}" for size in found)
    said = (f"{heart:,} of {heart + other:,} training definitions", known, change(small), equal)
    return dict(zip(names, said, strict=True))


def change(m: Mapping[str, Any]) -> str:
    """Return a difference with its interval, and with n and documents where they are known.

    >>> change({"difference": 0.05, "low": 0.02, "high": 0.11, "queries": 1177, "documents": 15})
    '+0.050 (95 % interval +0.020 to +0.110; n = 1,177 from 15 documents)'
    """
    if not m:
        return NONE
    documents = f" from {m['documents']:,} documents" if "documents" in m else ""
    n = f"; n = {m['queries']:,}{documents}" if "queries" in m else ""
    return f"{m['difference']:+.3f} (95 % interval {show.interval(m['low'], m['high'], '+.3f')}{n})"


def cost(results: Mapping[str, Mapping], recipe: str) -> str:
    """Return in words what a recipe lost most on, of the benchmarks whose loss counts: below zero by interval and p.

    Args:
        results: measurement to model or recipe to record.
        recipe: its name.
    """
    pair = target.compared(results, [recipe]).get(recipe)
    if not pair:
        return NONE
    entries = {task: m for record in pair for task, m in record["metrics"].items()}
    asked = target.losses(*pair)
    lost = [task for task in asked if told(entries[task]) == "lower"]
    if not lost:
        return "no significant loss on any benchmark" if asked.keys() - {evidence.OF_CORPUS} else NONE
    worst = min(lost, key=lambda task: entries[task]["difference"])
    size = "small and significant" if entries[worst]["difference"] > -SMALL else "significant"
    return f"a {size} loss on {tables.TASKS.get(worst, worst)}, {change(entries[worst])}"


def _measured(results: Mapping[str, Mapping], kind: str, recipe: str, task: str) -> dict[str, Any]:
    """Return what a record says of a task, or nothing."""
    return dict(results.get(kind, {}).get(recipe, {}).get("metrics", {}).get(task, {}))


def _marks(
    results: Mapping[str, Mapping], base: str, recipes: Sequence[str], task: str
) -> list[tuple[str, Mapping[str, float]]]:
    """Return what is drawn of a task, each with ``difference`` from the base."""
    found = {r: _measured(results, "comparison", r, task) or _measured(results, "forgetting", r, task) for r in recipes}
    found["BM25 and base"] = _measured(results, "hybrid", base, task)
    levels = [_measured(results, "retrieval", model, task).get("mrr") for model in ("bm25", base)]
    found["BM25 alone"] = {} if None in levels else {"difference": levels[0] - levels[1]}
    return [(mark, m) for mark, m in found.items() if m]


def _title(results: Mapping[str, Mapping], base: str, task: str) -> str:
    """Return a task's name with its score and n; documents are those that the queries come from."""
    asked = results["retrieval"][base]["counts"].get(task)
    others = (record["counts"].get(task) for record in results["forgetting"].values())
    counts = asked or next(filter(None, others), {})
    documents = f" from {asked['documents']:,} documents" if asked and "documents" in asked else ""
    name = tables.TASKS.get(task, task).partition(" (")[0]
    n = counts.get("queries", counts.get("pairs", 0))
    return f"{name[0].upper()}{name[1:]}, {SCORES.get(task, 'MRR')}, n = {n:,}{documents}"
