"""What do the records of the MedEmbed study say, row by row?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from cardioembed_study import show
from cardioembed_study.medembed import merging, negatives

NOT_RUN = "the MedEmbed study was not run"
NO_MERGE = "no merge was chosen, so nothing was asked"
TASKS = {
    "definition_cardiology": "definitions, cardiology",
    "definition_other": "definitions, other subjects",
    "medquad_cardiology": "MedQuAD questions, cardiology",
    "medquad_other": "MedQuAD questions, other subjects",
    "SciFact_part": "SciFact, part",
    "NFCorpus_part": "NFCorpus, part",
}
JOINED = {
    "definitions": "held-out definitions, MRR",
    "medquad": "MedQuAD questions, MRR",
    "SciFact_part": "SciFact, part, nDCG@10",
    "NFCorpus_part": "NFCorpus, part, nDCG@10",
}
RECIPES = {  # what is set against what
    "chosen_less_none": "chosen negatives less none",
    "query_less_none": "queries less definitions",
    "medembed_less_kept": "MedEmbed's recipe less kept",
}
FORMS = {  # of late interaction; what is no form is a first pass alone
    "all": "all tokens, 16 bits",
    "all_int8": "all tokens, 8 bits",
    "tenth": "a tenth, 16 bits",
    "tenth_int8": "a tenth, 8 bits",
    "bm25": "BM25 alone",
    "second_bm25": "all tokens, over BM25's hundred",
    "base": "the base alone, one vector, not tuned",
    "second_base": "all tokens, over the untuned base's hundred",
}
TIMED = {
    "single": "one vector a text",
    "all": "all tokens",
    "tenth": "a tenth of them",
    "second": "one vector, then all tokens of the nearest hundred",
}
PRECISIONS = {
    "float32": "32 bits",
    "float16": "16 bits",
    "int8": "8 bits",
    "binary": "1 bit",
    "binary_rescored": "1 bit, second look",
    "binary_int8": "1 bit, second look at 8 bits",
}


def recipe_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each recipe less the base on each task, a row a recipe and task."""
    return [
        {
            "trained": name,
            "task": TASKS.get(task, task),
            "n": record["counts"][task]["queries"],
            "documents": record["counts"][task]["documents"],
            "base": m["base"],
            "tuned": m["tuned"],
            **show.change(m),
        }
        for name in recipes(record)
        for task, m in ((task, record["metrics"]["recipes"][name][task]) for task in TASKS)
    ]


def recipes(record: Mapping[str, Any]) -> list[str]:
    """Return the recipes of ``medembed.recipes``, plain training and the chosen negatives first."""
    order = dict.fromkeys(["none", record["params"].get("chosen"), "query", "medembed", "kept"])
    return [name for name in order if name in record["metrics"]["recipes"]]


def prompt_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is lost or gained without an instruction, a row a model and task."""
    return [
        {
            "model": name,
            "task": TASKS.get(task, task),
            "n": record["counts"][task]["queries"],
            "with it": m["base"],
            "without": m["tuned"],
            "without less with": show.with_interval(m),
            "p (Holm)": show.p_value(m["p_holm"]),
        }
        for name, tasks in record["metrics"].items()
        for task, m in tasks.items()
    ]


def size_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what tuning gains or loses on each task at each size, a row a size and task, the smallest first."""
    return [
        {
            "layers": record["counts"]["layers"][recipe],
            "parameters, million": (millions := record["counts"]["parameters"][recipe] / 1e6),
            "texts a second": f"{record['params']['texts_per_second'][recipe]:.0f}",
            "task": JOINED[task],
            "base": m["base"],
            "tuned": m["tuned"],
            "difference": show.with_interval(m),
            "per million parameters": f"{m['difference'] / millions:+.4f}",
            "worst and best seed": f"{m['worst_seed']:+.3f}, {m['best_seed']:+.3f}",
        }
        for recipe, tasks in record["metrics"]["sizes"].items()
        for task, m in tasks.items()
    ]


def width_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what smaller vectors of each recipe score, a row a recipe, task, precision and width."""
    return [
        {
            "model": recipe,
            "task": JOINED[task],
            "kept": PRECISIONS[precision],
            "numbers": int(width),
            "bytes a passage": record["counts"]["bytes"][precision][width],
            "score": m["score"],
            "less whole vectors": show.with_interval(m),
        }
        for recipe, tasks in record["metrics"]["kept"].items()
        for task, precisions in tasks.items()
        for precision, widths in precisions.items()
        for width, m in widths.items()
    ]


def merge_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what each merge scores on dev, and its first seed on test, a row a merge, the simplest first."""
    return [
        {
            "merge, or training": name + (", chosen" if name == record["params"]["chosen"] else ""),
            "dev MRR": m["score"],
            "less plain": "" if name == merging.PLAIN else show.with_interval(m),
            **{f"{JOINED[key]}, one seed": value for key, value in record["metrics"]["test"][name].items()},
        }
        for name, m in (
            (name, record["metrics"]["dev"][name]) for name in merging.ORDER if name in record["metrics"]["dev"]
        )
    ]


def selection_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what choosing among the merges on the reported tasks adds, by two measures."""
    chance, tasks = record["metrics"]["selection"], record["metrics"]["left_out"]
    spread = {"difference": chance["optimism"], "low": chance["optimism_low"], "high": chance["optimism_high"]}
    rows = [("chosen on half the documents and queries, less the same on the other half", show.with_interval(spread))]
    rows += [
        (f"{words}: best by all four tasks less best by the other three", f"{tasks[task]['difference']:+.3f}")
        for task, words in JOINED.items()
    ]
    return [{"what choosing adds": what, "difference": value} for what, value in rows]


def late_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what each form of late interaction scores, a row a model, task and form."""
    words = {"base": "base, not tuned", "tuned": "tuned"}
    return [
        {
            "tokens of": words[recipe],
            "task": JOINED[task],
            "kept": FORMS[form],
            "bytes a passage": f"{m['bytes']:,.0f}" if "bytes" in m else "",
            "score": m["score"],
            "less one vector a text": show.with_interval(m),
        }
        for recipe in words
        for task in JOINED
        for form, m in ((form, record["metrics"]["kept"][recipe][task][form]) for form in FORMS)
    ]


def contrast_rows(found: Mapping[str, Mapping[str, Any]], words: str) -> list[dict[str, Any]]:
    """Return differences of the study, a row each.

    Args:
        found: a name to ``contrasts.measured``.
        words: what is compared, as the header of the names.
    """
    return [
        {
            words: name,
            "difference": show.with_interval(m),
            "p": show.p_value(m["p"]),
            "n": m["queries"],
            "documents or queries": m["documents"],
        }
        for name, m in found.items()
    ]


def mix_rows(found: pl.DataFrame) -> list[dict[str, Any]]:
    """Return what choosing a published merge by the reported tasks is worth, a row a table of variants, in points of nDCG@10.

    Args:
        found: of ``merging.published_mixes``.
    """
    return [
        {
            "published table": row["table"].removeprefix(merging.CSV),
            "merges": row["mixes"],
            "best by all five tasks": row["chosen"],
            "tasks without which another is best": row["changed"],
            "mean as reported": f"{100 * row['reported']:.2f}",
            "mean, each task without its own vote": f"{100 * row['left_out']:.2f}",
            "difference": f"{100 * row['difference']:.2f}",
            "largest on one task": f"{100 * row['largest']:.2f}",
            "best less plain tuning": f"{100 * row['over_plain']:+.2f}",
        }
        for row in found.to_dicts()
    ]


def sections(medembed: Mapping[str, Mapping]) -> dict[str, list[dict[str, Any]]]:
    """Return the study's tables by name, without a row where it was not run.

    Args:
        medembed: of ``front_page.experiment``.
    """
    made = {"negatives": negatives.rows, "recipes": recipe_rows, "prompts": prompt_rows}
    made |= {
        "merges": merge_rows,
        "selection": selection_rows,
        "sizes": size_rows,
        "widths": width_rows,
        "late": late_rows,
    }
    source = {name: medembed.get("merges" if name == "selection" else name) for name in made}
    found = {name: rows(source[name]) if source[name] else [] for name, rows in made.items()}
    less, nested = (
        medembed[name]["metrics"][part] if name in medembed else {}
        for name, part in (
            ("sizes", "smallest_less_largest"),
            ("widths", "matryoshka_less_none"),
        )
    )
    measured = medembed["recipes"]["metrics"] if "recipes" in medembed else {}
    each = {f"{words}: {JOINED[n]}": m for part, words in RECIPES.items() for n, m in measured.get(part, {}).items()}
    found["recipes-contrasts"] = contrast_rows(each, "less")
    found["sizes-contrasts"] = contrast_rows({JOINED[n]: m for n, m in less.items()}, "gain of 1 layer less that of 6")
    each = {f"{JOINED[n]}, {width} numbers": m for n, widths in nested.items() for width, m in widths.items()}
    found["widths-contrasts"] = contrast_rows(each, "nested training less plain")
    return found | {"mixes": mix_rows(merging.published_mixes())}


def numbers(medembed: Mapping[str, Mapping]) -> dict[str, str]:
    """Return what the page says of the study in words, by the names that it quotes.

    Args:
        medembed: of ``front_page.experiment``.
    """
    keys = (
        "mined",
        "mined_dev",
        "clear",
        "query",
        "recipe",
        "merge",
        "merge_chosen",
        "selection",
        "prompt",
        "chosen",
        "sizes",
        "nested",
    )
    keys += (
        "nested_whole",
        "late",
        "left_out",
        "lost",
        "second_words",
        "pool",
        "late_tenth",
        "late_others",
        "late_base",
        "late_rate",
        "late_ms",
        "second",
    )
    quoted = dict.fromkeys((f"medembed_{key}" for key in keys), NOT_RUN)
    mixes = merging.published_mixes()
    quoted["medembed_close"] = f"{negatives.CLOSE} MRR"
    quoted["medembed_mix"] = f"{100 * mixes['difference'].max():.2f}"
    quoted["medembed_mix_gain"] = show.interval(*(100 * mixes["over_plain"]).sort()[[0, -1]], ".2f")
    quoted["medembed_mix_task"] = f"{100 * mixes['largest'].max():.2f}"
    if "negatives" in medembed:
        record = medembed["negatives"]
        m = record["metrics"][record["params"]["chosen"]]
        if "less_none" in m:
            quoted["medembed_mined_dev"] = show.with_interval(m["less_none"])
        quoted["medembed_chosen"] = (
            f"{negatives.ORDER[record['params']['chosen']]}, {show.with_interval(m)} over the base"
        )
    if "recipes" in medembed:
        found = medembed["recipes"]["metrics"]
        quoted["medembed_mined"] = show.with_interval(found["chosen_less_none"]["definitions"])
        quoted["medembed_query"] = _judged(found["query_less_none"]["medquad"])
        quoted["medembed_recipe"] = "; ".join(
            f"{words} {show.with_interval(found['medembed_less_kept'][task])}" for task, words in JOINED.items()
        )
    if "merges" in medembed:
        found, chance = medembed["merges"]["metrics"], medembed["merges"]["metrics"]["selection"]
        chosen = medembed["merges"]["params"]["chosen"]
        quoted["medembed_merge_chosen"] = "plain tuning, no merge" if chosen == merging.PLAIN else chosen
        less = found["chosen_less_none"]
        quoted["medembed_merge"] = _judged(less["definitions"]) if less else NO_MERGE
        spread = {"difference": chance["optimism"], "low": chance["optimism_low"], "high": chance["optimism_high"]}
        quoted["medembed_selection"] = show.with_interval(spread)
        lost = {task: m["difference"] for task, m in found["left_out"].items()}
        worst = max(lost, key=lost.get)
        quoted["medembed_left_out"] = f"{lost[worst]:.3f} on {JOINED[worst]}"
    if "prompts" in medembed:
        found = [(m, TASKS[task]) for task, m in medembed["prompts"]["metrics"]["base"].items()]
        clear = [f"{task} {show.with_interval(m)}" for m, task in found if m["p_holm"] < 0.05 and m["difference"] > 0]
        quoted |= {"medembed_prompt": "; ".join(clear) or "none", "medembed_clear": f"{len(clear)} of {len(found)}"}
    if "sizes" in medembed:
        quoted["medembed_sizes"] = _judged(medembed["sizes"]["metrics"]["smallest_less_largest"]["definitions"])
    if "widths" in medembed:
        nested = medembed["widths"]["metrics"]["matryoshka_less_none"]["definitions"]
        plain = medembed["widths"]["metrics"]["kept"]["none"]["definitions"]
        shown = (("int8", "384"), ("binary", "384"), ("float32", "256"), ("float32", "128"), ("float32", "64"))
        quoted["medembed_lost"] = "; ".join(
            f"{width} numbers in {PRECISIONS[form]} {show.with_interval(plain[form][width])}" for form, width in shown
        )
        quoted |= {"medembed_nested": _judged(nested["64"]), "medembed_nested_whole": _judged(nested["384"])}
    if "late" in medembed:
        found, params = medembed["late"]["metrics"]["kept"]["tuned"], medembed["late"]["params"]
        quoted["medembed_late"] = _judged(found["definitions"]["all"])
        quoted["medembed_late_tenth"] = _judged(found["definitions"]["tenth"])
        quoted["medembed_second"] = _judged(found["definitions"]["second_base"])
        for recipe, key, tasks in (("tuned", "late_others", [*JOINED][1:]), ("base", "late_base", JOINED)):
            less = medembed["late"]["metrics"]["kept"][recipe]
            said = (f"{JOINED[task]} {show.with_interval(less[task]['all'])}" for task in tasks)
            quoted[f"medembed_{key}"] = "; ".join(said)
        quoted["medembed_second_words"] = _judged(found["definitions"]["second_bm25"])
        quoted["medembed_pool"] = f"{medembed['late']['counts']['definition_other']['candidates']:,}"
        quoted["medembed_late_rate"] = f"{params['rate']:g}"
        quoted["medembed_late_ms"] = ", ".join(
            f"{words} {params['milliseconds'][key]:.2g} ms" for key, words in TIMED.items()
        )
    return quoted


def _judged(m: Mapping[str, Any]) -> str:
    answer = "yes" if m["low"] > 0 else "no" if m["high"] < 0 else "open"
    return f"{answer}: {show.with_interval(m)}, n = {m['queries']} of {m['documents']} documents"
