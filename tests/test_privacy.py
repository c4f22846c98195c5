"""The privacy gate under attack: planted pieces of notes are refused, what the notebooks make passes."""

import json
import os
import random
import re
import stat
import subprocess
import sys
import unicodedata
from collections import Counter

import harmless
import leaks
import numpy as np
import pytest

from cardioembed_study import paths, privacy
from cardioembed_study.privacy import artefacts, fingerprints, identifiers
from cardioembed_study.privacy.gate import NAMELESS

EACH = 24  # planted of every kind
N_CLEAN = 510
SOME = "Pt remains stable overnight, moderate left effusion of the chest; lasix gtt, weaned."
BY_NAME = {"ids": lambda make: make.__name__}


@pytest.fixture(scope="module")
def notes():
    short = leaks.short_lines()
    return [*leaks.notes(1200, seed=1), "\n".join(short[:150]), "\n".join(short[150:])]


@pytest.fixture(scope="module")
def ids():
    return leaks.ids(600, seed=2)


@pytest.fixture(scope="module")
def gates(notes, ids, tmp_path_factory):
    """Return the gate of a sample of MIMIC-III's size, and one of a small hospital whose notes are counted through."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        privacy.remember("sample", notes, [number for kind in ids.values() for number in kind])
        privacy.remember("counted", notes, range(1, 20_001))
        return privacy.gate("sample"), privacy.gate("counted")


@pytest.fixture
def room(tmp_path, monkeypatch):
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    return tmp_path


def refusals(known, folder, planted):
    """Return what is said of each planted leak, an empty text where nothing is."""
    said = []
    for n, content in enumerate(planted):
        try:
            known.refuse(leaks_written := harmless.write(folder / str(n), content))
            said.append("")
        except ValueError as error:
            said.append(str(error))
            assert any(path.name in said[-1] for path in leaks_written) or NAMELESS in said[-1]
    return said


# ---- the attack


@pytest.mark.parametrize("make", leaks.TEXT_LEAKS, **BY_NAME)
def test_a_piece_of_a_note_is_refused_wherever_it_hides_and_never_repeated(make, gates, notes, tmp_path):
    draw = random.Random(make.__name__)
    pieces = [leaks.snippet(notes[:1200], draw) for _ in range(EACH)]
    said = refusals(gates[0], tmp_path, [make(piece, draw) for piece in pieces])
    assert said.count("") == 0, [piece for piece, message in zip(pieces, said, strict=True) if not message]
    words = [re.findall(r"\w+", text.replace("_", " ").lower()) for text in said]
    for piece, shown in zip(pieces, words, strict=True):
        inside = " ".join(re.findall(r"\w+", piece.lower())[:4])
        assert inside not in " ".join(shown)


@pytest.mark.parametrize("make", leaks.ID_LEAKS, **BY_NAME)
def test_an_id_is_refused_where_its_place_gives_it_away(make, gates, ids, tmp_path):
    draw = random.Random(make.__name__)
    planted = [make(ids[draw.choice(("subject", "note", "admission"))], draw) for _ in range(EACH)]
    said = refusals(gates[0], tmp_path, planted)
    assert said.count("") == 0, [content for content, message in zip(planted, said, strict=True) if not message]


def test_an_array_is_refused_whatever_it_is_called(gates, tmp_path):
    draw = random.Random(5)
    said = refusals(gates[0], tmp_path, [leaks.arrays(draw) for _ in range(EACH)])
    assert all("an array, which may be made of restricted text" in message for message in said)


def test_the_attack_is_large_and_varied(notes):
    kinds = [*leaks.TEXT_LEAKS, *leaks.ID_LEAKS, leaks.arrays]
    assert len(kinds) * EACH >= 500 and N_CLEAN >= 500
    pieces = [leaks.snippet(notes[:1200], random.Random(n)) for n in range(200)]
    assert len(set(pieces)) > 190 and {len(piece.split()) for piece in pieces} >= set(range(8, 20))


@pytest.mark.slow
def test_what_the_notebooks_make_passes(gates, tmp_path):
    draw, refused = random.Random(9), Counter()
    for n in range(N_CLEAN):
        content = harmless.clean(draw)
        files = harmless.write(tmp_path / str(n), content)
        refused.update(leak for file in files for leak in gates[n % 2].inspect(file))
    assert refused == {}


@pytest.mark.slow
def test_the_committed_book_and_adapters_pass(gates):
    files = {file.read_bytes(): file for file in privacy.files([paths.BOOK, paths.ADAPTERS])}
    assert [leak for file in files.values() for leak in gates[1].inspect(file)] == []


@pytest.mark.parametrize(
    "make", [leaks.in_index, leaks.in_named_column, leaks.beside_a_word, leaks.as_our_own_ids], **BY_NAME
)
def test_ids_that_are_counted_through_are_refused_by_place_alone(make, gates, tmp_path):
    draw = random.Random(make.__name__)
    numbers = sorted(random.Random(4).sample(range(1000, 20_000), 300))
    assert refusals(gates[1], tmp_path, [make(numbers, draw) for _ in range(EACH)]).count("") == 0


# ---- what is known, and by what


def naive(text, n_words):
    """Return the runs of n words of a text, spelt without regard to case and signs; an independent way to look."""
    words = re.findall(r"[a-z0-9]+", unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower())
    return {"".join(words[n : n + n_words]) for n in range(len(words) - n_words + 1)}


def test_found_is_what_shares_eight_words_with_a_note_and_nothing_that_shares_fewer_than_six(gates, notes):
    known, draw, agreed = gates[0], random.Random(3), Counter()
    eight, six = (set().union(*(naive(note, n) for note in notes)) for n in (8, 6))
    for n in range(600):
        words = (draw.choice(notes) if n % 2 else " ".join(leaks.notes(1, seed=1000 + n))).split()
        start = draw.randrange(max(1, len(words) - 12))
        text = " ".join(words[start : start + draw.randint(8, 12)])
        shared = any(len(run) >= 20 and sum(map(str.isalpha, run)) >= 6 for run in naive(text, 8) & eight)
        some = "eight" if shared else "six" if naive(text, 6) & six else "fewer"
        agreed[some, len(fingerprints.found(fingerprints.folded(text), known.runs, known.lines, known.key)[0]) > 0] += 1
    assert agreed["eight", False] == 0 and agreed["eight", True] > 300
    assert agreed["fewer", True] == 0 and agreed["fewer", False] > 30
    assert agreed["six", True] < agreed["six", False] / 4  # where the eighth word is short, or its last letters differ


def test_seven_words_within_a_line_are_common_language_and_eight_are_not(room):
    privacy.remember("p", [SOME])
    known = privacy.gate("p")
    words = SOME.split()
    assert known.censor(" ".join(words[2:10])) != " ".join(words[2:10])
    assert known.censor(" ".join(words[2:9])) == " ".join(words[2:9])


@pytest.mark.parametrize("line", ["No acute distress seen today", "Wean as tolerated, call family"])
def test_a_short_line_is_known_as_a_whole_and_not_within_a_sentence(room, line):
    privacy.remember("p", [f"{SOME}\n{line}.\n{SOME}"])
    known = privacy.gate("p")
    assert "withheld" in known.censor(f"row 3\n{line.upper()}\n")
    assert known.censor(f"We read that {line} as it was said.") == f"We read that {line} as it was said."


def test_runs_do_not_reach_from_one_note_into_the_next(room):
    privacy.remember("p", ["alpha beta gamma delta epsilon", "zeta eta theta iota kappa lambda"])
    assert len(privacy.gate("p").runs.values) == 0


def test_notes_may_come_at_once_or_one_by_one_in_any_order(notes, monkeypatch):
    key = fingerprints.key(b"salt")
    whole = [
        fingerprints.distinct(np.concatenate(parts))
        for parts in zip(*fingerprints.known(notes[:200], key), strict=True)
    ]
    monkeypatch.setattr(fingerprints, "BLOCK", 1000)
    blocks = list(fingerprints.known(notes[:200][::-1], key))
    assert len(blocks) > 10
    for one, parts in zip(whole, zip(*blocks, strict=True), strict=True):
        assert one.tolist() == fingerprints.distinct(np.concatenate(parts)).tolist()


def test_a_long_file_is_read_across_the_borders_of_blocks(gates, notes, monkeypatch):
    text = fingerprints.folded("\n".join(notes[:40]))
    known = gates[0]
    whole = fingerprints.found(text, known.runs, known.lines, known.key)[0]
    monkeypatch.setattr(fingerprints, "BLOCK", 2000)
    assert set(whole) == set(fingerprints.found(text, known.runs, known.lines, known.key)[0])


def test_remembering_twice_adds_and_changes_nothing_else(room):
    first = privacy.remember("p", [SOME], [10_006])
    assert privacy.remember("p", [SOME], [10_006]) == first
    assert privacy.remember("p", ["Another note, with words enough to make a run of them."], ["note77"]) > first
    known = privacy.gate("p")
    assert "withheld" in known.censor(SOME) and 10_006 in known.ids and 77 in known.ids


def test_fingerprints_are_salted_private_and_hold_no_text(room):
    for profile in ("p", "q"):
        privacy.remember(profile, [SOME])
    files = [room / profile / "restricted" / privacy.FILE for profile in ("p", "q")]
    held = [np.load(file, allow_pickle=False) for file in files]
    assert not set(held[0]["runs"]) & set(held[1]["runs"]) and len(held[0]["runs"]) == 6
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600 and stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700
    assert b"effusion" not in files[0].read_bytes()
    assert sorted(path.name for path in files[0].parent.iterdir()) == ["fingerprints.lock", "fingerprints.npz"]


@pytest.mark.parametrize(
    "value", [10_006, "10006", "10006.0", 10_006.0, "note10006", "patient_10006", np.int64(10_006)]
)
def test_an_id_is_known_in_every_form(room, value):
    privacy.remember("p", [], [value])
    assert 10_006 in privacy.gate("p").ids


def test_an_id_that_is_no_number_is_named_by_its_place(room):
    with pytest.raises(
        ValueError, match=r"id 2 to remember is no whole number; wanted one such as 123, '123' or 'note123'"
    ):
        privacy.remember("p", [], [1, "Smith 4a"])


def test_a_damaged_file_of_fingerprints_lets_nothing_pass(room):
    privacy.remember("p", [SOME])
    file = room / "p" / "restricted" / privacy.FILE
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"p/restricted/fingerprints.npz cannot be read .* nothing can be checked"):
        privacy.gate("p")


def test_a_profile_without_restricted_texts_has_an_empty_gate_and_no_folder(room):
    known = privacy.gate("p")
    assert known.empty and known.censor(SOME) == SOME
    assert known.inspect(harmless.write(room, {"e.npy": b"\x93NUMPY"})[0]) == []
    assert not (room / "p").exists()


# ---- common language


@pytest.fixture
def ours(room, monkeypatch):
    """Return the gate of a repository of one module, whose text is given."""

    def make(text, module="cardioembed_lib/x.py"):
        harmless.write(room / "repository", {module: f'"""{text}"""\n'})
        monkeypatch.setattr(paths, "ROOT", room / "repository")
        privacy.remember("p", ["Seen. " + SOME, *leaks.notes(20, seed=7)])
        return privacy.gate("p")

    return make


@pytest.mark.parametrize("module", ["cardioembed_lib/x.py", "cardioembed_study/x.py", "cardioembed_study/notes/x.py"])
def test_an_idiom_that_our_own_files_share_with_a_note_passes(ours, module):
    idiom = "remains stable overnight, moderate left effusion of the chest"
    known = ours(f"Our own sentence {idiom} goes on in its own way.", module)
    assert known.censor(f"Said again: {idiom}.") == f"Said again: {idiom}."
    assert "withheld" in known.censor("moderate left effusion of the chest; lasix gtt, weaned")


def test_what_generated_notes_are_made_of_is_no_common_language(ours):
    assert "withheld" in ours(SOME[:70], "cardioembed_study/notes/generator/x.py").censor(SOME[:70])


def test_a_note_that_was_copied_into_our_own_files_stays_a_leak(ours):
    copied = "\n".join(leaks.notes(20, seed=7)[:3])
    assert "withheld" in ours(copied).censor(copied)


# ---- ids


@pytest.mark.parametrize(
    "text",
    [
        *("1234 notes", "patients: 1234", "notes 1234 of 5000", "seed 1234", "by patient 1000 draws", "pairs 1,234"),
        *(
            '{"notes": {"train": 1234, "dev": 5678}}',
            "n\n1234\n5678\n",
            '{"note": 7, "patient": 12}',
            "[1000, 2000, 5000]",
        ),
        *(
            "| model | notes |\n|---|---|\n| a | 1234 |\n| b | 5678 |\n| c | 7712 |",
            "step,loss\n1100,1\n1200,2\n1300,3\n",
        ),
        *(
            ",share\n1024,0.1\n2048,0.2\n4096,0.3\n",
            "note 12.5",
            "admission 2151-03-14",
            "3.11.2",
            "a\n1234\n5678\n7712\n",
        ),
        *('{"a": 1233, "note": 1234, "c": 1235}', "patient 12345678", "[1234, 5678, 7712]"),
    ],
)
def test_a_count_is_no_id_even_where_every_number_is_one(gates, text, tmp_path):
    assert gates[1].inspect(harmless.write(tmp_path, {"a.csv" if text[0] in "n,s" else "a.txt": text})[0]) == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "hadm_id: 12",
            "subject_id,x\n12,0.5\n",
            '{"row_id": [12]}',
            "note12",
            "patient_12 has",
            "note id\n12\n13\n19",
        ),
        *(",x\n1234,1\n5678,2\n7712,3\n", "      x\n1234  1\n5678  2\n7712  3\n", '{"1234": 1, "5678": 2, "7712": 3}'),
        *(
            '{"patient": 1234}',
            "Patient 1234 was admitted",
            "hadm_id\n\n1234.0",
            "| subject_id | x |\n|---|---|\n| 12 | 1 |",
        ),
    ],
)
def test_an_id_in_its_place_is_one(gates, text, tmp_path):
    (leak, *_) = gates[1].inspect(harmless.write(tmp_path, {"a.csv" if text[0] in "s," else "a.txt": text})[0])
    assert leak.kind == "id"


def test_numbers_known_by_chance_are_improbable_where_ids_are_few():
    known = identifiers.Known(np.arange(0, 100_000, 100))
    assert known.chance([5000, 7000, 9000]) == pytest.approx(1e-6, rel=0.1)
    assert identifiers.Known(np.arange(100_000)).chance([5000, 7000]) == pytest.approx(1, rel=1e-3)


# ---- where, and what it says


def test_a_refusal_names_line_cell_and_output(gates, notes, tmp_path):
    piece = " ".join(notes[0].split()[:12])
    shown = harmless.book(harmless.code("1"), harmless.code("2", harmless.stream("fine"), harmless.plain(piece)))
    shown = re.sub(r'"id": "\w+"', '"id": "show-worst"', shown)
    files = harmless.write(tmp_path, {"a.md": f"one\n\ntwo\n{piece}\n", "x.ipynb": shown})
    with pytest.raises(ValueError) as refused:
        gates[0].refuse(files)
    assert "a.md, line 4" in str(refused.value) and "x.ipynb, cell 'show-worst', output 2" in str(refused.value)
    assert "restricted text; nothing was written; show counts and scores instead" in str(refused.value)


def test_a_leak_over_the_border_of_two_outputs_is_named_by_the_first(gates, notes, tmp_path):
    words = notes[0].split()
    parts = [
        harmless.code("1", harmless.plain(" ".join(words[:5]))),
        harmless.code("2", harmless.plain(" ".join(words[5:9]))),
    ]
    file = harmless.write(tmp_path, {"x.ipynb": harmless.book(*parts)})[0]
    first = json.loads(file.read_text())["cells"][0]["id"]
    assert gates[0].inspect(file)[0].place == f"cell '{first}', output 1"


def test_a_name_that_leaks_is_withheld(gates, notes, tmp_path):
    name = "-".join(re.findall(r"\w+", notes[0])[:12])
    cell = harmless.code("1", harmless.plain(" ".join(notes[1].split()[:12])))
    shown = re.sub(r'"id": "\w+"', f'"id": "{name[:60]}"', harmless.book(cell))
    found = gates[0].inspect(harmless.write(tmp_path, {f"{name}/x.ipynb": shown})[0])
    assert {leak.place for leak in found} >= {"its name", NAMELESS}
    assert not any(name[:20] in f"{leak.file}{leak.place}" for leak in found)


def test_a_message_is_withheld_with_its_place(gates, notes):
    piece = notes[3][:80]
    assert (
        gates[0].censor(f"row 3: {piece}", "cell 'load'") == "message withheld: it holds restricted text (cell 'load')"
    )
    assert gates[0].censor("row 3 has no CHARTDATE") == "row 3 has no CHARTDATE"


def test_the_command_line_says_yes_or_no(room, capsys):
    privacy.remember("p", [SOME])
    good, bad = harmless.write(room / "book", {"a.md": "Counts only.", "t/b.md": f"\n\n{SOME}"})
    assert privacy.main(["check", "p", str(good)]) == 0 and "1 files pass; profile p: 6 runs" in capsys.readouterr().out
    assert privacy.main(["check", "p", str(good.parent)]) == 1
    assert "t/b.md, line 3: restricted text; do not publish it" in capsys.readouterr().err
    assert privacy.main(["check", "q", str(bad)]) == 0 and "no restricted text was ever read" in capsys.readouterr().out
    assert privacy.main(["check", "p", str(room / "nowhere")]) == 1
    assert "nowhere is neither a file nor a folder" in capsys.readouterr().err


def test_the_module_is_a_command(room):
    words = [sys.executable, "-m", "cardioembed_study.privacy", "check", "p", str(paths.ROOT / "README.md")]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=paths.ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0 and done.stderr == "" and "1 files pass" in done.stdout


# ---- reading files


@pytest.mark.parametrize(
    "text", ["{", "[1, 2", '"', "<", "&", "\\", "%", "%zz", "\\u12", "x^2 + y", "PK", "\ud800", "a,b\n\n"]
)
def test_a_broken_file_is_read_as_far_as_it_goes(text):
    found = list(artefacts.passages(text.encode(errors="surrogatepass"), "x.ipynb"))
    assert found[0].text == text or found[0].group == artefacts.ARRAY


def test_a_deep_nest_ends():
    value = SOME
    for _ in range(12):
        value = json.dumps([value])
    assert len(list(artefacts.passages(value.encode(), "x.json"))) < 30
    assert next(artefacts.passages(b"[" * 100_000, "x.json")).group == "text"
