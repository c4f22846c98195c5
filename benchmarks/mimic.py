"""How long does it take to read a whole MIMIC-III, and how much memory: 2,083,180 generated notes, about 3.7 GB of CSV?

    python benchmarks/mimic.py [--notes 2083180] [--gzip] [--folder FOLDER] [--repeats 3] [--out benchmarks/results]

The tables are generated: random words of a fixed vocabulary, with MIMIC-III's number of patients and admissions, its lengths,
and about its shares of notes without an admission, without a time, or marked as errors. ``mimic.prepare`` reads them once, in a
process of its own. Its peer is what was published, pandas' ``read_csv`` and a sort, on the first tenth of the notes: both in
turn, several times, each in a process of its own. The peer holds everything and writes nothing; ours writes three files. At the
end the first patients' notes are read back. GB is 10^9 bytes; needs twice the tables' size of disk.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cardioembed_study import paths, records

N_NOTES, N_PATIENTS, N_STAYS, N_DIAGNOSES = 2_083_180, 46_146, 58_976, 651_047
N_TEXTS, N_WORDS = 20_000, 8_000  # different texts, and words that they are made of
MEDIAN, SPREAD, LETTERS = (
    1_200,
    0.85,
    6.3,
)  # characters of a text, log-normal: its mean is 1.4 times the median; of a word
SIGNS = ["\n"] * 6 + [",", "."] * 3 + ['""']  # as they stand between two quotes
WITHOUT_STAY, WITHOUT_TIME, ERRORS, SHORT = 0.11, 0.15, 0.0004, 0.002
TENTH = 10
READ_BACK = 500  # patients
KEYS = ("seconds", "cpu_seconds", "peak_gb")  # where others use the machine, the seconds of the cores say more
CATEGORIES = ("Nursing/other", "Radiology", "Nursing", "ECG", "Physician ", "Discharge summary", "Echo", "Respiratory ")
HEADER = "ROW_ID,SUBJECT_ID,HADM_ID,CHARTDATE,CHARTTIME,STORETIME,CATEGORY,DESCRIPTION,CGID,ISERROR,TEXT"

OURS = """
import sys; from pathlib import Path; from cardioembed_study.notes import mimic
counts = mimic.prepare(Path(sys.argv[1]), Path(sys.argv[2]))
"""
PEER = """
import sys; from pathlib import Path; import pandas
notes = pandas.read_csv(next(Path(sys.argv[1]).glob("NOTEEVENTS.csv*")), low_memory=False)
notes = notes[(notes.ISERROR != 1) & (notes.TEXT.str.len() > 50)].sort_values(["SUBJECT_ID", "CHARTDATE", "CHARTTIME"])
counts = {"notes": len(notes), "pairs_across": int(notes.groupby("SUBJECT_ID").ROW_ID.shift(-1).notna().sum())}
"""
BACK = """
import sys; from pathlib import Path; from cardioembed_study.notes import mimic
target = Path(sys.argv[2])
counts = {"notes": len(mimic.notes(target, mimic.sample(target, min(%d, len(mimic.patients(target))), seed=17)))}
"""
SAY = "\nimport json; print(json.dumps(counts))"


def main(arguments: Sequence[str] | None = None) -> dict:
    """Generate, measure, print and write the record, and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notes", type=int, default=N_NOTES)
    parser.add_argument("--gzip", action="store_true", help="compress NOTEEVENTS, as the release is")
    parser.add_argument("--repeats", type=int, default=3, help="of the comparison on a tenth")
    parser.add_argument(
        "--folder", type=Path, help="where to put the tables for the time being; by default the system's place"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    given = parser.parse_args(arguments)
    started, load = time.perf_counter(), os.getloadavg()[0]
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        whole, tenth = Path(place, "whole"), Path(place, "tenth")
        generate(whole, given.notes, given.gzip)
        generate(tenth, max(1, given.notes // TENTH), given.gzip)
        size = table(whole).stat().st_size / 1e9
        target = Path(place, "prepared")
        full = apart(OURS, whole, target)
        written = sum(file.stat().st_size for file in target.glob("*.parquet")) / 1e9
        back = apart(BACK % READ_BACK, whole, target)
        pairs = [(apart(OURS, tenth, Path(place, "again")), apart(PEER, tenth, target)) for _ in range(given.repeats)]
    metrics = {
        "prepare": summary([full]) | {"gb_read": size, "gb_written": written},
        "read_back": summary([back]),
        "tenth": {"prepare": summary([ours for ours, _ in pairs]), "pandas": summary([peer for _, peer in pairs])}
        | {f"{key}_ratio": ratio(pairs, key) for key in KEYS},
    }
    record = records.write(
        given.out / ("mimic_gzip.cpu.json" if given.gzip else "mimic.cpu.json"),
        metrics=metrics,
        counts={
            "repeats": given.repeats,
            "cores": os.cpu_count(),
            "load_before": load,
            "read_back_notes": back["counts"]["notes"],
        }
        | full["counts"],
        inputs=[],
        params={"notes": given.notes, "gzip": given.gzip, "read_back_patients": READ_BACK},
        seconds=time.perf_counter() - started,
        device="cpu",
    )
    report(record)
    return record


def generate(folder: Path, n_notes: int, zipped: bool = False) -> None:
    """Write a folder of MIMIC-III's tables with so many notes, and patients, admissions and diagnoses in proportion."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(17)
    share = n_notes / N_NOTES
    n_patients, n_diagnoses = max(2, round(share * N_PATIENTS)), max(1, round(share * N_DIAGNOSES))
    n_stays = max(n_patients, round(share * N_STAYS))
    subject_of = np.concatenate([np.arange(n_patients), rng.integers(0, n_patients, n_stays - n_patients)])
    codes = np.array([f"{n:05}" for n in rng.integers(100, 99_999, 6_984)])
    owners = rng.integers(0, n_stays, n_diagnoses)
    tables = {
        "PATIENTS": ("SUBJECT_ID", ((s + 2,) for s in range(n_patients))),
        "ADMISSIONS": ("SUBJECT_ID,HADM_ID", ((s + 2, h + 100_001) for h, s in enumerate(subject_of))),
        "D_ICD_DIAGNOSES": ("ICD9_CODE", ((c,) for c in np.unique(codes))),
        "DIAGNOSES_ICD": (
            "SUBJECT_ID,HADM_ID,SEQ_NUM,ICD9_CODE",
            ((subject_of[h] + 2, h + 100_001, i % 39 + 1, codes[i % len(codes)]) for i, h in enumerate(owners)),
        ),
    }
    for name, (header, rows) in tables.items():
        lines = (",".join(f'"{x}"' if isinstance(x, str) else str(x) for x in row) for row in rows)
        (folder / f"{name}.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    opened, name = (gzip.open, "NOTEEVENTS.csv.gz") if zipped else (open, "NOTEEVENTS.csv")
    options = {"compresslevel": 6} if zipped else {}
    with opened(folder / name, "wb", **options) as stream:
        stream.write(f"{HEADER}\n".encode())
        stream.writelines(note_rows(rng, n_notes, subject_of))


def note_rows(rng: np.random.Generator, n_notes: int, subject_of: np.ndarray) -> Iterator[bytes]:
    """Yield the rows of NOTEEVENTS, sorted by category as in the release, so that a patient's notes lie far apart."""
    texts = [text.encode() for text in made_up(rng, min(N_TEXTS, n_notes))]
    chosen, stays = rng.integers(0, len(texts), n_notes), rng.integers(0, len(subject_of), n_notes)
    days, minutes = rng.integers(0, 36_500, n_notes), rng.integers(0, 1440, n_notes)
    dates = np.datetime_as_string(np.datetime64("2100-01-01") + days)
    chances = rng.random((4, n_notes))
    for i in range(n_notes):
        stay = "" if chances[0, i] < WITHOUT_STAY else str(stays[i] + 100_001)
        moment = f"{dates[i]} {minutes[i] // 60:02}:{minutes[i] % 60:02}:00" if chances[1, i] >= WITHOUT_TIME else ""
        wrong = "1" if chances[2, i] < ERRORS else ""
        category = CATEGORIES[i * len(CATEGORIES) // n_notes]
        start = (
            f'{i + 1},{subject_of[stays[i]] + 2},{stay},{dates[i]},{moment},{moment},"{category}","Report",,{wrong},"'
        )
        text = b"short" if chances[3, i] < SHORT else texts[chosen[i]]
        yield start.encode() + text + b'"\n'


def made_up(rng: np.random.Generator, n: int) -> list[str]:
    """Return texts of random words, with line breaks, commas and doubled quotes, as they stand between two quotes."""
    letters = rng.integers(97, 123, (N_WORDS, 9)).astype(np.uint8)
    words = [bytes(row[:k]).decode() for row, k in zip(letters, rng.integers(2, 10, N_WORDS), strict=True)]
    words[: len(SIGNS)] = SIGNS
    common = 1 / (np.arange(N_WORDS) + 20)  # nearly Zipf's law, the signs first
    lengths = np.exp(rng.normal(np.log(MEDIAN / LETTERS), SPREAD, n)).astype(int) + 10
    drawn = rng.choice(N_WORDS, lengths.sum(), p=common / common.sum())
    return [" ".join(words[i] for i in part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]


def table(folder: Path) -> Path:
    """Return the file of the notes."""
    return next(folder.glob("NOTEEVENTS.csv*"))


def apart(code: str, source: Path, target: Path) -> dict:
    """Run code in a process of its own; return its seconds, those of its cores, the memory it held, and what it counted.

    Raises:
        RuntimeError: if it failed.
    """
    started = time.perf_counter()
    command = [sys.executable, "-c", code + SAY, str(source), str(target)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=paths.ROOT)
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)  # this child's alone; `RUSAGE_CHILDREN` is the largest of all so far
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the process ended with {process.returncode}; its message stands above")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_gb": used.ru_maxrss * unit / 1e9,
        "counts": json.loads(said),
    }


def summary(runs: Sequence[dict]) -> dict[str, float]:
    """Return the middle of some runs.

    >>> summary([{"seconds": s, "cpu_seconds": 1.0, "peak_gb": 1 / s} for s in (4.0, 1.0, 2.0)])
    {'seconds': 2.0, 'cpu_seconds': 1.0, 'peak_gb': 0.5}
    """
    return {key: statistics.median(run[key] for run in runs) for key in KEYS}


def ratio(pairs: Iterable[tuple[dict, dict]], key: str) -> float:
    """Return the middle of what the peer takes for each of ours."""
    return statistics.median(peer[key] / ours[key] for ours, peer in pairs)


def report(record: dict) -> None:
    """Print what was measured."""
    found, tenth = record["metrics"], record["metrics"]["tenth"]
    whole, back = found["prepare"], found["read_back"]
    print(
        f"{record['counts']['notes_read']:,} notes, {whole['gb_read']:.2f} GB: {whole['seconds']:.1f} s"
        f" ({whole['cpu_seconds']:.1f} s of the cores' time),"
        f" {whole['peak_gb']:.2f} GB of memory, {whole['gb_written']:.2f} GB written"
    )
    print(f"{record['counts']['read_back_notes']:,} notes read back: {back['seconds']:.1f} s, {back['peak_gb']:.2f} GB")
    for name in ("prepare", "pandas"):
        one = tenth[name]
        print(
            f"a tenth, {name}: {one['seconds']:.1f} s ({one['cpu_seconds']:.1f} s of the cores' time),"
            f" {one['peak_gb']:.2f} GB"
        )
    print(f"pandas takes {tenth['seconds_ratio']:.2f} times as long, and {tenth['peak_gb_ratio']:.2f} times the memory")


if __name__ == "__main__":
    main()
