"""mteb's own tasks on our files: the same numbers as its own, no text lost, no leak, no wait for a network that is not there."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import mteb
import numpy as np
import polars as pl
import pytest
import requests
import tiny
import yaml
from mteb.abstasks import AbsTaskRetrieval
from mteb.types import PromptType
from scipy.stats import spearmanr

from cardioembed_lib import encoder as encoders
from cardioembed_lib import files, metrics, models
from cardioembed_study import embeddings, paths
from cardioembed_study.corpus import manifests
from cardioembed_study.forgetting import changes, mteb_models, mteb_tasks, target
from cardioembed_study.forgetting.mteb_models import Model, Outcome
from cardioembed_study.retrieval import pools

PASSAGES = [
    *("the heart pumps blood through arteries", "a valve opens", "the pulse of the patient", "rhythm failure"),
    *("a walk in the garden", "veins and arteries", "pain after exercise", "the atrium", "a stent in the ventricle"),
    *("murmur", "blood pressure had failure", "the patient is in pain", "a garden of veins", "valve closes"),
]
QUERIES = ["heart blood", "pulse", "exercise pain", "stent", "a murmur of the valve", "walk"]
DOCUMENTS = [
    *({"id": "d1", "title": "the heart", "text": "pumps blood"}, {"id": "d2", "title": "", "text": "a walk"}),
    *({"id": "d3", "title": "veins ", "text": " and arteries"}, {"id": "d4", "title": "pain", "text": "of a patient"}),
]
ASKED = {"q1": "heart blood", "q2": "a garden walk"}
RIGHT = {"q1": {"d1": 2, "d3": 1}, "q2": {"d2": 1}}
MIRROR = Path(os.environ.get("CARDIOEMBED_MIRROR", paths.ROOT.parent / "shared" / "data"))


@pytest.fixture
def own():
    """A retrieval task of ours: six queries, fourteen passages."""
    gold = np.array([0, 2, 6, 8, 9, 4])
    return pools.Task("own", QUERIES, PASSAGES, gold, ["one", "one", "two", "two", "two", "three"])


@pytest.fixture
def small():
    """SciFact with four documents and two queries."""
    return mteb_tasks.filled(mteb.get_task("SciFact"), "test", DOCUMENTS, ASKED, RIGHT, "https://example.org", "r1")


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """BIOSSES with five pairs, from a file and a manifest in a folder."""
    rows = [("pain", "a pain", 4), ("veins", "arteries", 3.5), ("the heart", "a valve", 2), ("walk", "murmur", 0)]
    rows.append(("blood pressure", "the pulse", 2))
    lines = ["sentence1\tsentence2\tmean", *("\t".join(map(str, row)) for row in rows)]
    shelf(tmp_path, monkeypatch, "biosses", {"pairs.tsv": "\n".join(lines)}, format="pairs", expect={"pairs": 5})
    return mteb_tasks.from_files("BIOSSES")


def shelf(home, monkeypatch, name, texts, **fields):
    """Write the files and the manifest of a benchmark into a folder that stands for data_manifests."""
    for path, text in texts.items():
        (home / name / path).parent.mkdir(parents=True, exist_ok=True)
        (home / name / path).write_text(text, encoding="utf-8")
    (home / "data_manifests" / "benchmarks").mkdir(parents=True, exist_ok=True)
    manifest = {"name": name, "title": "A benchmark", "role": "benchmark", "path": str(home / name)}
    manifest |= {"licence": "CC0-1.0", "access": "open", "format": "beir", **fields}
    (home / "data_manifests" / "benchmarks" / f"{name}.yaml").write_text(yaml.safe_dump(manifest))
    monkeypatch.setattr(paths, "MANIFESTS", home / "data_manifests")
    monkeypatch.delenv("CARDIOEMBED_MIRROR", raising=False)


def beir(**qrels):
    """Return the files of DOCUMENTS and ASKED in BEIR's form, and a third query that nobody judged."""
    texts = {"q0": "murmur", **ASKED}
    files = {
        "corpus.jsonl": "".join(
            json.dumps({"_id": d["id"], "title": d["title"], "text": d["text"]}) + "\n" for d in DOCUMENTS
        ),
        "queries.jsonl": "".join(json.dumps({"_id": q, "text": text}) + "\n" for q, text in texts.items()),
    }
    header = "query-id\tcorpus-id\tscore\n"
    return files | {f"qrels/{split}.tsv": header + lines for split, lines in qrels.items()}


def model(encoder, folder):
    return Model(encoder, "cardioembed/tiny", folder / "embeddings")


# ---- the same numbers


def test_our_task_in_mtebs_form_has_the_score_that_we_give_it(own, tiny_bert, tmp_path):
    encoder = tiny_bert()
    ranks = pools.evaluate(own, encoder).ranks
    task = mteb_tasks.from_corpus(own)
    outcome = mteb_models.evaluate(model(encoder, tmp_path), {"own": task})["own"]
    assert outcome.scores["main_score"] == pytest.approx(metrics.ndcg_at(ranks, 10), abs=1e-5)
    np.testing.assert_allclose(outcome.values, np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0), atol=1e-6)
    assert 0.2 < outcome.scores["main_score"] < 1 and set(ranks) != {1}
    assert outcome.clusters == ("one", "one", "two", "two", "two", "three")
    assert mteb_tasks.counts(task) == {"queries": 6, "documents": 14}


def test_a_value_a_query_is_what_mteb_averages_with_graded_judgements_too(small, tiny_bert, tmp_path):
    encoder = tiny_bert(seed=3)
    outcome = mteb_models.evaluate(model(encoder, tmp_path), {"SciFact": small})["SciFact"]
    texts = ["the heart pumps blood", "a walk", "veins   and arteries", "pain of a patient"]
    similarities = encoders.encode(encoder, list(ASKED.values())) @ encoders.encode(encoder, texts).T
    ours = metrics.ndcg(similarities, [[2, 0, 1, 0], [0, 1, 0, 0]], 10)
    np.testing.assert_allclose(outcome.values, ours, atol=1e-6)
    assert outcome.scores["main_score"] == pytest.approx(ours.mean(), abs=1e-5)


def test_a_query_that_is_a_document_too_does_not_find_itself_where_mteb_says_so(tiny_bert, tmp_path):
    documents = [{"id": i, "title": "", "text": text} for i, text in enumerate(PASSAGES[:5])]
    documents = [d | {"id": f"x{d['id']}"} for d in documents]
    asked = {"x0": PASSAGES[0], "x1": PASSAGES[1]}
    task = mteb_tasks.filled(
        mteb.get_task("ArguAna"), "test", documents, asked, {"x0": {"x2": 1}, "x1": {"x3": 1}}, "a", "b"
    )
    outcome = mteb_models.evaluate(model(tiny_bert(), tmp_path), {"ArguAna": task})["ArguAna"]
    assert task.ignore_identical_ids
    assert outcome.values.mean() == pytest.approx(outcome.scores["main_score"], abs=1e-5)


def test_pairs_are_correlated_as_scipy_does(pairs, tiny_bert, tmp_path):
    encoder = tiny_bert()
    outcome = mteb_models.evaluate(model(encoder, tmp_path), {"BIOSSES": pairs})["BIOSSES"]
    sides = [encoders.encode(encoder, list(pairs.dataset["test"][side])) for side in ("sentence1", "sentence2")]
    cosines = (sides[0] * sides[1]).sum(axis=1)
    np.testing.assert_allclose(outcome.values, cosines, atol=1e-6)
    assert outcome.judged.tolist() == [4, 3.5, 2, 0, 2]
    assert outcome.scores["main_score"] == pytest.approx(spearmanr(cosines, [4, 3.5, 2, 0, 2])[0])
    assert outcome.scores["main_score"] == pytest.approx(float(changes.spearman(outcome.values, outcome.judged)))
    assert mteb_tasks.counts(pairs) == {"pairs": 5}


def test_a_task_with_another_main_score_has_no_value_a_query(small, tiny_bert, tmp_path):
    other = small.metadata.model_copy(update={"main_score": "map_at_1000"})
    small.metadata = other
    outcome = mteb_models.evaluate(model(tiny_bert(), tmp_path), {"SciFact": small})["SciFact"]
    assert outcome.values is None and outcome.scores["main_score"] != outcome.scores["ndcg_at_10"]
    assert changes.measures(outcome, seed=17) == outcome.scores


# ---- what the model is given


class Heard:
    """Stands for ``encoder.cached``: remembers prompts and texts, gives any vectors."""

    def __init__(self, monkeypatch):
        self.heard = []
        monkeypatch.setattr(embeddings, "cached", self)

    def __call__(self, folder, encoder, texts, *, prompt="", progress=False):
        self.heard.append((prompt, list(texts)))
        return np.random.default_rng(len(self.heard)).random((len(texts), 4), dtype=np.float32)


def test_title_and_text_are_joined_as_mteb_does_and_each_side_has_its_prompt(
    small, pairs, tiny_bert, tmp_path, monkeypatch
):
    spoken = replace(tiny_bert(), prompts={"query": "ask: ", "document": "read: ", "symmetric": "like: "})
    heard = Heard(monkeypatch)
    mteb_models.evaluate(model(spoken, tmp_path), {"SciFact": small, "BIOSSES": pairs})
    documents = ["the heart pumps blood", "a walk", "veins   and arteries", "pain of a patient"]
    assert heard.heard[:2] == [("ask: ", list(ASKED.values())), ("read: ", documents)]
    assert [prompt for prompt, _ in heard.heard[2:]] == ["like: ", "like: "]
    assert heard.heard[2][1][:2] == ["pain", "veins"] and heard.heard[3][1][:2] == ["a pain", "arteries"]


def test_a_model_without_a_prompt_for_pairs_gets_none(pairs, tiny_bert, tmp_path, monkeypatch):
    heard = Heard(monkeypatch)
    mteb_models.evaluate(
        model(replace(tiny_bert(), prompts={"query": "ask: ", "document": ""}), tmp_path), {"B": pairs}
    )
    assert {prompt for prompt, _ in heard.heard} == {""}


def test_a_text_without_a_word_is_near_nothing(tiny_bert, tmp_path):
    one = model(tiny_bert(), tmp_path)
    batches = [{"text": ["pain", " "]}, {"text": ["", "veins"]}]
    vectors = one.encode(batches, prompt_type=PromptType.document)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 0, 1], atol=1e-6)
    assert one.similarity(vectors, vectors)[0].tolist()[1:3] == [0, 0]
    np.testing.assert_allclose(one.similarity_pairwise(vectors, vectors), [1, 0, 0, 1], atol=1e-6)


def test_equal_texts_tie_to_the_last_bit_wherever_they_stand(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "SHARD", 2)
    texts = ["pain", "the heart pumps blood through arteries", "veins", "a pulse", "pain", "", "the heart", "pain"]
    vectors = model(tiny_bert(), tmp_path).encode([{"text": texts}], prompt_type=PromptType.document)
    assert np.array_equal(vectors[0], vectors[4]) and np.array_equal(vectors[0], vectors[7])
    np.testing.assert_allclose(vectors[6], encoders.encode(tiny_bert(), ["the heart"])[0], atol=1e-5)
    assert not vectors[5].any() and len(list((tmp_path / "embeddings").iterdir())) == 3


def test_a_second_evaluation_embeds_nothing(small, tiny_bert, tmp_path, monkeypatch):
    first = mteb_models.evaluate(model(tiny_bert(), tmp_path), {"SciFact": small})
    monkeypatch.setattr(encoders, "encode", lambda *_, **__: pytest.fail("embedded again"))
    again = mteb_models.evaluate(model(tiny_bert(), tmp_path), {"SciFact": small})
    assert again["SciFact"].scores == first["SciFact"].scores


# ---- mteb's own files


def test_result_files_are_mtebs_equal_twice_and_those_of_older_weights_go(small, tiny_bert, tmp_path):
    results = tmp_path / "mteb"
    mteb_models.evaluate(model(tiny_bert(seed=9), tmp_path), {"SciFact": small}, results)
    written = []
    for _ in range(2):
        mteb_models.evaluate(model(tiny_bert(), tmp_path), {"SciFact": small}, results)
        written.append({f.relative_to(results).as_posix(): f.read_bytes() for f in results.rglob("*") if f.is_file()})
    assert written[0] == written[1]
    (folder,) = (results / "results" / "cardioembed__tiny").iterdir()
    assert {f.name for f in folder.iterdir()} == {"SciFact.json", "model_meta.json", "run_settings.jsonl"}
    read = mteb.TaskResult.from_disk(folder / "SciFact.json")
    assert read.task_name == "SciFact" and read.dataset_revision == "r1" and 0 <= read.get_score() <= 1
    assert str(tmp_path) not in b"".join(written[0].values()).decode()


# ---- files and manifests


def test_a_split_is_its_judged_queries_and_the_revision_is_the_manifests(tmp_path, monkeypatch):
    files = beir(test="q1\td1\t2\nq1\td3\t1\nq2\td2\t1\n", train="q0\td4\t1\n")
    expect = {"documents": 4, "queries": 3, "test_queries": 2, "test_judgements": 3, "train_judgements": 1}
    fields = {"source": "https://example.org/s", "revision": "v1", "expect": expect}
    shelf(tmp_path, monkeypatch, "scifact", files, **fields)
    task = mteb_tasks.from_files("SciFact")
    data = task.dataset["default"]["test"]
    assert list(data["queries"]["id"]) == ["q1", "q2"] and data["relevant_docs"] == RIGHT
    assert task.metadata.dataset == {"path": "https://example.org/s", "revision": "v1"}
    assert list(mteb_tasks.from_files("SciFact", "train").dataset["default"]["train"]["queries"]["text"]) == ["murmur"]
    with pytest.raises(ValueError, match="SciFact has no split 'dev' among its files; choose one of test, train"):
        mteb_tasks.from_files("SciFact", "dev")
    assert [file.name for file in mteb_tasks.inputs({"SciFact": task, "CorpusDefinitions": task})] == ["scifact.yaml"]
    shelf(tmp_path, monkeypatch, "scifact", files, **fields | {"expect": {"test_judgements": 4}})
    with pytest.raises(ValueError, match="scifact: test_judgements: found 3, expected 4"):
        mteb_tasks.from_files("SciFact")


def test_pairs_have_one_split(pairs):
    with pytest.raises(ValueError, match="BIOSSES has no split 'dev' among its files; choose test"):
        mteb_tasks.from_files("BIOSSES", "dev")


@pytest.mark.parametrize("name", ["SciFact", "NFCorpus"])
def test_the_texts_of_the_mirror_are_those_that_mteb_counts(name, monkeypatch):
    if not (MIRROR / name.lower()).is_dir():
        pytest.skip(f"no {name.lower()} in {MIRROR}; set CARDIOEMBED_MIRROR to a folder that has it")
    monkeypatch.setenv("CARDIOEMBED_MIRROR", str(MIRROR))
    task = mteb_tasks.from_files(name)
    data, stats = task.dataset["default"]["test"], task.metadata.descriptive_stats["test"]
    assert mteb_tasks.counts(task) == {"queries": stats["num_queries"], "documents": stats["num_documents"]}
    found = sum(
        len(f"{title} {text}".strip())
        for title, text in zip(*(data["corpus"][side] for side in ("title", "text")), strict=True)
    )
    assert found == stats["documents_text_statistics"]["total_text_length"]
    assert sum(map(len, data["queries"]["text"])) == stats["queries_text_statistics"]["total_text_length"]
    judged = sum(map(len, data["relevant_docs"].values()))
    assert judged == stats["relevant_docs_statistics"]["num_relevant_docs"]


# ---- what cannot be asked


def test_without_a_network_every_task_of_the_hub_says_so_after_one_question(own, monkeypatch):
    def refuse(*_, **__):
        asked.append(1)
        raise requests.ConnectionError

    asked = []
    monkeypatch.setattr(mteb_tasks.hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(requests, "head", refuse)
    monkeypatch.setattr(manifests, "fetch", lambda _: (_ for _ in ()).throw(FileNotFoundError("not here")))
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited for a network that is not there"))
    names = ["CorpusDefinitions", "SciFact", "ArguAna", "MedicalQARetrieval", "PublicHealthQA", "TRECCOVID", "CUREv1"]
    found, missing = mteb_tasks.gather(names, mteb_tasks.from_corpus(own), largest=20_000)
    assert asked == [1]
    assert list(found) == ["CorpusDefinitions"]
    assert missing == {
        "SciFact": "the files of manifest scifact are not here, and the hub cannot be reached (ConnectionError)",
        **dict.fromkeys(
            ["ArguAna", "MedicalQARetrieval", "PublicHealthQA"], "the hub cannot be reached (ConnectionError)"
        ),
        "TRECCOVID": "it has 171,382 texts, and the parameter 'largest' allows 20,000",
        "CUREv1": "it has 246,600 texts, and the parameter 'largest' allows 20,000",
    }


def test_a_hub_that_is_switched_off_is_asked_for_what_its_cache_has(own, monkeypatch, tmp_path):
    monkeypatch.setattr(mteb_tasks.hub, "HF_HUB_OFFLINE", True)
    _, missing = mteb_tasks.gather(["ArguAna"], mteb_tasks.from_corpus(own))
    assert missing == {"ArguAna": "mteb/arguana could not be read from the hub (ConnectionError)"}


def test_a_task_of_the_hub_is_one_split_and_one_language(own, small, monkeypatch):
    def load(self, **_):
        self.dataset, self.data_loaded = {self.hf_subsets[0]: small.dataset["default"]}, True

    monkeypatch.setattr(mteb_tasks, "_closed", lambda: "")
    monkeypatch.setattr(mteb.get_task("PublicHealthQA").__class__, "load_data", load)
    found, missing = mteb_tasks.gather(["PublicHealthQA"], mteb_tasks.from_corpus(own))
    assert missing == {} and found["PublicHealthQA"].hf_subsets == ["english"]
    assert mteb_tasks.counts(found["PublicHealthQA"]) == {"queries": 2, "documents": 4}
    assert mteb_tasks.inputs(found) == []


def test_a_task_that_mteb_does_not_know_is_an_error_with_the_near_miss(own):
    with pytest.raises(ValueError, match=r"mteb has no such task: 'ArguAnna' not found\. Did you mean: 'ArguAna'"):
        mteb_tasks.gather(["ArguAnna"], mteb_tasks.from_corpus(own))


def test_a_changed_file_is_an_error_and_no_reason(own, tmp_path, monkeypatch):
    shelf(tmp_path, monkeypatch, "scifact", beir(test="q1\td1\t2\n"), files="scifact.sha256")
    manifests.seal("scifact")
    (tmp_path / "scifact" / "corpus.jsonl").write_text("{}")
    with pytest.raises(ValueError, match=r"corpus\.jsonl in .*: sha256 is"):
        mteb_tasks.gather(["SciFact"], mteb_tasks.from_corpus(own))


# ---- leaks


def test_a_run_is_not_asked_what_it_was_trained_on(tmp_path):
    for room, name, sources in [("pairs", "question", ["primer", "medquad"]), ("corpus", "passages", ["primer"])]:
        with files.replacing(tmp_path / room / f"{name}.parquet") as aside:
            pl.DataFrame({"source": sources}).write_parquet(aside)
    record = {"inputs": {"question.parquet": "sha256:1", "passages.parquet": "sha256:2", "adapter": "sha256:3"}}
    sources = mteb_models.trained_on(record, tmp_path)
    assert sources == {"primer", "medquad"}
    mteb_models.refuse_leaks({"a": sources}, ["SciFact", "CorpusDefinitions"])
    message = "run b was trained on medquad, from which MedicalQARetrieval is drawn; leave out the one or the other"
    with pytest.raises(ValueError, match=message):
        mteb_models.refuse_leaks({"a": {"primer"}, "b": sources}, ["SciFact", "MedicalQARetrieval"])
    with pytest.raises(FileNotFoundError, match=r"pairs/heading.parquet is missing; run notebooks/01_corpus.ipynb"):
        mteb_models.trained_on({"inputs": {"heading.parquet": ""}}, tmp_path)
    (tmp_path / "pairs" / "question.parquet").write_bytes((tmp_path / "corpus" / "passages.parquet").read_bytes())
    with pytest.raises(
        ValueError, match=r"pairs/question.parquet: sha256 is .*; run notebooks/01_corpus.ipynb .* again"
    ):
        mteb_models.trained_on(record, tmp_path)


# ---- subsets and curves


@pytest.fixture
def larger():
    """NFCorpus with forty documents, ten queries and three right documents each."""
    documents = [{"id": f"d{i:02}", "title": "", "text": f"{PASSAGES[i % 14]} {PASSAGES[i % 9]}"} for i in range(40)]
    asked = {f"q{i}": f"{QUERIES[i % 6]} {PASSAGES[i]}" for i in range(10)}
    right = {f"q{i}": {f"d{3 * i + j:02}": 2 if j else 1 for j in range(3)} for i in range(10)}
    return mteb_tasks.filled(mteb.get_task("NFCorpus"), "dev", documents, asked, right, "https://example.org", "r1")


def test_a_subset_keeps_the_best_answers_of_its_queries_and_judges_only_what_is_in_its_pool(larger):
    part = changes.subset(larger, documents=12, queries=4, seed=17)
    data = part.dataset["default"]["dev"]
    pool = set(data["corpus"]["id"])
    assert len(pool) == 12 and len(data["queries"]) == 4 == len(data["relevant_docs"])
    for query, right in data["relevant_docs"].items():
        first = 3 * int(query[1:])
        assert {f"d{first + 1:02}", f"d{first + 2:02}"} <= set(right) <= pool
    again = changes.subset(larger, documents=12, queries=4, seed=17).dataset["default"]["dev"]
    assert list(again["corpus"]["id"]) == list(data["corpus"]["id"])
    other = changes.subset(larger, documents=12, queries=4, seed=18).dataset["default"]["dev"]
    assert list(other["queries"]["id"]) != list(data["queries"]["id"])
    assert part.metadata.dataset["revision"] == "r1-12-4-17" and len(larger.dataset["default"]["dev"]["corpus"]) == 40
    with pytest.raises(ValueError, match="10 queries have 20 right documents, the pool holds 19; draw fewer"):
        changes.subset(larger, documents=19, queries=10, seed=17)


def test_development_never_touches_a_test_split(tmp_path, monkeypatch):
    files = beir(test="q1\td1\t2\n", train="q0\td4\t1\nq2\td2\t1\n")
    shelf(tmp_path, monkeypatch, "scifact", files)
    parts = changes.development(["SciFact", "BIOSSES"], seed=17)
    assert list(parts) == ["SciFact_train"]
    assert set(parts["SciFact_train"].dataset["default"]["train"]["queries"]["id"]) == {"q0", "q2"}
    assert "test" not in parts["SciFact_train"].dataset["default"]
    assert changes.development(["CorpusDefinitions"], seed=17) == {}
    assert set(mteb_tasks.DEVELOPMENT.values()) & {"test"} == set()


def test_a_merge_curve_goes_from_the_base_to_the_tuned_model(own, larger, tiny_bert, tmp_path, monkeypatch):
    loaded = []

    def load(name, *, adapter, weight):
        loaded.append((name, adapter, weight))
        return replace(tiny_bert(seed=int(weight == 1)), revision=f"share {weight == 1}")

    monkeypatch.setattr(models, "load", load)
    found = changes.curve("base", Path("adapter"), own, {"NFCorpus_dev": larger}, tmp_path)
    assert [weight for _, _, weight in loaded] == found["weight"] == [0, 0.5, 0.75, 1, 1.25, 1.5]
    assert found["corpus_dev_mrr"][0] == pytest.approx(pools.dev_mrr(own, tiny_bert()))
    assert found["corpus_dev_mrr"][3] == pytest.approx(pools.dev_mrr(own, tiny_bert(seed=1)))
    assert found["NFCorpus_dev"][0] == found["NFCorpus_dev"][5] != found["NFCorpus_dev"][3]


def test_the_choice_is_the_best_on_dev_of_those_that_keep_every_benchmark():
    weights = {"weight": [0.0, 1.0, 1.5]}
    first = weights | {"corpus_dev_mrr": [0.6, 0.7, 0.9], "SciFact_train": [0.5, 0.496, 0.494]}
    second = weights | {"corpus_dev_mrr": [0.6, 0.69, 0.71], "SciFact_train": [0.5, 0.6, 0.4951]}
    found = target.choice({"a": first, "b": second})
    assert (found["run"], found["weight"]) == ("b", 1.5)
    assert (found["gain"], found["worst_loss"]) == pytest.approx((0.11, 0.0049))
    lost = weights | {"corpus_dev_mrr": [0.6, 0.7, 0.9], "SciFact_train": [0.5, 0.4, 0.3]}
    assert target.choice({"a": lost})["weight"] == 0.0
    assert target.choice({}) == {}


# ---- gain and loss


@pytest.mark.parametrize("seed", range(5))
def test_the_correlation_is_scipys_with_equal_values_too(seed):
    draw = np.random.default_rng(seed)
    values, judged = draw.integers(0, 5, (3, 20)).astype(float), draw.integers(0, 4, 20).astype(float)
    wanted = [spearmanr(row, judged)[0] for row in values]
    np.testing.assert_allclose(changes.spearman(values, judged), wanted, atol=1e-12)
    assert changes.spearman(np.ones(5), np.arange(5.0)) == 0


def test_a_change_of_correlation_is_nothing_for_the_same_model_and_sure_for_a_scrambled_one():
    draw = np.random.default_rng(0)
    judged = np.arange(100.0)
    base = judged + draw.normal(0, 10, 100)
    same = changes.correlation_difference([base, base], base, judged, seed=17, n=500)
    assert same == {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    worse = changes.correlation_difference([draw.permutation(base)], base, judged, seed=17, n=500)
    assert worse["low"] < worse["difference"] < worse["high"] < 0 and worse["p"] == 2 / 501
    near = changes.correlation_difference([base + draw.normal(0, 1, 100)], base, judged, seed=17, n=500)
    assert near["low"] < 0 < near["high"] and near["p"] > 0.05


def test_tuned_against_base_by_hand():
    base = {"R": Outcome({}, np.array([1.0, 0.0, 0.5])), "C": Outcome({"main_score": 0.3})}
    runs = [np.array([1.0, 0.5, 0.5]), np.array([1.0, 1.0, 0.2])]
    outcomes = {"base": base} | {
        f"s{i}": {"R": Outcome({}, v), "C": Outcome({"main_score": 0.4})} for i, v in enumerate(runs)
    }
    found = changes.compare(outcomes, "base", ["s0", "s1"], seed=17)
    assert list(found) == ["R"]
    wanted = {"base": 0.5, "tuned": 0.7, "difference": 0.2, "worst_seed": 1 / 6, "best_seed": 0.7 + 1 / 30 - 0.5}
    assert {key: found["R"][key] for key in wanted} == pytest.approx(wanted)
    assert found["R"]["p_holm"] == found["R"]["p"]


def test_pairs_and_queries_stand_side_by_side_and_p_is_for_both():
    draw = np.random.default_rng(1)
    judged = np.arange(50.0)
    good, bad = judged + draw.normal(0, 2, 50), draw.permutation(judged)
    base = {"S": Outcome({}, good, judged), "Q": Outcome({}, np.full(40, 0.5), clusters=("a", "b") * 20)}
    tuned = {"S": Outcome({}, bad, judged), "Q": Outcome({}, np.full(40, 0.5), clusters=("a", "b") * 20)}
    found = changes.compare({"base": base, "t": tuned}, "base", ["t"], seed=17)
    assert found["S"]["difference"] == pytest.approx(spearmanr(bad, judged)[0] - spearmanr(good, judged)[0])
    assert found["S"]["p_holm"] == pytest.approx(2 * found["S"]["p"]) and found["S"]["p_holm"] < 0.01
    assert found["Q"]["difference"] == 0 and found["Q"]["p"] == found["Q"]["p_holm"] == 1
    assert found["S"]["worst_seed"] == found["S"]["best_seed"] == pytest.approx(found["S"]["difference"])


def test_a_score_travels_with_its_interval_where_it_has_one():
    draw = np.random.default_rng(2)
    found = changes.measures(Outcome({"main_score": 0.5}, draw.random(300)), seed=17)
    assert 0.44 < found["low"] < 0.5 < found["high"] < 0.56 and found["main_score"] == 0.5
    whole = changes.measures(Outcome({"main_score": 0.5}, np.array([0.0, 1.0] * 5), clusters=("one",) * 10), seed=17)
    assert whole["low"] == whole["high"] == 0.5
    judged = np.arange(80.0)
    pairs = changes.measures(Outcome({"main_score": 0.9}, judged + draw.normal(0, 8, 80), judged), seed=17)
    assert 0.85 < pairs["low"] < pairs["high"] < 1
    assert changes.measures(Outcome({"main_score": 0.4}), seed=17) == {"main_score": 0.4}


# ---- the truth check


WANTED = {"SciFact": (0.6451, 5e-4), "NFCorpus": (0.3159, 5e-4), "BIOSSES": (0.8125, 1e-3)}


@pytest.mark.parametrize("name", WANTED)
def test_the_base_has_its_official_scores_in_the_records(name):
    """Official (mteb's results): SciFact 0.6451, NFCorpus 0.3159, BIOSSES 0.8164 on a cleaned copy of its sentences."""
    record = json.loads((paths.BOOK / "results" / "open" / "mteb.all-MiniLM-L6-v2.json").read_text())
    score, margin = WANTED[name]
    assert record["metrics"][name]["main_score"] == pytest.approx(score, abs=margin)


@pytest.mark.slow
def test_the_base_has_its_score_here_and_embeds_once(tmp_path, monkeypatch):
    """BIOSSES; the two retrieval tasks take eleven core-minutes, and their scores are those of the committed records."""
    if not (MIRROR / mteb_tasks.FILES["BIOSSES"]).is_dir():
        pytest.skip(f"no {mteb_tasks.FILES['BIOSSES']} in {MIRROR}; set CARDIOEMBED_MIRROR to a folder that has it")
    monkeypatch.setenv("CARDIOEMBED_MIRROR", str(MIRROR))
    asked = {"BIOSSES": mteb_tasks.from_files("BIOSSES")}
    base = models.load(tiny.spec("all-MiniLM-L6-v2"), device="cpu")
    one = Model(base, "sentence-transformers/all-MiniLM-L6-v2", tmp_path / "embeddings")
    first = mteb_models.evaluate(one, asked)["BIOSSES"].scores["main_score"]
    score, margin = WANTED["BIOSSES"]
    assert first == pytest.approx(score, abs=margin)
    monkeypatch.setattr(encoders, "encode", lambda *_, **__: pytest.fail("embedded the same texts again"))
    assert mteb_models.evaluate(one, asked)["BIOSSES"].scores["main_score"] == first


def test_mtebs_form_is_what_the_tasks_are_in():
    assert issubclass(mteb_tasks.CorpusDefinitions, AbsTaskRetrieval)
    assert set(mteb_tasks.DEVELOPMENT) <= set(mteb_tasks.FILES) <= set(mteb_models.DRAWN_FROM)
