"""What does the card of a published adapter say?

Every number is read from records, every title and licence from records and manifests; ``card.md.j2`` holds the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from cardioembed_lib import files, models
from cardioembed_study import mappings, paths, records, show
from cardioembed_study.corpus import manifests
from cardioembed_study.retrieval import tables

MEASURES = {"mrr": "MRR", "acc_at_1": "Acc@1", "ndcg_at_10": "nDCG@10"}  # of 03, those that the metadata hold
TAGS = ("sentence-transformers", "sentence-similarity", "feature-extraction", "dense", "medical")
KINDS = {  # of pairs, in words
    "definition": "glossary entries, their terms taken out, and the sentences that introduce these terms",
    "heading": "titles of sections and their first sentences",
    "adjacent": "sentences and the sentences after them",
    "question": "questions of textbooks and their answers",
    "query": "search queries written of passages, by rule or by a language model, and these passages",
    "paraphrase": "sentences and their paraphrases, written by rule or by a language model",
}


def write(folder: Path, name: str, run: str, results: Path, below: str = "") -> Path:
    """Write ``README.md`` into an adapter's folder and return it.

    Args:
        folder: of the adapter.
        name: under which it is published.
        run: of ``02_train``, whose adapter it is.
        results: folder of the profile's records.
        below: where ``adapters`` lies, seen from the repository: "artifacts/mine/"; by default the repository itself.

    Raises:
        FileNotFoundError: a record is missing; names the notebook that makes it.
        ValueError: the run was not compared with the base, or only with a part of its adapter.
    """
    read = {"corpus": _read(results, "corpus", "all", "01_corpus"), "train": _read(results, "train", run, "02_train")}
    recipe, base = read["train"]["params"]["recipe"], read["train"]["params"]["base"]
    read["comparison"] = _read(results, "comparison", recipe, "03_retrieval")
    read["forgetting"] = _read(results, "forgetting", recipe, "04_mteb")
    asked = read["comparison"]["params"]
    if run not in asked["runs"]:
        raise ValueError(
            f"adapter {name!r}: 03_retrieval did not compare run {run!r} with {base}; add it to its `runs`"
        )
    if (share := asked["merge_weight"]) != 1:
        raise ValueError(
            f"adapter {name!r}: 03_retrieval measured it at merge_weight {share}, wanted 1, the whole of it"
        )
    read["base"], read["own"] = (_read(results, "retrieval", model, "03_retrieval") for model in (base, run))
    if run in read["forgetting"]["params"]["runs"]:
        read["mteb"] = _read(results, "mteb", run, "04_mteb")
    files.write(folder / "README.md", _text(name, run, read, below))
    return folder / "README.md"


def score_rows(read: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Return a row a task: the base, the mean of the recipe's seeds, their paired difference, and the adapter's own score.

    Args:
        read: records: ``comparison`` and ``forgetting`` of the recipe, ``base`` and ``own`` of 03, ``mteb`` if it was asked.
    """
    sides = (("comparison", "_mrr", read["base"]["counts"]), ("forgetting", "", read["forgetting"]["counts"]))
    own = {task: m["mrr"] for task, m in read["own"]["metrics"].items()}
    own |= {task: m["main_score"] for task, m in read.get("mteb", {"metrics": {}})["metrics"].items()}
    return [
        {
            "task": tables.TASKS.get(task, task),
            "metric": "MRR" if end else "Spearman" if "pairs" in counts[task] else "nDCG@10",
            "n": counts[task].get("queries", counts[task].get("pairs")),
            "documents": counts[task].get("documents") if end else None,  # in 04 the pool's
            "seeds": len(read[kind]["params"]["runs"]),
            "base": m[f"base{end}"],
            "tuned": m[f"tuned{end}"],
            **{key: m[key] for key in ("difference", "low", "high")},
            "own": own.get(task),
        }
        for kind, end, counts in sides
        for task, m in read[kind]["metrics"].items()
    ]


def metadata(name: str, read: Mapping[str, Mapping]) -> ModelCardData:
    """Return what the model hub reads: base, licence, texts, and the adapter's own scores as ``model-index``."""
    base, p = models.spec(read["train"]["params"]["base"], paths.MODELS), read["train"]["params"]
    lora, private = p["tuning"] == "lora", _private(read["corpus"])
    return ModelCardData(
        model_name=name,
        base_model=base.hub_id,
        base_model_relation="adapter" if lora else "finetune",
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=[*TAGS, *(("peft", "lora") if lora else ())],
        language="en",
        license="other" if private else base.licence.lower(),
        training_texts=[f"{text['title']}, {text['licence']}" for text in _texts(read["corpus"]).values()],
        eval_results=[*_own_tasks(read["own"]), *_mteb_tasks(read.get("mteb", {"metrics": {}}))],
    )


def _own_tasks(record: Mapping[str, Any]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="information-retrieval",
            task_name="Information Retrieval",
            dataset_type=task,
            dataset_name=task.replace("_", " "),
            dataset_split="test",
            metric_type=key,
            metric_name=words,
            metric_value=m[key],
        )
        for task, m in record["metrics"].items()
        for key, words in MEASURES.items()
    ]


def _mteb_tasks(record: Mapping[str, Any]) -> list[EvalResult]:
    """Return mteb's scores under mteb's names; of texts that mteb itself fetched no record says the split."""
    return [
        EvalResult(
            task_type="STS" if "pairs" in record["counts"][task] else "Retrieval",
            dataset_type=(read := record["params"]["read"][task])["path"],
            dataset_name=f"MTEB {task}",
            dataset_split=None if read["path"].startswith("mteb/") else "test",
            dataset_revision=read["revision"],
            metric_type=key,
            metric_value=m[key],
        )
        for task, m in record["metrics"].items()
        if {"queries", "pairs"} & set(record["counts"][task])
        for key in m
        if key not in ("low", "high")
    ]


def _text(name: str, run: str, read: Mapping[str, Mapping], below: str) -> str:
    source = resources.files(__package__).joinpath("card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    rows, p = score_rows(read), read["train"]["params"]
    return environment.from_string(source).render(
        metadata=metadata(name, read),
        name=name,
        place=f"{below}adapters/{name}",
        run=run,
        runs=read["comparison"]["params"]["runs"],
        base=models.spec(p["base"], paths.MODELS),
        p=p,
        kinds=[KINDS[kind] for kind in p["pairs"]],
        train=read["train"],
        texts=_texts(read["corpus"]),
        attributions=[
            manifests.load(source).attribution or f"{text['title']}: {text['licence']}"
            for source, text in _texts(read["corpus"]).items()
        ],
        private=_private(read["corpus"]),
        table=show.table(_shown(rows)).data,
        worse=[row for row in rows if row["high"] < 0],
        first=rows[0],
        interval=show.interval,
        cite=mappings.read(paths.ROOT / "CITATION.cff"),
    )


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows as the card shows them; without documents where no record counted them."""
    counted = any(row["documents"] for row in rows)
    return [
        {
            "task": row["task"],
            "metric": row["metric"],
            "n": row["n"],
            **({"documents": row["documents"] or ""} if counted else {}),
            "base": row["base"],
            "tuned": row["tuned"],
            "difference": f"{row['difference']:+.3f}",
            "95 % interval": show.interval(row["low"], row["high"], "+.3f"),
            "seeds": row["seeds"],
            "this adapter": "not measured" if row["own"] is None else f"{row['own']:.3f}",
        }
        for row in rows
    ]


def _texts(corpus: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """Return what the pairs were made of, by the names of manifests."""
    return {name: text for name, text in corpus["params"]["read"].items() if text["role"] != "benchmark"}


def _private(corpus: Mapping[str, Any]) -> list[str]:
    """Return the titles of the texts that are not open."""
    return [text["title"] for name, text in _texts(corpus).items() if manifests.load(name).access != "open"]


def _read(results: Path, measurement: str, model: str, notebook: str) -> dict[str, Any]:
    return records.read(paths.need(results / f"{measurement}.{model}.json", notebook))
