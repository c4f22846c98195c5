"""Which MTEB tasks can be asked here, and with which texts?

The tasks are mteb's own (Muennighoff et al. 2022, arXiv 2210.07316). Their texts come from our manifests, from the corpus, or,
where the network allows, from the hub by mteb's own loaders. ``mteb_models`` asks them.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import mteb
import polars as pl
import requests
from datasets import Dataset
from huggingface_hub import constants as hub
from mteb.abstasks import AbsTask, AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from cardioembed_study.corpus import manifests
from cardioembed_study.retrieval import pools

FILES = {"BIOSSES": "biosses", "SciFact": "scifact", "NFCorpus": "nfcorpus"}  # task to manifest
DEVELOPMENT = {"SciFact": "train", "NFCorpus": "dev"}  # splits for choices made before the test is asked
CORPUS = "CorpusDefinitions"
ENGLISH = {"CUREv1": "en", "PublicHealthQA": "english"}  # of tasks in several languages, the part that is asked
HUB_SECONDS = 5.0  # how long the hub may take to say that it is there


class CorpusDefinitions(AbsTaskRetrieval):
    """The corpus' own retrieval task in MTEB's form; ``from_corpus`` makes it."""

    metadata = TaskMetadata(
        name=CORPUS,
        description="Glossary entries of held-out documents, to be matched with the sentences that introduce their terms.",
        dataset={"path": "cardioembed/corpus", "revision": "none"},
        type="Retrieval",
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )
    clusters: Sequence[str] = ()  # the document of each query


def from_corpus(asked: pools.Task) -> CorpusDefinitions:
    """Return one of our own retrieval tasks as MTEB has them, so that its nDCG@10 is the one of ``03_retrieval``.

    Args:
        asked: the task; its documents become ``clusters``, its texts' hash the revision.
    """
    right = {f"q{i}": {f"d{place}": 1} for i, place in enumerate(asked.gold.tolist())}
    queries = {f"q{i}": text for i, text in enumerate(asked.queries)}
    documents = [{"id": f"d{i}", "title": "", "text": text} for i, text in enumerate(asked.passages)]
    texts = json.dumps([asked.queries, asked.passages, asked.gold.tolist()])
    revision = hashlib.sha256(texts.encode()).hexdigest()[:12]
    made = filled(CorpusDefinitions(), "test", documents, queries, right, "cardioembed/corpus", revision)
    made.clusters = asked.clusters
    return made


def from_files(name: str, split: str = "test") -> AbsTask:
    """Return an MTEB task of ``FILES`` with the texts of its manifest, and the manifest's source and revision as its own.

    Args:
        name: of the task, as mteb has it.
        split: ``test``, or that of ``DEVELOPMENT``.

    Raises:
        FileNotFoundError: the files are not here.
        ValueError: a file or a count is not the manifest's, or there is no such split.
    """
    source = manifests.load(FILES[name])
    folder, task = manifests.fetch(source), mteb.get_task(name)
    listed = manifests.documents(source)
    if source.format == "pairs":
        return _pairs(task, source, pl.read_csv(folder / listed[0], separator="\t", quote_char=None), split)
    documents, queries = _lines(folder / "corpus.jsonl"), _lines(folder / "queries.jsonl")
    judged = {Path(file).stem: _judgements(folder / file) for file in listed if file.startswith("qrels/")}
    counts = {"documents": len(documents), "queries": len(queries)}
    for key, right in judged.items():
        counts |= {f"{key}_queries": len(right), f"{key}_judgements": sum(map(len, right.values()))}
    manifests.check_counts(source, counts)
    if split not in judged:
        raise ValueError(f"{name} has no split {split!r} among its files; choose one of {', '.join(sorted(judged))}")
    texts = {query["_id"]: query["text"] for query in queries if query["_id"] in judged[split]}
    rows = [{"id": found["_id"], "title": found["title"], "text": found["text"]} for found in documents]
    return filled(task, split, rows, texts, judged[split], *_address(source))


def filled(
    task: AbsTask,
    split: str,
    documents: Sequence[Mapping[str, str]],
    queries: Mapping[str, str],
    right: Mapping[str, Mapping[str, int]],
    source: str,
    revision: str,
) -> AbsTask:
    """Return a retrieval task with these texts instead of its own, marked with where they are from.

    Args:
        task: of mteb, or ours in its form.
        split: what the texts are.
        documents: mappings with ``id``, ``title`` and ``text``; mteb joins title and text with a space.
        queries: text by id.
        right: judgement by query and document; 0 is not relevant.
        source: address.
        revision: of the source.
    """
    columns = {key: [row[key] for row in documents] for key in ("id", "title", "text")}
    asked = {"id": list(queries), "text": list(queries.values())}
    data = {"corpus": Dataset.from_dict(columns), "queries": Dataset.from_dict(asked), "top_ranked": None}
    task.dataset = {"default": {split: data | {"relevant_docs": {q: dict(found) for q, found in right.items()}}}}
    return _named(task, split, source, revision)


def here(name: str) -> bool:
    """Return whether the files of a task of ``FILES`` are on this machine, or can be downloaded.

    Raises:
        ValueError: a file is another than the manifest's.
    """
    try:
        return manifests.fetch(manifests.load(FILES[name])).is_dir()
    except FileNotFoundError:
        return False


def gather(
    names: Iterable[str], corpus: CorpusDefinitions, largest: int = 0
) -> tuple[dict[str, AbsTask], dict[str, str]]:
    """Return the tasks that can be asked here, their texts loaded, and for each of the others why not, in one sentence.

    Where the network is missing this costs seconds in all: the hub is asked once whether it is there.

    Args:
        names: as mteb has them, and ``CORPUS``.
        corpus: what ``CORPUS`` stands for.
        largest: texts of a task from the hub, queries included; a larger one is not asked. 0: no limit.

    Raises:
        ValueError: mteb knows no such task, or a file of ours is not the manifest's.
    """
    found = {name: corpus if name == CORPUS else _known(name) for name in dict.fromkeys(names)}
    closed = functools.cache(_closed)
    missing = {}
    for name, task in found.items():
        if not task.data_loaded and (reason := _too_large(task, largest) or closed() or _failure(task)):
            here = f"the files of manifest {FILES[name]} are not here, and " if name in FILES else ""
            missing[name] = here + reason
    return {name: task for name, task in found.items() if name not in missing}, missing


def counts(task: AbsTask) -> dict[str, int]:
    """Return how many queries and documents, pairs, or else texts a task has."""
    (split,) = task.eval_splits
    if isinstance(task, AbsTaskRetrieval):
        task.convert_v1_dataset_format_to_v2(None)
        data = task.dataset[task.hf_subsets[0]][split]
        return {"queries": len(data["queries"]), "documents": len(data["corpus"])}
    data = task.dataset[split] if split in task.dataset else task.dataset[task.hf_subsets[0]][split]
    return {"pairs" if isinstance(task, AbsTaskSTS) else "texts": len(data)}


def inputs(asked: Mapping[str, AbsTask]) -> list[Path]:
    """Return the manifests and lists of files of those tasks whose texts are files of ours."""
    own = [FILES[name] for name in asked if name in FILES]
    own = [n for n in own if _address(manifests.load(n))[0] in {t.metadata.dataset["path"] for t in asked.values()}]
    return [file for name in own for file in sorted(manifests.names()[name].parent.glob(f"{name}.*"))]


def _pairs(task: AbsTask, source: manifests.Source, rows: pl.DataFrame, split: str) -> AbsTask:
    manifests.check_counts(source, {"pairs": len(rows)})
    if split != "test":
        raise ValueError(f"{task.metadata.name} has no split {split!r} among its files; choose test")
    columns = {"sentence1": rows["sentence1"].to_list(), "sentence2": rows["sentence2"].to_list()}
    task.dataset = {split: Dataset.from_dict(columns | {"score": rows["mean"].cast(pl.Float64).to_list()})}
    return _named(task, split, *_address(source))


def _address(source: manifests.Source) -> tuple[str, str]:
    return source.source or source.name, source.revision or "local"


def _named(task: AbsTask, split: str, source: str, revision: str) -> AbsTask:
    task.metadata = task.metadata.model_copy(update={"dataset": {"path": source, "revision": revision}})
    task.data_loaded = True
    return task.filter_eval_splits([split])


def _lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def _judgements(file: Path) -> dict[str, dict[str, int]]:
    """Return relevance by query and document."""
    right: dict[str, dict[str, int]] = {}
    for line in file.read_text(encoding="utf-8").splitlines()[1:]:
        query, document, score = line.split("\t")
        right.setdefault(query, {})[document] = int(score)
    return right


def _known(name: str) -> AbsTask:
    """Return mteb's task, with its texts if they are files of ours; else one split and one language of it, still empty."""
    if name in FILES and here(name):
        return from_files(name)
    try:
        task = mteb.get_task(name, hf_subsets=[ENGLISH[name]] if name in ENGLISH else None)
    except KeyError as error:
        raise ValueError(f"mteb has no such task: {error.args[0].removeprefix('KeyError: ')}") from None
    return task.filter_eval_splits([next(iter(task.eval_splits))])


def _too_large(task: AbsTask, largest: int) -> str:
    """Return why a task is too large, by mteb's own statistics of it, or ""."""
    (split,), stats = task.eval_splits, task.metadata.descriptive_stats or {}
    found = stats.get(split, {})
    texts = found.get("hf_subset_descriptive_stats", {}).get(task.hf_subsets[0], found).get("num_samples", 0)
    return f"it has {texts:,} texts, and the parameter 'largest' allows {largest:,}" if 0 < largest < texts else ""


def _closed() -> str:
    """Return why the hub cannot be asked; "" if it can, or if only its cache is to be looked at (HF_HUB_OFFLINE)."""
    try:
        if not hub.HF_HUB_OFFLINE:
            requests.head(hub.ENDPOINT, timeout=HUB_SECONDS)
    except requests.RequestException as error:
        return f"the hub cannot be reached ({type(error).__name__})"
    return ""


def _failure(task: AbsTask) -> str:
    """Load a task's texts from the hub; return why that failed, or ""."""
    try:
        task.load_data()
    except Exception as error:  # a loader of others over a network can fail in any way; the book says that it did
        return f"{task.metadata.dataset['path']} could not be read from the hub ({type(error).__name__})"
    return ""
