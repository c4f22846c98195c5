"""The card of a published adapter says what the records say: the hub reads its head, a person what got worse."""

import json
import re
import shutil

import pytest
import toy_tree
from huggingface_hub import ModelCard

from cardioembed_study import paths, settings
from cardioembed_study.corpus import manifests
from cardioembed_study.retrieval.tables import TASKS
from cardioembed_study.workflow import cards

RESULTS = paths.BOOK / "results" / "open"
PUBLISHED = settings.profile("open").adapters
NAME, RUN = next(iter(PUBLISHED.items()))


def read(name):
    """Return a committed record by JSON alone."""
    return json.loads((RESULTS / f"{name}.json").read_text())


@pytest.fixture
def results(tmp_path):
    return shutil.copytree(RESULTS, tmp_path / "results")


def change(results, name, **changes):
    """Write a record anew with other parts, as a notebook would."""
    file = results / f"{name}.json"
    file.write_text(toy_tree.record(name, file.read_text(), **changes))


def bullets(text, section):
    return re.findall(r"^- (.+)$", text.split(f"## {section}\n")[1].split("\n## ")[0], re.M)


def test_adapters_holds_what_the_profile_names_and_nothing_else():
    assert {folder.name for folder in paths.ADAPTERS.iterdir()} == set(PUBLISHED)
    for name, run in PUBLISHED.items():
        recipe = read(f"train.{run}")["params"]["recipe"]
        assert read(f"comparison.{recipe}")["params"]["runs"][0] == run, f"{name}: not the first seed"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_committed_card_is_the_one_made_of_the_committed_records(name, tmp_path):
    made = cards.write(tmp_path, name, PUBLISHED[name], RESULTS).read_bytes()
    assert made == (paths.ADAPTERS / name / "README.md").read_bytes(), "write it anew: `make publish`, or cards.write"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_hub_reads_the_scores_of_the_records(name):
    card, run = ModelCard.load(paths.ADAPTERS / name / "README.md"), PUBLISHED[name]
    asked, mteb = read(f"retrieval.{run}")["metrics"], read(f"mteb.{run}")["metrics"]
    told = {
        (
            r.dataset_type if r.task_type == "information-retrieval" else r.dataset_name[5:],
            r.metric_type,
        ): r.metric_value
        for r in card.data.eval_results
    }
    wanted = {(task, key): m[key] for task, m in asked.items() for key in ("mrr", "acc_at_1", "ndcg_at_10")}
    wanted |= {(task, key): value for task, m in mteb.items() for key, value in m.items() if key not in ("low", "high")}
    assert told == wanted and len(told) > 20
    data = card.data.to_dict()
    config = json.loads((paths.ADAPTERS / name / "adapter_config.json").read_text())
    assert data["base_model"] == config["base_model_name_or_path"] and data["base_model_relation"] == "adapter"
    assert (data["license"], data["language"], data["library_name"]) == ("apache-2.0", "en", "sentence-transformers")
    texts = [text for text in read("corpus.all")["params"]["read"].values() if text["role"] == "corpus"]
    assert data["training_texts"] == [f"{text['title']}, {text['licence']}" for text in texts]
    assert all(text["title"] in "".join(bullets(card.text, "Licences")) for text in texts)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_card_tells_every_task_and_what_got_worse(name):
    text, run = (paths.ADAPTERS / name / "README.md").read_text(), PUBLISHED[name]
    recipe, worse = read(f"train.{run}")["params"]["recipe"], []
    for kind, own in (("comparison", f"retrieval.{run}"), ("forgetting", f"mteb.{run}")):
        record = read(f"{kind}.{recipe}")
        for task, m in record["metrics"].items():
            score = read(own)["metrics"][task]["mrr" if kind == "comparison" else "main_score"]
            numbers = (
                f"| {m['difference']:+.3f} | {m['low']:+.3f} to {m['high']:+.3f} | {len(record['params']['runs'])} |"
            )
            (line,) = (line for line in text.splitlines() if line.startswith(f"| {TASKS.get(task, task)} |"))
            assert line.endswith(f"{numbers} {score:.3f} |")
            worse += [TASKS.get(task, task)] * (m["high"] < 0)
    assert [line.split(":")[0] for line in bullets(text, "What got worse")] == worse


def test_nothing_worse_and_documents_are_told_where_the_records_have_them(results, tmp_path):
    for name in ("comparison.tuned", "forgetting.tuned"):
        metrics = {task: m | {"high": 0.0} for task, m in read(name)["metrics"].items()}
        change(results, name, metrics=metrics)
    counts = read("retrieval.all-MiniLM-L6-v2")["counts"]
    change(results, "retrieval.all-MiniLM-L6-v2", counts={task: n | {"documents": 5} for task, n in counts.items()})
    text = cards.write(tmp_path, NAME, RUN, results).read_text()
    assert "On no task does the whole interval lie below 0." in text and bullets(text, "What got worse") == []
    assert "| held-out cardiology definitions | MRR | 177 | 5 |" in text and "| SciFact | nDCG@10 | 300 |  |" in text
    assert "177 queries from 5 documents" in text


def test_the_card_of_an_adapter_that_learnt_from_a_private_text_names_it_and_gives_no_leave(
    results, tmp_path, monkeypatch
):
    load, read_ = manifests.load, read("corpus.all")["params"]["read"]
    private, text = next((name, text) for name, text in read_.items() if text["role"] == "corpus")
    changes = {"access": "private", "attribution": ""}
    monkeypatch.setattr(
        manifests, "load", lambda name: load(name).model_copy(update=changes if name == private else {})
    )
    card = ModelCard.load(cards.write(tmp_path, NAME, RUN, results))
    assert card.data.license == "other" and "Apache-2.0, as its base" not in card.text
    assert "do not publish it without leave of the rights' holder" in card.text
    assert f"{text['title']}: {text['licence']}" in bullets(card.text, "Licences")


def test_a_card_names_the_kind_of_pairs_that_development_asked(results, tmp_path):
    change(results, f"train.{RUN}", params=read(f"train.{RUN}")["params"] | {"pairs": ["heading", "definition"]})
    text = cards.write(tmp_path, NAME, RUN, results).read_text()
    assert "- MRR on held-out development pairs of kind heading (n = " in text


def test_a_run_that_04_did_not_ask_has_no_score_there(results, tmp_path):
    change(results, "forgetting.tuned", params=read("forgetting.tuned")["params"] | {"runs": ["seed18"]})
    (results / f"mteb.{RUN}.json").unlink()
    card = ModelCard.load(cards.write(tmp_path, NAME, RUN, results))
    assert card.text.count("| not measured |") == len(read("forgetting.tuned")["metrics"])
    assert {result.task_type for result in card.data.eval_results} == {"information-retrieval"}


def test_a_card_without_results_is_refused(results, tmp_path):
    params = read("comparison.tuned")["params"]
    change(results, "comparison.tuned", params=params | {"merge_weight": 0.5})
    with pytest.raises(ValueError, match=rf"adapter '{NAME}': 03_retrieval measured it at merge_weight 0.5, wanted 1"):
        cards.write(tmp_path, NAME, RUN, results)
    change(results, "comparison.tuned", params=params | {"runs": []}, status="not run", metrics={}, reason="none named")
    with pytest.raises(
        ValueError, match=rf"'{NAME}': 03_retrieval did not compare run '{RUN}' with all-MiniLM-L6-v2; add"
    ):
        cards.write(tmp_path, NAME, RUN, results)
    for name, notebook in (("comparison.tuned", "03_retrieval"), (f"train.{RUN}", "02_train")):
        (results / f"{name}.json").unlink()
        with pytest.raises(FileNotFoundError, match=rf"results/{name}.json is missing; run notebooks/{notebook}.ipynb"):
            cards.write(tmp_path, NAME, RUN, results)
    assert not (tmp_path / "README.md").exists()
