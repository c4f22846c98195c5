"""The study of notes from generated tables to tables and figures, with vectors that one can reason about instead of a model."""

import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits

from cardioembed_lib import statistics
from cardioembed_study import clinical, paths, records, settings
from cardioembed_study.claims import evidence
from cardioembed_study.corpus import manifests
from cardioembed_study.notes import figures, measures
from cardioembed_study.notes import study as note_study
from cardioembed_study.notes import tables as note_tables
from cardioembed_study.retrieval import maps

GIVEN = {"profile": "p", "patients": 12, "notes_per_admission": 6, "split": [0.4, 0.2, 0.4]}
LOSSES = {"plain": "infonce", "hierarchical": "soft_chapter"}
RUNS = list(LOSSES)
TRAINED = {
    "metrics": dict.fromkeys(("dev_mrr_base", "dev_mrr_best", "dev_separation", "adapter_mebibytes"), 0.5)
    | {"dev_mrr_merged": {"1.0": 0.5}, "loss_first": 4.0, "loss_last": 3.0, "loss_floor": 0.0},
    "counts": {"pairs": 9, "dev_queries": 2, "steps": 3, "best_step": 3, "trained_parameters": 22_713_216},
}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        yield


@pytest.fixture(scope="module")
def study(room):
    p = settings.check("01_notes", GIVEN)
    made = note_study.make(p)
    note_study.write(p, made)
    return made


@pytest.fixture(scope="module")
def p():
    return settings.check("05_mimic", {"profile": "p", "runs": RUNS, "codes": 5, "draws": 50})


@pytest.fixture(scope="module")
def found(study, p):
    """Return measures of vectors that know nothing, of vectors that know the patient, and of words."""
    draw = np.random.default_rng(0)
    nothing = draw.normal(size=(len(study.notes), 24))
    patient = study.notes["subject_id"].rank("dense").to_numpy().astype(int) - 1
    knowing = np.eye(patient.max() + 1, 24)[patient] + 0.05 * nothing
    models = {"all-MiniLM-L6-v2": nothing, RUNS[0]: knowing, RUNS[1]: nothing[::-1].copy()}
    with threadpool_limits(1):  # threads of matrices this small only wait for each other
        return {"bm25": measures.lexical(study, p)} | {m: measures.measure(study, v, p) for m, v in models.items()}


@pytest.fixture(scope="module")
def trained(study):
    """Return records of the runs: what they learnt from and with which loss stands in their parameters, not in their names."""
    given = {run: {"loss": loss, "pairs": ["temporal"]} for run, loss in LOSSES.items()}
    where = {run: records.path("p", "train", run) for run in RUNS}
    pairs = [paths.pairs("p", "temporal")]
    whole = {run: {"profile": "p", "run": run} | given[run] for run in RUNS}
    return {run: records.write(where[run], **TRAINED, inputs=pairs, params=whole[run]) for run in RUNS}


@pytest.fixture(scope="module")
def points(study, p):
    """Return a map with two numbers of each vector instead of UMAP's places, which ``test_notes_silhouette`` looks at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "umap_points", lambda vectors, seed: vectors[:, :2])
        return measures.points(study, np.random.default_rng(0).normal(size=(len(study.notes), 5)), "m", p)


@pytest.fixture(scope="module")
def written(study, p, found, trained):
    return measures.write(p, study, found), measures.write_effects(p, study, found)


def test_what_is_made_lies_where_only_its_owner_looks(study):
    folder = paths.restricted("p")
    assert folder.stat().st_mode & 0o777 == 0o700
    made = {
        file.relative_to(paths.artifacts("p")).parts[0] for file in paths.artifacts("p").rglob("*") if file.is_file()
    }
    assert made == {"restricted", "results"}
    assert clinical.access("p") == "open" and clinical.access("never read") == "restricted"


def test_a_patient_is_in_one_split_and_pairs_are_neighbours_in_time(study):
    assert study.notes.group_by("subject_id").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 12
    place = {f"note{note}": i for i, note in enumerate(study.notes["note_id"])}
    for pair in study.pairs.iter_rows(named=True):
        first, second = place[pair["anchor_id"]], place[pair["positive_id"]]
        assert second == first + 1 and study.notes["subject_id"][first] == study.notes["subject_id"][second]
        assert pair["split"] == study.notes["split"][first] and pair["codes"] == study.notes["codes"][first].to_list()
    assert len(study.pairs) == len(study.notes) - 12


def test_the_study_is_read_back_as_it_was_made_and_the_same_seed_makes_it_again(study):
    again = note_study.load("p")
    assert again.notes.equals(study.notes) and again.pairs.equals(study.pairs) and again.source == study.source
    assert note_study.make(settings.check("01_notes", GIVEN)).notes.equals(study.notes)


def test_the_record_of_generated_notes_holds_true_counts(study):
    record = records.read(records.path("p", "notes", "all"))
    counts = record["counts"]
    assert [counts["splits"][split]["patients"] for split in ("train", "dev", "test")] == [5, 2, 5]
    assert counts["tables"]["notes"] == sum(counts["categories"].values()) == len(study.notes)
    by_hand = study.notes.group_by("category").len()
    assert counts["categories"] == dict(by_hand.iter_rows())
    assert record["params"]["generated_notes"] is True


def test_the_demo_keeps_its_own_admissions_and_gets_notes(room, tmp_path, monkeypatch):
    if not (paths.mirror() and (paths.mirror() / "mimic3_demo_v1.4").is_dir()):
        pytest.skip("the demo is not in CARDIOEMBED_MIRROR")
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    demo = note_study.make(settings.check("01_notes", GIVEN | {"source": "mimic3_demo", "patients": 20}))
    assert demo.counts["patients"] == 100 and demo.counts["admissions"] == 129 and demo.counts["diagnoses"] == 1761
    assert demo.notes["subject_id"].n_unique() == 20 and note_study.generated(demo.source)


def test_without_a_source_everything_says_that_it_was_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    p = settings.check("01_notes", GIVEN | {"source": ""})
    assert note_study.make(p) is None
    assert note_study.write(p, None)["status"] == "not run" and note_study.load("p") is None
    asked = settings.check("05_mimic", {"profile": "p"})
    results, effects = measures.write(asked, None, {}), measures.write_effects(asked, None, {})
    assert note_tables.reasons(results)[0]["not run, because"] == note_study.NO_SOURCE
    assert effects["reason"] == note_study.NO_SOURCE and note_tables.effect_rows(effects) == []
    assert set(note_tables.numbers({}, results, effects, {}, asked.base).values()) == {"not run", "none"}
    assert note_tables.recall_rows(results, "unseen") == note_tables.auroc_rows(results) == []
    for figure in (figures.recall_at_k, figures.silhouettes):
        assert len(figure(results)[1]) == 0
    assert len(figures.effects(effects)[1]) == len(figures.auroc_by_code(results, asked.base)[1]) == 0


def test_restricted_notes_are_not_sent_to_a_service_and_not_drawn(study, p, points, written):
    sealed = note_study.Study(manifests.load("mimic3"), study.notes, study.pairs, study.counts)
    asked = p.model_copy(update={"service": "http://127.0.0.1:9/v1", "service_model": "far", "service_key": ""})
    with pytest.raises(ValueError, match="restricted text is never sent to a remote service"):
        measures.vectors(sealed, "far", asked)
    mark = paths.restricted("p") / "access"
    mark.write_text("restricted")  # and a manifest that says "open" by now does not open what was read
    with pytest.raises(ValueError, match="restricted text is never sent to a remote service"):
        measures.vectors(study, "far", asked)
    mark.write_text("open")
    assert (
        list(measures.questions(study)) == ["seen", "unseen"] and measures.questions(sealed) == {}
    )  # of 5 patients each
    for shown, expected in ((study, len(study.notes)), (sealed, 0), (None, 0)):
        measures.write_map(p, shown, [points])
        assert len(figures.points("p")) == expected


def test_recall_is_that_of_a_plain_loop_over_unseen_patients(study, p, found):
    texts = study.notes.with_row_index("row")
    draw = np.random.default_rng(0)
    x = draw.normal(size=(len(study.notes), 24))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    pairs = study.pairs.filter(split="test")
    row = dict(zip(texts["note_id"].map_elements("note{}".format, pl.String), texts["row"], strict=True))
    asked, right = [row[a] for a in pairs["anchor_id"]], [row[b] for b in pairs["positive_id"]]
    hits = {"published": 0, "corrected": 0}
    for q, answer in zip(asked, right, strict=True):
        for form in hits:
            pool = [c for c in set(right) if form == "published" or c != q]
            hits[form] += sum(x[q] @ x[c] >= x[q] @ x[answer] for c in pool) <= 10
    unseen = found["all-MiniLM-L6-v2"].metrics["recall"]["unseen"]
    for form, n in hits.items():
        assert unseen[form]["recall_at_10"] == pytest.approx(n / len(asked))


def test_effects_are_differences_of_the_same_queries(p, study, found, written):
    effects = written[1]["metrics"]
    asked = measures.questions(study)["unseen"]
    ranks = found[RUNS[0]].ranks["unseen"]
    change = (ranks["corrected"] <= 1).astype(float) - (ranks["published"] <= 1)
    got = effects["query_in_pool"][RUNS[0]]["unseen"]["at_1"]
    low, high = statistics.bootstrap(change, p.seed, groups=asked.patients)
    assert (got["difference"], got["low"], got["high"]) == pytest.approx((change.mean(), low, high), abs=1e-6)
    rows = effects["row_split"][RUNS[0]]
    assert rows["difference"] == pytest.approx(rows["rows"] - rows["patients"], abs=1e-5)
    assert rows["difference"] > 0.2  # vectors that know the patient and nothing else
    assert rows["low"] < rows["difference"] < rows["high"]
    labels = effects["one_hot_targets"]["soft_chapter"]["corrected_at_10_unseen"]
    hits = [np.mean(found[run].ranks["unseen"]["corrected"] <= 10) for run in RUNS]
    assert labels["difference"] == pytest.approx(hits[1] - hits[0], abs=1e-6)


def test_tables_say_whose_notes_they_are(written):
    results, effects = written
    tables = [note_tables.recall_rows(results, g) for g in ("seen", "unseen")]
    tables += [note_tables.auroc_rows(results), note_tables.silhouette_rows(results), note_tables.ceiling_rows(results)]
    tables += [note_tables.code_rows(results, "all-MiniLM-L6-v2"), note_tables.effect_rows(effects)]
    for rows in tables:
        assert rows and any("generated notes" in column for column in rows[0])
        assert len({tuple(row) for row in rows}) == 1  # one header for all rows


def test_figures_draw_the_numbers_of_the_records(written, points):
    results, effects = written
    _, drawn = figures.recall_at_k(results)
    shown = drawn.filter(model="BM25", pool="query taken out", k=10)["recall"].item()
    assert shown == pytest.approx(results["bm25"]["metrics"]["recall"]["unseen"]["corrected"]["recall_at_10"])
    _, drawn = figures.effects(effects)
    first = drawn.filter(pl.col("effect").str.contains("query"), who="BM25").row(0, named=True)
    assert first["low"] <= first["difference"] <= first["high"] <= 0
    assert len(figures.auroc_by_code(results, "all-MiniLM-L6-v2")[1]) == 5
    assert len(figures.silhouettes(results)[1]) == 6
    assert set(points.columns) == {"model", "x", "y", "chapter", "category"}
    assert len(figures.maps(points, "generated notes")[0].axes) == 2


def test_numbers_of_the_text_are_those_of_the_records(written):
    results, effects = written
    record = records.read(records.path("p", "notes", "all"))
    training = {RUNS[1]: {"counts": {"steps": 40}}}
    quoted = note_tables.numbers(record, results, effects, training, "all-MiniLM-L6-v2")
    assert (quoted["notes_runs"], quoted["notes_steps"]) == ("one run", "40")
    rows = effects["metrics"]["row_split"]["all-MiniLM-L6-v2"]
    assert quoted["notes_rows"] == f"{rows['difference']:+.3f}" and quoted["notes_kind"] == "generated notes"
    assert set(quoted) == {f"notes_{name}" for name in note_tables.QUOTED}


def test_properties_are_measured_by_the_records(written, trained):
    results, effects = written
    known = {"mimic": results, "effects": {"all": effects}, "train": trained}
    recall = evidence.note_recall_gain(known)
    assert recall.difference > 0 and recall.page == "notes" and recall.said.endswith("; generated notes")
    assert recall.low < recall.difference < recall.high and recall.seeds == 1  # vectors that know the patient
    seen = results[RUNS[0]]["counts"]["seen"]
    assert (recall.n, recall.groups, recall.grouped) == (seen["queries"], seen["patients"], "patients")
    assert evidence.recall_at_1_capped(known).difference <= 0
    untold = {run: record | {"metrics": {}} for run, record in trained.items()}
    assert evidence.soft_loss_above_entropy(known | {"train": untold}) is None
    ended = trained | {RUNS[1]: trained[RUNS[1]] | {"metrics": {"loss_last": 3.5, "loss_floor": 2.5}}}
    assert evidence.soft_loss_above_entropy(known | {"train": ended}).difference == 1
    assert "on unseen patients" in evidence.held_out_below_training(known).said
    drawn = results[RUNS[0]]["metrics"]["silhouette"]["delta"]
    silhouette = evidence.silhouette_difference_negative(known)
    assert (silhouette.difference, silhouette.high) == (drawn["silhouette"], drawn["high"])
    assert evidence.note_auroc_gain(known).of == "notes"
    assert all(test({}) is None for test in evidence.TESTS.values())


def test_codes_of_most_notes_stand_first(written):
    rows = note_tables.code_rows(written[0], "all-MiniLM-L6-v2")
    counts = [row["notes"] for row in rows if isinstance(row["notes"], int)]
    assert counts == sorted(counts, reverse=True) and len(counts) > 1
