"""What does one of our models score on MTEB tasks, and may it be asked them?

mteb's own evaluators score; what is kept here besides is one value a query or pair, for intervals and paired tests.
Shapes: Q queries, P pairs, B texts, D width.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import polars as pl
import pytrec_eval
from mteb.abstasks import AbsTask, AbsTaskRetrieval, AbsTaskSTS
from mteb.models import ModelMeta
from mteb.models.model_meta import ScoringFunction
from mteb.types import PromptType
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from cardioembed_lib.encoder import Encoder
from cardioembed_study import embeddings, paths
from cardioembed_study.forgetting import mteb_tasks

DRAWN_FROM = {"MedicalQARetrieval": "medquad", **mteb_tasks.FILES}  # task to the source that it is a part of
MEANS = ("ndcg_at_10", "cosine_spearman")  # main scores that are made of one value a query or pair
FURTHER = ("ndcg_at_10", "recall_at_10", "mrr_at_10", "cosine_spearman", "cosine_pearson")  # kept beside the main score


@dataclass(frozen=True)
class Model:
    """An encoder in the form that mteb asks for (its ``EncoderProtocol``), with its own prompts, its vectors kept in a folder."""

    encoder: Encoder
    name: str  # with a slash, as on the hub
    cache: Path  # ``embeddings.cached``

    def encode(self, inputs: DataLoader, *, prompt_type: PromptType | None = None, **_: Any) -> NDArray[np.float32]:
        """Return the vectors of a task's texts; that of a text without a word is zero, which is near nothing.

        Equal texts are embedded once, so that they tie exactly, and mteb's order decides: NFCorpus has 40 articles twice,
        and vectors that differ in the last bit, as neighbours in a batch make them, move its score by 0.0007.

        Args:
            inputs: batches with the key ``text``; title and text of a document are already one.
            prompt_type: query or document; ``None`` where both sides are alike: the prompt ``symmetric``, if there is one.

        Returns:
            (B, D) float32, rows of length 1 or 0.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        prompt = self.encoder.prompts.get(prompt_type.value if prompt_type else "symmetric", "")
        rows = {text: row for row, text in enumerate(dict.fromkeys(text for text in texts if text.strip()))}
        known = embeddings.cached(self.cache, self.encoder, list(rows), prompt=prompt, progress=True)
        vectors = np.zeros((len(texts), known.shape[1]), dtype=np.float32)
        for i, text in enumerate(texts):
            vectors[i] = known[rows[text]] if text in rows else 0
        return vectors

    def similarity(self, first: NDArray, second: NDArray) -> NDArray[np.float32]:
        """Return the cosines of each with each: (B, D) and (C, D) give (B, C)."""
        return np.asarray(first) @ np.asarray(second).T

    def similarity_pairwise(self, first: NDArray, second: NDArray) -> NDArray[np.float32]:
        """Return the cosines of each with its own: (B, D) and (B, D) give (B,)."""
        return np.einsum("bd,bd->b", first, second)

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What result files say of the model; its revision is a hash of weights, adapter and share of the adapter."""
        revision = hashlib.sha256(self.encoder.revision.encode()).hexdigest()[:24]
        told = {
            "max_tokens": self.encoder.max_length,
            "similarity_fn_name": ScoringFunction.COSINE,
            "framework": ["PyTorch"],
        }
        return ModelMeta.create_empty(told | {"name": self.name, "revision": revision})


@dataclass(frozen=True)
class Outcome:
    """What a model made of an MTEB task."""

    scores: dict[str, float]  # mteb's: ``main_score`` and those of FURTHER that the task has
    values: NDArray[np.float64] | None = None  # (Q,) nDCG@10 of each query, or (P,) cosine of each pair; else nothing
    judged: NDArray[np.float64] | None = None  # (P,) how alike people found each pair
    clusters: tuple[str, ...] | None = None  # (Q,) the documents that the queries come from, where that is known


def evaluate(model: Model, asked: Mapping[str, AbsTask], results: Path | None = None) -> dict[str, Outcome]:
    """Return what a model makes of some tasks, by mteb's own evaluators.

    Args:
        model: the model.
        asked: tasks with their texts, each with one split and one language (``mteb_tasks``).
        results: folder for mteb's result files, in mteb's own order (``results/<model>/<revision>/<task>.json``), without
            the times that no second run repeats; what it has of this model is replaced. ``None`` writes none.
    """
    meta, outcomes = model.mteb_model_meta, {}
    if results is not None:
        shutil.rmtree(results / "results" / meta.model_name_as_path(), ignore_errors=True)
    for name, task in asked.items():
        with tempfile.TemporaryDirectory() as folder:
            found = mteb.evaluate(
                model, task, cache=None, prediction_folder=folder, co2_tracker=False, show_progress_bar=False
            )
            (result,) = found.task_results
            file = Path(folder, task.prediction_file_name)
            predicted = json.loads(file.read_text(encoding="utf-8")) if task.metadata.main_score in MEANS else {}
        outcomes[name] = _outcome(task, result.scores, predicted)
        if results is not None:
            plain = result.model_copy(update={"evaluation_time": None, "date": None, "evaluation_phases": None})
            mteb.ResultCache(results).save_to_cache(plain, meta)
    return outcomes


def trained_on(record: Mapping, folder: Path) -> set[str]:
    """Return the sources of all texts that a training run read.

    Args:
        record: ``train.<run>``; its inputs name the files.
        folder: of the profile, which holds them in ``pairs/`` and ``corpus/``.

    Raises:
        FileNotFoundError: a file is no longer there.
        ValueError: it is not what was written (``paths.need``).
    """
    sources: set[str] = set()
    for name in (name for name in record["inputs"] if name.endswith(".parquet")):
        room = "corpus" if name == "passages.parquet" else "pairs"
        file = paths.need(folder / room / name, "01_corpus")
        sources |= set(pl.scan_parquet(file).select("source").unique().collect()["source"])
    return sources


def refuse_leaks(trained: Mapping[str, set[str]], names: Iterable[str]) -> None:
    """Refuse to ask a run what it was trained on.

    Args:
        trained: for each run its sources (``trained_on``).
        names: of the tasks that are to be asked.

    Raises:
        ValueError: naming run, task and source.

    >>> refuse_leaks({"seed17": {"openstax_nutrition"}}, ["MedicalQARetrieval"])
    """
    for run, sources in trained.items():
        for name in names:
            if DRAWN_FROM.get(name) in sources:
                raise ValueError(
                    f"run {run} was trained on {DRAWN_FROM[name]}, from which {name} is drawn; leave out the one or the other"
                )


def _outcome(task: AbsTask, scores: Mapping[str, list], predicted: Mapping[str, Any]) -> Outcome:
    (split,), subset = task.eval_splits, task.hf_subsets[0]
    (found,) = scores[split]
    kept = {key: float(found[key]) for key in ("main_score", *FURTHER) if key in found}
    if not predicted:
        return Outcome(kept)
    if isinstance(task, AbsTaskSTS):
        judged = task.dataset[split]["score"] if split in task.dataset else task.dataset[subset][split]["score"]
        return Outcome(kept, np.array(predicted[subset][split]["cosine_scores"]), np.array(judged, dtype=np.float64))
    clusters = tuple(getattr(task, "clusters", ())) or None
    return Outcome(kept, _per_query(task, predicted[subset][split]), clusters=clusters)


def _per_query(task: AbsTaskRetrieval, predicted: Mapping[str, Mapping[str, float]]) -> NDArray[np.float64]:
    """Return nDCG@10 of each query in the task's order, as mteb counts it: a query is not its own answer where ids say so."""
    (split,) = task.eval_splits
    data, own = task.dataset[task.hf_subsets[0]][split], task.ignore_identical_ids
    found = {q: {d: s for d, s in near.items() if not (own and d == q)} for q, near in predicted.items()}
    scores = pytrec_eval.RelevanceEvaluator(data["relevant_docs"], {"ndcg_cut.10"}).evaluate(found)
    return np.array([scores[query]["ndcg_cut_10"] for query in data["queries"]["id"]])
