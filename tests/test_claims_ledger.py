"""The files of claims: what they may say, what must hold between them, and that nothing of the record is left out."""

import re
from fnmatch import fnmatchcase
from functools import cache

import pytest

from cardioembed_lib import lora
from cardioembed_study import paths
from cardioembed_study.claims import arithmetic, checks, ledger

FILE = """
sources:
  paper: {title: A paper, cite: paper}
  card: {title: A card, class: never published}
paper: A study
class: closed data
claims:
  - {id: study.pairs, source: paper, place: section 2, metric: count, value: 100, unit: pairs}
  - {id: study.card_pairs, source: card, place: card, metric: count, value: 120, unit: pairs, conflicts: [study.pairs]}
  - {id: study.seed, source: paper, place: section 3, metric: setting, value: 42, unit: seed, class: reported setting}
tables:
  - id: study.table
    source: paper
    place: Table 1
    columns: {SciFact/ndcg_at_10: percent, mrr: fraction}
    rows:
      Base-1.5: [60, 0.5]
      Tuned: [null, 0.6]
    note: Of one run.
    notes: {Tuned.mrr: The best.}
    measured: {SciFact/ndcg_at_10: SciFact}
    classes: {Tuned: not tested, mrr: model out of reach}
    conflicts: {Base-1.5.mrr: [study.pairs]}
    beside: {Tuned.mrr: [study.seed]}
"""
PUBLISHED = paths.ROOT.parent / "shared" / "reference" / "PUBLISHED.md"
NUMBER = re.compile(r"(?<![\w.])(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+(?:e-?\d+)?|\d+(?:e-?\d+)?)(?!\d)")
FILES_OF = {
    "0": None,
    "A": {"cardioembed", "comparative", "official"},
    "B": {"medembed", "official"},
    "C": {"mimic", "official"},
    "C4": {"cardioembed", "comparative", "mimic"},  # the record's second reading, of all of them
}
NO_CLAIM = {  # (section, number as printed): why it needs no claim
    ("0", "47"): "47.17 rounded",
    ("0", "67"): "67.13 rounded",
    ("0", "145834.0"): "an example of an identifier",
    ("A", "4e42393"): "a revision",
    ("A", "2024"): "a year of citation",
    ("A", "2025"): "a year of citation",
    ("A", "4.35"): "a lower bound of a package's version",
    ("A", "13"): "figures that are absent from the repository",
    ("A", "135"): "135,000 in thousands",
    ("A", "15"): "15,000 in thousands",
    ("A", "2.6"): "billions of parameters of a released model, counted by others; the study says 2.5",
    ("C", "145834.0"): "an example of an identifier",
    ("C", "3.1"): "the start of a version",
    ("C", "2.37"): "an earlier simulation; the check of soft targets makes its own",
    ("C", "3.01"): "as 2.37",
    ("C", "3.23"): "as 2.37",
    ("C4", "1.083"): "a ratio of ours, 66.8 / 61.7",
    ("C4", "295"): "a line of the study, which the ledger gives by section and table",
    ("C4", "307"): "as 295",
    ("C4", "334"): "as 295",
}


NO_RECORD = {  # ids of claims, or globs: why the record lacks the number
    "comparative.abstract_pairs": "read in the abstract of arXiv 2511.19739",
    "comparative.card*": "read in the model card of CardioEmbed-BioLinkBERT",
    "comparative.table1.*.parameters": "printed in billions",
    "medembed.csv_*": "in the file beside the record, which a test above compares number by number",
}


@pytest.fixture
def write(tmp_path):
    """Return a maker of a folder with ``study.yaml``: the file above, some words replaced."""

    def make(old="", new=""):
        assert old in FILE
        (tmp_path / "study.yaml").write_text(FILE.replace(old, new), encoding="utf-8")
        return tmp_path

    return make


@pytest.fixture(scope="module")
def known():
    return ledger.load()


def test_a_table_is_one_claim_a_cell_and_a_missing_number_none(write):
    found = ledger.load(write())
    cells = [key for key in found if key.startswith("study.table")]
    assert cells == ["study.table.Base-1.5.SciFact.ndcg_at_10", "study.table.Base-1.5.mrr", "study.table.Tuned.mrr"]
    cell = found["study.table.Base-1.5.SciFact.ndcg_at_10"]
    assert (cell.model, cell.data, cell.metric, cell.value, cell.unit) == (
        "Base-1.5",
        "SciFact",
        "ndcg_at_10",
        60,
        "percent",
    )
    assert [found[key].measured for key in cells] == ["SciFact", "", ""]
    assert found[cells[2]].note == "Of one run. The best." and found[cells[2]].beside == ("study.seed",)


def test_rows_of_one_models_table_are_what_the_number_is_on(write):
    found = ledger.load(write("place: Table 1", "place: Table 1\n    model: One\n    data: notes"))
    assert found["study.table.Tuned.mrr"].model == "One" and found["study.table.Tuned.mrr"].data == "notes; Tuned"


def test_the_class_is_the_claims_own_or_its_tables_or_its_sources_or_its_files(write):
    """Of a table a cell comes before its row, a row before its column."""
    found = ledger.load(write())
    names = (
        "seed",
        "card_pairs",
        "pairs",
        "table.Tuned.mrr",
        "table.Base-1.5.mrr",
        "table.Base-1.5.SciFact.ndcg_at_10",
    )
    kinds = ["reported setting", "never published", "closed data", "not tested", "model out of reach", "closed data"]
    assert [found[f"study.{name}"].kind for name in names] == kinds


def test_conflicts_hold_both_ways(write):
    found = ledger.load(write())
    assert found["study.pairs"].conflicts == ("study.card_pairs", "study.table.Base-1.5.mrr")
    assert found["study.card_pairs"].conflicts == ("study.pairs",)


def test_a_one_way_conflict_leaves_the_other_in_peace(write):
    found = ledger.load(write("conflicts: [study.pairs]", "conflicts: [study.pairs], one_way: true"))
    assert found["study.pairs"].conflicts == ("study.table.Base-1.5.mrr",)
    assert found["study.card_pairs"].conflicts == ("study.pairs",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("place: section 2, ", "", r"study\.yaml: study\.pairs: claims\.0\.place: Field required"),
        (
            "place: section 2,",
            "place: '',",
            r"study\.yaml: study\.pairs: claims\.0\.place: String should have at least 1",
        ),
        ("place: Table 1", "place: ''", r"study\.yaml: study\.table: tables\.0\.place: String should have at least 1"),
        ("value: 100", "value: many", r"study\.pairs: claims\.0\.value: Input should be a valid number.*found 'many'"),
        ("value: 100", "value: .nan", r"study\.pairs: claims\.0\.value: Input should be a finite number"),
        ("unit: seed", "unity: seed", r"study\.seed: claims\.2\.unit: Field required"),
        ("study.seed", "study.pairs", r"study\.yaml: id 'study\.pairs' stands twice"),
        ("study.seed", "other.seed", r"study\.yaml: id is 'other\.seed'; ids of this file start with 'study\.'"),
        ("id: study.seed", "id: study seed", r"study seed: claims\.2\.id: String should match pattern"),
        ("source: card", "source: cart", r"study\.card_pairs: source is 'cart'.*did you mean 'card'\?"),
        (
            "conflicts: [study.pairs]",
            "conflicts: [study.pears]",
            r"study\.card_pairs: conflicts names 'study\.pears', no claim",
        ),
        (
            "value: 120",
            "value: 100",
            r"study\.card_pairs: conflicts names 'study\.pairs', whose value is the same but for rounding, 100",
        ),
        ("class: closed data", "class: closed", r"study\.yaml: no id: class: Input should be 'reported setting'"),
        ("paper: A study\n", "", r"study\.yaml: .*paper: Field required"),
        ("{Tuned: not", "{Tune: not", r"study\.table: classes names 'Tune', nothing of it; did you mean 'Tuned'"),
        (
            "{SciFact/ndcg_at_10: SciFact}",
            "{SciFact: SciFact}",
            r"study\.table: measured names 'SciFact', no column of it",
        ),
        ("[study.seed]}", "[study.sead]}", r"study\.table\.Tuned\.mrr: beside names 'study\.sead', no claim"),
        ("Tuned.mrr: The", "Tuned.mr: The", r"study\.table: notes names 'Tuned\.mr', no row\.column of it"),
        ("[null, 0.6]", "[0.6]", r"study\.table: rows\.Tuned has 1 values, columns has 2; write null for a number"),
    ],
)
def test_a_faulty_file_is_refused_by_file_id_and_field(write, old, new, message):
    with pytest.raises(ValueError, match=message):
        ledger.load(write(old, new))


@pytest.mark.parametrize(("value", "other"), [(50, "0.5"), (60.98, "0.609"), (60.98, "0.61")])
def test_percent_and_fraction_and_another_digit_of_one_number_are_the_same_number(write, value, other):
    new = f"value: {value}, unit: percent, conflicts: [study.table.Base-1.5.mrr]"
    folder = write("value: 120, unit: pairs, conflicts: [study.pairs]", new)
    path = folder / "study.yaml"
    path.write_text(path.read_text().replace("[60, 0.5]", f"[60, {other}]"))
    with pytest.raises(ValueError, match="whose value is the same but for rounding"):
        ledger.load(folder)


def test_every_claim_of_the_repository_has_a_place_a_unit_and_a_class(known):
    assert len(known) > 800
    assert [key for key, c in known.items() if not (c.place.strip() and c.unit.strip() and c.kind)] == []


def test_an_official_number_is_beside_others_or_beyond_them_and_conflicts_with_none(known):
    """Qwen3-Embedding-8B may not be the model that is called Qwen3-8B-Base; a prompt is another protocol."""
    official = {key for key in known if key.startswith("official.")}
    assert {key for key in official if known[key].conflicts} == set()
    assert {key for key, c in known.items() if official & set(c.conflicts)} == {"cardioembed.layers"}
    assert all(c.model in known[other].model or "medical" in c.model for c in known.values() for other in c.beside)


def test_every_source_that_the_book_cites_is_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{([^,]+),", (paths.BOOK / "references.bib").read_text(encoding="utf-8"), re.M))
    assert {source["cite"] for source in ledger.sources().values()} - {""} <= keys


def test_the_compact_scores_of_medembed_are_those_of_the_file_beside_the_record(known):
    file = PUBLISHED.with_name("medembed_ndcg10.csv")
    if not file.is_file():
        pytest.skip("the record of what was published, shared/reference, is not beside this repository")
    head, *rows = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()]
    wrong = []
    for name, model, *scores in rows:
        table = f"medembed.csv_{name}.{model.rpartition('/')[2]}"
        wrong += [
            (table, task)
            for task, score in zip(head[2:], scores, strict=True)
            if (found := known.get(f"{table}.{task}.ndcg_at_10")) is None or found.value != float(score)
        ]
    assert not wrong


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the record of what was published is not beside this repository")
def test_every_published_number_of_the_record_is_in_the_ledger():
    """As a value, in a claim's words, or in what a check computes; a number with two decimals or more may be rounded."""
    missing = {(section, number) for section, number in recorded() if not in_ledger(section, number)}
    assert sorted(missing - set(NO_CLAIM)) == []
    assert sorted(set(NO_CLAIM) - missing) == [], "these need no exception any more"


def recorded():
    """Return (section, number as printed) of every number of sections 0 to C of the record, headings left out."""
    text = re.sub(r"^### C\.4 ", "## C4. ", PUBLISHED.read_text(encoding="utf-8"), flags=re.M)
    parts = re.split(r"^## (\w+)\. .*$", text, flags=re.M)
    lines = [(parts[i], line) for i in range(1, len(parts), 2) for line in parts[i + 1].splitlines()]
    plain = [(section, re.sub(r"^\d+\. ", "", line)) for section, line in lines if not line.startswith("###")]
    return [(s, m[1]) for s, line in plain if s in FILES_OF for m in NUMBER.finditer(line)]


def in_ledger(section, number):
    wanted, digits = float(number.replace(",", "")), len(number.partition(".")[2])
    exact, shares = numbers_of(section)
    close = 0.5 * 10**-digits + 1e-9
    return any(abs(wanted - k) < 1e-9 for k in exact) or (digits >= 2 and any(abs(wanted - k) <= close for k in shares))


@cache
def numbers_of(section):
    """Return the numbers of a section's files, exact, and their values as shares of 1 and of 100, which may be rounded."""
    known = ledger.load()
    own = [c for c in known.values() if FILES_OF[section] is None or c.id.split(".")[0] in FILES_OF[section]]
    words = [" ".join((c.place, c.data, c.note, c.model, c.unit)) for c in own]
    ids = {c.id for c in own}
    words += [f"{c.stated} {c.computed}" for c in checks.compute(known) if ids & set(c.claims)]
    words += [source["title"] for source in ledger.sources().values()]
    words += [f"{size * share:.1f}" for size in adapter_sizes() for share in (1, 0.5)]
    exact = {abs(c.value) for c in own} | {float(m[1].replace(",", "")) for w in words for m in NUMBER.finditer(w)}
    shares = {abs(c.value) * scale for c in own for scale in (1, 100)}
    return exact, shares


def adapter_sizes():
    """Return the MiB of a float32 adapter of Qwen3-Embedding-8B for three sets of layers and four ranks: the record's A.6."""
    each = [arithmetic.lora_numbers("Qwen3-Embedding-8B", targets) for targets in ("all-linear", "attention", "qv")]
    return [lora.mebibytes(rank * n) for n in each for rank in (8, 16, 32, 64)]


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the record of what was published is not beside this repository")
def test_every_number_of_the_ledger_is_in_the_record(known):
    """To the digits that the record prints; official numbers and those with a reason in ``NO_RECORD`` aside."""
    printed = {(float(n.replace(",", "")), len(n.partition(".")[2])) for _, n in recorded()}
    printed |= {(float(m[1]) * 1000, 0) for m in re.finditer(r"\b(\d+)k\b", PUBLISHED.read_text(encoding="utf-8"))}
    known = {key: claim for key, claim in known.items() if not key.startswith("official.")}
    absent = {
        key
        for key, claim in known.items()
        if not any(
            abs(abs(claim.value) * scale - number) <= (0.5 * 10**-digits if digits >= 2 else 0) + 1e-9
            for number, digits in printed
            for scale in (1, 100)
        )
    }
    excused = {key for key in absent if any(fnmatchcase(key, glob) for glob in NO_RECORD)}
    assert sorted(absent - excused) == []
    unused = [glob for glob in NO_RECORD if not any(fnmatchcase(key, glob) for key in absent)]
    assert unused == [], "these need no exception any more"
