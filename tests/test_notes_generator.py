"""Generated notes: MIMIC-III's form, one seed one text, and signals that are there because the generator put them there."""

import csv
import json
import re
import statistics
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, silhouette_score
from sklearn.model_selection import GroupKFold

from cardioembed_lib import encoder, metrics
from cardioembed_study import lexical, paths
from cardioembed_study.notes import icd9
from cardioembed_study.notes.generator import cohort, notes, phrases, stays

SEED = 17
NOTES = {"TEXT": pl.String, "ISERROR": pl.String, "HADM_ID": pl.Int64, "CHARTTIME": pl.String}
DATE_ONLY = {"Discharge summary", "ECG", "Echo"}
CASES = ("CHF", "congestive heart failure", "heart failure")


@pytest.fixture(scope="session")
def tables():
    return cohort.population(60, SEED)


@pytest.fixture(scope="session")
def folder(tables, tmp_path_factory):
    return notes.write(tables, tmp_path_factory.mktemp("notes") / "mimic", SEED, mean_notes=12)


@pytest.fixture(scope="session")
def written(folder):
    """All notes with their codes, in the order in which a loader reads a patient's."""
    table = pl.read_csv(folder / "NOTEEVENTS.csv", schema_overrides=NOTES)
    codes = pl.read_csv(folder / "DIAGNOSES_ICD.csv", schema_overrides={"ICD9_CODE": pl.String})
    listed = codes.sort("HADM_ID", "SEQ_NUM").group_by("HADM_ID", maintain_order=True).agg(codes="ICD9_CODE")
    order = ["SUBJECT_ID", "CHARTDATE", "CHARTTIME", "ROW_ID"]
    return table.join(listed, on="HADM_ID", how="left").sort(order, nulls_last=False)


@pytest.fixture(scope="session")
def kept(written):
    return written.filter(pl.col("ISERROR").is_null() & (pl.col("TEXT").str.len_chars() > 50))


def mirror(*parts):
    root = paths.mirror()
    if root is None or not root.joinpath(*parts).exists():
        pytest.skip(f"needs {'/'.join(parts)} in the folder that CARDIOEMBED_MIRROR names")
    return root.joinpath(*parts)


def demo(name):
    file = mirror("mimic3_demo_v1.4", f"{name}.csv")
    return pl.read_csv(file, schema_overrides={"icd9_code": pl.String}, infer_schema_length=None)


def stay(codes, seed=0):
    rng = Random(f"test {seed}")
    facts = {"he": "she", "him": "her", "age": "70", "sex": "woman", "complaint": "a fall", "day": "2"}
    return stays.begin(rng, *stays.patient(rng), codes, facts, datetime(2150, 1, 1))


def words(text):
    return len(text.split())


def test_the_tables_have_mimics_columns(folder):
    wanted = json.loads(mirror("mimic3_schema", "mimic3_tables.json").read_text(encoding="utf-8"))
    assert {file.stem for file in folder.iterdir()} == set(notes.FILES)
    for name in notes.FILES:
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = [column["name"] for column in wanted[name]]
            assert reader.fieldnames == columns, name
            needed = [column["name"] for column in wanted[name] if column["not_null"]]
            titles = {"SHORT_TITLE", "LONG_TITLE"}  # ours are empty where we have no name of our own
            assert all(row[column] for row in reader for column in needed if column not in titles), name


def test_one_seed_writes_the_same_bytes_and_another_seed_other_notes(tables, folder, tmp_path):
    again = notes.write(cohort.population(60, SEED), tmp_path / "again", SEED, mean_notes=12)
    other = notes.write(tables, tmp_path / "other", SEED + 1, mean_notes=12)
    for name in notes.FILES:
        assert (again / f"{name}.csv").read_bytes() == (folder / f"{name}.csv").read_bytes(), name
    texts = [set(pl.read_csv(f / "NOTEEVENTS.csv", schema_overrides=NOTES)["TEXT"]) for f in (folder, other)]
    assert len(texts[0] & texts[1]) < 0.01 * len(texts[0])  # stubs only
    assert not cohort.population(60, SEED + 1)["DIAGNOSES_ICD"].equals(tables["DIAGNOSES_ICD"])


def test_a_patients_notes_do_not_depend_on_the_other_patients(tables, written, tmp_path):
    some = tables["PATIENTS"]["SUBJECT_ID"].to_list()[7:9]
    part = {name: table.filter(pl.col("SUBJECT_ID").is_in(some)) for name, table in tables.items()}
    alone = pl.read_csv(
        notes.write(part, tmp_path / "part", SEED, mean_notes=12) / "NOTEEVENTS.csv", schema_overrides=NOTES
    )
    among = written.filter(pl.col("SUBJECT_ID").is_in(some))
    assert sorted(alone["TEXT"]) == sorted(among["TEXT"])


def test_categories_are_mixed_about_as_in_mimic(written):
    share = {name: n / len(written) for name, n in Counter(written["CATEGORY"]).items()}
    assert 0.40 < share["Nursing/other"] < 0.62
    assert 0.14 < share["Radiology"] < 0.28
    assert 0.05 < share["ECG"] < 0.13
    assert {"Nursing", "Physician ", "Echo", "Respiratory "} <= set(share)
    summaries = written.filter(pl.col("CATEGORY") == "Discharge summary").drop_nulls("HADM_ID")
    assert summaries["HADM_ID"].is_unique().all()


def test_the_number_of_notes_of_an_admission_varies_around_its_mean(tables, written):
    counts = written.drop_nulls("HADM_ID").group_by("HADM_ID").len()["len"]
    assert 9 < len(written) / len(tables["ADMISSIONS"]) < 15
    assert counts.max() > 2 * counts.median() and counts.min() < counts.median() / 2


@pytest.mark.parametrize(
    ("category", "low", "high"),
    [("Nursing/other", 60, 110), ("Radiology", 60, 120), ("ECG", 22, 40), ("Discharge summary", 150, 300)],
)
def test_notes_are_as_long_as_their_kind(kept, category, low, high):
    lengths = [words(text) for text in kept.filter(pl.col("CATEGORY") == category)["TEXT"]]
    assert low <= statistics.median(lengths) <= high
    assert len(set(lengths)) > 10


def test_what_a_loader_must_cope_with_is_there(written):
    timed = written["CHARTTIME"].is_not_null()
    assert set(written.filter(~timed)["CATEGORY"]) == DATE_ONLY
    assert not set(written.filter(timed)["CATEGORY"]) & DATE_ONLY
    assert 0.005 < written["HADM_ID"].null_count() / len(written) < 0.05
    assert 0 < (written["ISERROR"] == "1").sum() < 0.02 * len(written)
    assert 0 < (written["TEXT"].str.len_chars() <= 50).sum() < 0.03 * len(written)
    assert written["TEXT"].str.contains("\n").mean() > 0.5
    assert written["ROW_ID"].is_unique().all()
    assert written.sort("ROW_ID").select(pl.col("CHARTDATE").is_sorted().over("SUBJECT_ID")).to_series().mean() < 0.5


def test_every_note_falls_into_its_admission(tables, written):
    dated = written.drop_nulls("HADM_ID").join(tables["ADMISSIONS"], on=["SUBJECT_ID", "HADM_ID"], how="left")
    day = pl.col("CHARTDATE").str.to_date()
    inside = day.is_between(pl.col("ADMITTIME").dt.date(), pl.col("DISCHTIME").dt.date())
    assert dated.select(inside.fill_null(False).all()).item()


def test_nothing_is_left_unfilled_and_masked_items_are_whole(written):
    text = "\n".join(written["TEXT"])
    assert not re.search(r"[{}|]", text)
    marks = re.findall(phrases.MASKED, text)
    assert len(marks) == text.count("[**") == text.count("**]") > len(written) / 3
    kinds = {re.sub(r"[0-9]+", "0", mark) for mark in marks}
    lines = [line for block in phrases.bank("words")["marks"].values() for line in block.splitlines()]
    forms = {re.sub(r"\{\w+\}|[0-9]+", "0", line) for line in lines}
    known = {f"[**{form}**]" for form in forms} | {"[**0-0**]", "[**0-0-0**]", "[**Age over 0 **]"}
    assert kinds <= known, kinds - known


def test_consecutive_notes_are_hardly_ever_the_same(kept):
    following = kept.select("TEXT", after=pl.col("TEXT").shift(-1).over("SUBJECT_ID")).drop_nulls()
    assert (following["TEXT"] == following["after"]).mean() < 0.01


@pytest.mark.parametrize(
    ("code", "signs"),
    [
        ("4280", "gallop heard|neck veins|three pillows|crackles|furosemide|lasix|diures"),
        ("5849", "nephrotoxins|muddy brown|bland sediment|output only|fluid challenge|drugs dosed for kidneys"),
    ],
)
def test_signs_follow_diagnoses(code, signs):
    def told(codes):
        found, author = [], phrases.Author(0, {}, ": ", ". ", False)
        for seed in range(10):
            case = stay(codes, seed)
            for _ in range(20):
                stays.advance(case, case.when + timedelta(hours=4))
                found.append(bool(re.search(signs, stays.text(case, "nursing_shift", author))))
        return np.mean(found)

    assert told([code, "53081"]) > 0.4
    assert told(["311", "53081"]) == 0


def test_admissions_with_a_code_say_more_of_it_than_those_without(kept):
    named = kept.drop_nulls("codes").with_columns(
        failing=pl.col("codes").list.eval(pl.element().str.starts_with("428")).list.any(),
        named=pl.col("TEXT").str.contains("|".join(CASES)),
    )
    share = dict(named.group_by("failing").agg(pl.col("named").mean()).iter_rows())
    assert share[True] > 0.15
    assert share[False] < 0.02


def test_values_drift_so_that_neighbouring_notes_are_closer_than_distant_ones():
    near, far = [], []
    for seed in range(20):
        case, pulse = stay(["5849", "42731"], seed), []
        for _ in range(30):
            stays.advance(case, case.when + timedelta(hours=6))
            pulse.append(case.values["hr"])
        near += np.abs(np.diff(pulse)).tolist()
        far += np.abs(np.subtract(pulse[15:], pulse[:-15])).tolist()
    assert np.mean(near) < 0.6 * np.mean(far)


def test_values_follow_diagnoses_and_stay_within_their_limits():
    def mean(code, name):
        found = []
        for seed in range(30):
            case = stay([code], seed)
            for _ in range(10):
                stays.advance(case, case.when + timedelta(hours=6))
                found.append(case.values[name])
        limits = phrases.bank("words")["vitals"][name]
        assert limits["low"] <= min(found) and max(found) <= limits["high"]
        return np.mean(found)

    assert mean("78552", "sbp") < mean("4019", "sbp") - 15
    assert mean("5856", "cr") > mean("4019", "cr") + 1.5
    assert mean("2761", "na") < mean("2760", "na") - 8


def test_sentences_are_carried_forward_from_the_last_note_of_the_kind(monkeypatch):
    author = phrases.Author(0, {}, ": ", "\n", False)
    codes = ["4280", "486", "25000", "42731", "5849", "2859", "2449", "311", "4019", "53081"]

    def repeated():
        shares = []
        for seed in range(10):
            case, before = stay(codes, seed), set()
            for _ in range(20):
                stays.advance(case, case.when + timedelta(hours=6))
                stays.text(case, "nursing_shift", author)
                here = {sentence for sentences in case.said.values() for sentence in sentences}
                shares.append(len(here & before) / len(here))
                before = here
        return np.mean(shares)

    with_copies = repeated()
    monkeypatch.setattr(stays, "COPY", 0)
    assert with_copies > repeated() + 0.1
    assert with_copies > 0.15


def test_traits_persist_and_patients_differ(kept):
    kin = phrases.bank("words")["traits"]["kin"].splitlines()
    pattern = re.compile(rf"\b({'|'.join(kin)})\b(?! in law)")
    said = [Counter(pattern.findall(" ".join(own["TEXT"]).lower())) for _, own in kept.group_by("SUBJECT_ID")]
    often = [found for found in said if found.total() >= 8]
    assert len({found.most_common(1)[0][0] for found in often}) > 6
    assert np.mean([found.most_common(1)[0][1] / found.total() for found in often]) > 0.6


def test_most_notes_hold_a_negation(kept):
    negated = kept["TEXT"].str.contains(r"(?i)\b(no|not|denies|without|w/o|r/o|none|never|negative|neg)\b")
    assert 0.5 < negated.mean() < 0.99


def test_authors_differ_and_keep_their_habits():
    writers = [phrases.author("nursing_shift", n, SEED) for n in range(notes.AUTHORS)]
    assert len({(writer.separator, writer.joiner, writer.capitals) for writer in writers}) > 5
    assert len({len(writer.words) for writer in writers}) > 3
    assert phrases.author("nursing_shift", 0, SEED) != phrases.author("nursing_shift", 0, SEED + 1)
    dictated = [len(phrases.author("chest_film", n, SEED).words) for n in range(notes.AUTHORS)]
    assert max(dictated) < min(len(writer.words) for writer in writers)


def test_about_one_word_in_a_hundred_is_misspelt_and_masked_items_never():
    text = " ".join(["furosemide with brisk response in 40 [**Known lastname 12**]"] * 500)
    wrong = phrases.misspelt(text, Random(SEED))
    changed = sum(a != b for a, b in zip(text.split(), wrong.split(), strict=True))
    assert 0.005 < changed / words(text) < 0.02
    assert wrong.count("[**Known lastname 12**]") == 500


def test_words_alone_find_the_next_note_sometimes_and_not_mostly(kept):
    texts, people = kept["TEXT"].to_list(), kept["SUBJECT_ID"].to_numpy()
    queries = np.flatnonzero(people[:-1] == people[1:])
    column = {note: i for i, note in enumerate(queries + 1)}
    scores = lexical.bm25_scores([texts[i] for i in queries], [texts[i + 1] for i in queries])
    ranks = metrics.gold_ranks(scores, exclude=[column.get(i, -1) for i in queries])
    assert 0.05 < metrics.accuracy_at(ranks, 1) < 0.25
    assert 0.25 < metrics.accuracy_at(ranks, 10) < 0.60


@pytest.mark.slow
def test_a_model_sees_kinds_of_note_and_something_of_the_diagnoses(minilm, tmp_path):
    folder = notes.write(cohort.population(40, SEED), tmp_path / "mimic", SEED, mean_notes=8)
    table = pl.read_csv(folder / "NOTEEVENTS.csv", schema_overrides=NOTES).drop_nulls("HADM_ID")
    codes = pl.read_csv(folder / "DIAGNOSES_ICD.csv", schema_overrides={"ICD9_CODE": pl.String})
    listed = dict(
        codes.sort("HADM_ID", "SEQ_NUM").group_by("HADM_ID", maintain_order=True).agg("ICD9_CODE").iter_rows()
    )
    labels = [listed[hadm] for hadm in table["HADM_ID"]]
    vectors, people = np.asarray(encoder.encode(minilm, table["TEXT"].to_list())), table["SUBJECT_ID"].to_numpy()
    assert silhouette_score(vectors, table["CATEGORY"].to_list(), metric="cosine") > 0.03
    assert -0.15 < silhouette_score(vectors, [icd9.chapter(found[0]) for found in labels], metric="cosine") < 0.1
    found = []
    for code, _ in Counter(code for codes in labels for code in codes).most_common(10):
        truth = np.array([code in codes for codes in labels])
        for train, test in GroupKFold(5, shuffle=True, random_state=SEED).split(vectors, truth, people):
            model = LogisticRegression(max_iter=1000).fit(vectors[train], truth[train])
            if 0 < truth[test].mean() < 1:
                found.append(roc_auc_score(truth[test], model.decision_function(vectors[test])))
    assert 0.57 < np.mean(found) < 0.9


def test_the_counts_are_those_of_the_open_demo():
    file = paths.MANIFESTS / "clinical" / "icd9_counts.csv"
    first, _, rest = file.read_text(encoding="utf-8").partition("\n")
    assert first.startswith("#") and "Demo v1.4" in first and "Open Database License" in first
    assert rest == cohort.code_counts(demo("DIAGNOSES_ICD")).write_csv()
    assert file.stat().st_size < 100_000


def test_counts_by_hand():
    rows = {"hadm_id": [1, 1, 1, 2, 2, 3, 3], "icd9_code": ["A", "B", "B", "A", "B", "A", "C"]}
    assert cohort.code_counts(pl.DataFrame(rows)).rows() == [("A", "", 3), ("A", "B", 2), ("B", "", 2)]


def test_codes_occur_alone_and_together_about_as_often_as_in_the_demo():
    alone, beside = cohort._statistics()
    drawn = cohort.population(1500, SEED)["DIAGNOSES_ICD"].rename(str.lower)
    counts = {(code, other): n for code, other, n in cohort.code_counts(drawn).rows()}
    codes = sorted(alone)
    assert np.corrcoef([alone[code] for code in codes], [counts.get((code, ""), 0) for code in codes])[0, 1] > 0.85
    pairs = [(a, b) for a in codes for b in codes if a < b]
    real = [beside.get(a, {}).get(b, 0) for a, b in pairs]
    assert np.corrcoef(real, [counts.get(pair, 0) for pair in pairs])[0, 1] > 0.7


def test_no_admission_is_a_copy_of_one_in_the_demo(tables):
    def lists(table, admission, code):
        return {frozenset(codes) for codes in table.group_by(admission).agg(code)[code].to_list()}

    real = lists(demo("DIAGNOSES_ICD"), "hadm_id", "icd9_code")
    assert not lists(tables["DIAGNOSES_ICD"], "HADM_ID", "ICD9_CODE") & real


def test_patients_have_one_to_four_admissions_in_order_and_chronic_codes_stay():
    many = cohort.population(400, SEED)
    counts = many["ADMISSIONS"].group_by("SUBJECT_ID").len()["len"]
    assert 1.15 < counts.mean() < 1.45 and set(counts) == {1, 2, 3, 4}
    stays_ = many["ADMISSIONS"].sort("SUBJECT_ID", "ADMITTIME")
    after = stays_.with_columns(earlier=pl.col("DISCHTIME").shift(1).over("SUBJECT_ID")).drop_nulls("earlier")
    assert (after["ADMITTIME"] > after["earlier"]).all()
    assert stays_["ADMITTIME"].dt.year().min() >= 2100 and stays_["DISCHTIME"].dt.year().max() <= 2205
    assert stays_["HADM_ID"].is_unique().all()
    codes = dict(many["DIAGNOSES_ICD"].group_by("HADM_ID").agg("ICD9_CODE").iter_rows())
    for _, own in stays_.group_by("SUBJECT_ID"):
        lists = [set(codes[hadm]) for hadm in own.sort("ADMITTIME")["HADM_ID"]]
        for earlier, later in pairwise(lists):
            assert {code for code in earlier if code.startswith(("4283", "250", "42731"))} <= later


def test_notes_can_be_laid_on_the_open_demo(tmp_path):
    given = cohort.from_tables(demo("PATIENTS"), demo("ADMISSIONS"), demo("DIAGNOSES_ICD"))
    assert {name: len(table) for name, table in given.items()} == {
        "PATIENTS": 100,
        "ADMISSIONS": 129,
        "DIAGNOSES_ICD": 1761,
    }
    folder = notes.write(given, tmp_path / "demo", SEED, mean_notes=3)
    table = pl.read_csv(folder / "NOTEEVENTS.csv", schema_overrides=NOTES)
    assert set(table["SUBJECT_ID"]) == set(given["PATIENTS"]["SUBJECT_ID"])
    kept_ = pl.read_csv(folder / "DIAGNOSES_ICD.csv", schema_overrides={"ICD9_CODE": pl.String})
    assert kept_["ICD9_CODE"].to_list() == demo("DIAGNOSES_ICD")["icd9_code"].to_list()


def known_slots():
    words_ = phrases.bank("words")
    person, row = {"GENDER": "F", "DOB": datetime(2080, 1, 1)}, {"ADMITTIME": datetime(2150, 1, 1), "DIAGNOSIS": "FALL"}
    facts = notes._facts({**person, **row, "INSURANCE": "Private", "DISCHARGE_LOCATION": "HOME"}, [])
    others = {"day", "known", "when", "before", "later", "few", "tens", "number", "clock"}
    return set(words_["vitals"]) | set(words_["traits"]) | set(words_["marks"]) | set(facts) | others


def blocks():
    """Yield where, about what, and the text of every block of phrases."""
    for name in (*phrases.SIGNS, "chapters", "events"):
        for code, signs in phrases.bank(name).items():
            yield from ((f"{name} {code}", about, text) for about, text in signs.items() if about not in phrases.FACTS)
    yield from (("common", about, text) for about, text in phrases.bank("common").items())
    for name, kind in phrases.styles().items():
        yield from ((name, None, text) for text in (kind.opening, kind.closing))


def test_every_phrase_is_well_formed_and_its_slots_are_known():
    slots = known_slots()
    for where, about, text in blocks():
        assert text is not None and "[**" not in text and "**]" not in text, where
        for line in text.splitlines():
            assert line.strip() == line and line, (where, about)
            assert not re.search(r"\([^)]*\(|\)[^(]*\)|^[^(]*\)", line) and line.count("(") == line.count(")"), line
            assert "|" not in re.sub(r"\([^()]*\)", "", line), line
            assert set(re.findall(r"\{(\w+)\}", line)) <= slots, line
            assert line.count("{") == line.count("}") == len(re.findall(r"\{\w+\}", line)), line


def test_every_phrase_can_be_said():
    said = {section.about for kind in phrases.styles().values() for section in kind.sections}
    assert said == set(phrases.bank("common")), "sections and common.yaml differ"
    assert {about for where, about, _ in blocks() if about} <= said | {"names"}


def test_no_phrase_stands_twice_in_its_block():
    for where, about, text in blocks():
        assert len(set(text.splitlines())) == len(text.splitlines()), (where, about)


def test_levels_shift_known_values_and_every_chapter_has_signs():
    values = set(phrases.bank("words")["vitals"])
    for name in (*phrases.SIGNS, "chapters"):
        assert all(set(entry.get("levels", {})) <= values for entry in phrases.bank(name).values()), name
    assert set(phrases.bank("chapters")) == {chapter[0] for chapter in icd9.CHAPTERS}


def test_no_code_is_filed_twice():
    codes = [code for name in phrases.SIGNS for code in phrases.bank(name)]
    assert len(codes) == len(set(codes)) > 80


def test_every_filed_code_begins_a_real_one():
    with mirror("icd9cm", "Dtab12.csv").open(encoding="latin-1") as file:
        real = {row[0].replace(".", "") for row in csv.reader(file, skipinitialspace=True)}
    billable = mirror("icd9cm", "CMS32_DESC_LONG_DX.txt").read_text(encoding="latin-1")
    real |= {line.split()[0] for line in billable.splitlines()}
    beginnings = {code[:n] for code in real for n in range(1, len(code) + 1)}
    chronic = phrases.bank("words")["chronic"].split()
    assert {code for name in phrases.SIGNS for code in phrases.bank(name)} | set(chronic) <= beginnings
    assert {code for code in cohort._statistics()[0]} <= beginnings


def test_a_code_is_known_by_its_longest_beginning_and_else_by_its_chapter():
    assert phrases.entry("42832")["title"] == "diastolic heart failure"
    assert phrases.entry("4280")["title"] == "heart failure"
    assert phrases.entry("4289")["cv"] == phrases.entry("4280")["cv"]
    assert "title" not in phrases.entry("7295") and phrases.entry("7295")["move"]


def test_the_sixty_most_frequent_codes_have_signs_of_their_own():
    alone = cohort._statistics()[0]
    frequent = sorted(alone, key=lambda code: (-alone[code], code))[:60]
    assert [code for code in frequent if "title" not in phrases.entry(code)] == []


@pytest.mark.parametrize(
    ("call", "words_"),
    [
        (lambda t, p: cohort.population(0, 1), "n is 0"),
        (lambda t, p: notes.write(t, p / "new", 1, mean_notes=0), "mean_notes is 0"),
        (lambda t, p: notes.write(t, p, 1), r"holds holiday\.jpg"),
        (
            lambda t, p: cohort.from_tables(t["PATIENTS"].drop("DOB"), t["ADMISSIONS"], t["DIAGNOSES_ICD"]),
            "lacks the column DOB",
        ),
        (
            lambda t, p: cohort.from_tables(
                t["PATIENTS"], t["ADMISSIONS"], t["DIAGNOSES_ICD"].with_columns(ICD9_CODE=pl.lit(389))
            ),
            "ICD9_CODE is Int32, not text",
        ),
    ],
)
def test_bad_input_is_named(tables, tmp_path, call, words_):
    (tmp_path / "holiday.jpg").write_bytes(b"sea")
    with pytest.raises(ValueError, match=words_):
        call(tables, tmp_path)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"sea"


def test_a_failure_leaves_the_earlier_folder_and_nothing_else(tables, tmp_path):
    small = {name: table.head(3) for name, table in tables.items()}
    folder = notes.write(small, tmp_path / "mimic", SEED, mean_notes=2)
    before = (folder / "NOTEEVENTS.csv").read_bytes()
    broken = {**tables, "DIAGNOSES_ICD": tables["DIAGNOSES_ICD"].with_columns(ICD9_CODE=pl.lit("nonsense"))}
    with pytest.raises(ValueError, match="nonsense"):
        notes.write(broken, folder, SEED)
    assert (folder / "NOTEEVENTS.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mimic"]
    notes.write(small, folder, SEED + 1, mean_notes=2)
    assert (folder / "NOTEEVENTS.csv").read_bytes() != before
