"""What leaves the folder of artefacts: pages of one profile, or evidence that is committed?

``python -m cardioembed_study.workflow.publish assemble PROFILE`` lays the book's pages beside what the profile made, to be
built there; ``python -m cardioembed_study.workflow.publish evidence PROFILE`` copies a finished profile into ``book/``, and
the adapters that it names into ``adapters/``. What is copied is a list of names; what else lies in a folder stays there.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import nbformat

from cardioembed_lib import files
from cardioembed_study import clinical, paths, settings, show
from cardioembed_study import records as study_records
from cardioembed_study.settings import Profile
from cardioembed_study.workflow import executed, runner

FLOORS = (*(f"retrieval.{floor}.json" for floor in ("random", "bm25", "tfidf")), "similarity.tfidf.json")
PAGES = (
    "*.md",
    "*.yml",
    "*.bib",
    "_static/*",
    "executed/*/*.ipynb",
)  # what the book is written in, and what it shows of other profiles
SHOWN = re.compile(r"\b(tables|figures)/([\w-]+)")  # a table or figure that a page names
ENDS = {"tables": (".md", ".csv", ".html"), "figures": (".svg", ".csv")}
HOMES = re.compile(r"(?<![\w.])/(?:home|root|Users)/\w")
WEIGHTS = ("adapter_model.safetensors", "model.safetensors")  # an adapter's, or those of a model trained as a whole
BINARY = (".safetensors", ".png", ".npy", ".parquet")


def notebooks(profile: Profile) -> dict[str, str]:
    """Return the notebook that each executed copy of a profile comes from: ``02_train.r8.ipynb`` from ``02_train``.

    The cells of a grid are many and alike, and a run on clinical notes shows nothing outside ``restricted``: their records
    are published, their notebooks are not. Of a profile that ends early the last notebook is.
    """
    if profile.until != "06_report":
        return {f"{profile.until}.ipynb": profile.until}
    single = {f"{stem}.ipynb": stem for stem in settings.ENDS[profile.until] if stem != "02_train"}
    shown = [run for run in profile.runs if run not in profile.grid and not settings.on_notes(profile.runs[run])]
    return single | {f"02_train.{run}.ipynb": "02_train" for run in shown}


def records(profile: Profile) -> dict[str, list[str]]:
    """Return the names of the records that each notebook of a finished profile has written at least."""
    retrieval = settings.check("03_retrieval", profile.notebooks["03_retrieval"])
    mteb = settings.check("04_mteb", profile.notebooks["04_mteb"])
    names = {
        "01_corpus": ["corpus.all"],
        "01_notes": ["notes.all"],
        "01_queries": ["queries.all"],
        "02_train": [f"train.{run}" for run in profile.runs],
        "03_retrieval": [f"{kind}.{model}" for kind in ("retrieval", "similarity") for model in _models(retrieval)]
        + [f"retrieval.{show.WITH_BM25}{model}" for model in _models(retrieval)]
        + [f"{kind}.{recipe}" for kind in ("comparison", "advice") for recipe in _recipes(profile, retrieval.runs)]
        + [
            f"hybrid.{recipe}"
            for recipe in (retrieval.base, *(_recipes(profile, retrieval.runs) if retrieval.runs else []))
        ],
        "03_domain": [f"domain.{part}" for part in ("power", "matrix", "folds")],
        "04_medembed": [
            f"medembed.{part}" for part in ("negatives", "recipes", "merges", "prompts", "sizes", "widths", "late")
        ],
        "04_mteb": [f"mteb.{model}" for model in _models(mteb)]
        + [f"forgetting.{recipe}" for recipe in _recipes(profile, mteb.runs)],
        "05_mimic": [f"mimic.{model}" for model in _encoders(profile)] + ["effects.all"],
    }
    return {stem: [f"{name}.json" for name in of_stem] for stem, of_stem in names.items()}


def _published(profile: Profile) -> list[str]:
    """Return the names of the records that a finished profile has written at least."""
    asked = ["01_queries"] if any(map(settings.on_queries, profile.runs.values())) else []
    stems = [*settings.ENDS[profile.until], *asked]
    return [name for stem, names in records(profile).items() if stem in stems for name in names]


def _encoders(profile: Profile) -> list[str]:
    """Return what 05 measures: the floor and every encoder, or the base's record that says why nothing was."""
    p = settings.check("05_mimic", profile.notebooks["05_mimic"])
    studied = settings.check("01_notes", profile.notebooks["01_notes"]).source
    return ["bm25", *p.encoders] if studied else [p.base]


def _recipes(profile: Profile, runs: Sequence[str]) -> list[str]:
    """Return the recipes of some runs; without runs one record says that nothing was compared."""
    recipes = [settings.check("02_train", profile.runs[run]).recipe for run in runs]
    return list(dict.fromkeys(recipes or [settings.defaults("02_train")["recipe"]]))


def _models(parameters: settings.Retrieval | settings.Mteb) -> list[str]:
    return list(dict.fromkeys([parameters.base, *parameters.runs]))


def assemble(name: str) -> Path:
    """Return ``artifacts/<profile>/book``: the book's pages with this profile's notebooks, records, tables and figures.

    Beside it, ``adapters`` then holds the adapters that the profile names, each with its card: of a private text they are
    nowhere else.

    Raises:
        FileNotFoundError: something is missing.
        ValueError: a record is not as it was written, or a notebook shows more of clinical notes than records. The folder is
            as before then.
    """
    profile, made = settings.profile(name), paths.artifacts(name)
    _refuse_missing(profile, made)
    if clinical.access(name) != clinical.OPEN:
        _refuse_stale(profile, made)
    copies, folder = _evidence(profile, made), made / "book"
    pages = {file: file.relative_to(paths.BOOK) for pattern in PAGES for file in paths.BOOK.glob(pattern)}
    below = f"artifacts/{name}/"
    adapters = {made / "adapters" / own: _adapter(own, run, made, below) for own, run in profile.adapters.items()}
    _replace({folder: pages | {paths.ROOT / "_config.yml": Path("_config.yml")} | copies} | adapters)
    return folder


def evidence(name: str) -> list[Path]:
    """Replace the committed evidence by what a finished profile made, and return the folders written.

    Of the runs' adapters those are copied that the profile names, each with a card made of the records; they replace all of
    ``adapters/``. A profile that names none leaves that folder as it is.

    Raises:
        FileNotFoundError: something is missing.
        ValueError: as for ``assemble``; or a notebook was executed from older code, a file names a folder of a machine, or a
            run left over from earlier is still among the records. Nothing is written then.
    """
    profile, made = settings.profile(name), paths.artifacts(name)
    _refuse_missing(profile, made)
    _refuse_stale(profile, made)
    targets: dict[Path, dict[Path, Path]] = {}
    whole = profile.until == "06_report"
    others = {file: file.relative_to(paths.BOOK) for file in paths.BOOK.glob("executed/*/*.ipynb")}  # of other profiles
    for source, target in (_evidence(profile, made) | (others if whole else {})).items():
        folder = paths.BOOK / (target.parts[0] if whole and target.parts[0] != "results" else target.parent)
        targets.setdefault(folder, {})[source] = (paths.BOOK / target).relative_to(folder)
    adapters = {paths.ADAPTERS / folder: _adapter(folder, run, made) for folder, run in profile.adapters.items()}
    targets |= adapters
    for source in (source for copies in targets.values() for source in copies):
        _refuse_paths(source)
    _replace(targets)
    for stale in paths.ADAPTERS.iterdir() if adapters else ():
        if stale not in adapters and stale.is_dir():
            shutil.rmtree(stale)
    if whole:
        _write_readme(name)
    return sorted(targets)


def _adapter(folder: str, run: str, made: Path, below: str = "") -> dict[Path, Path]:
    """Return where, in its own folder, each file of an adapter goes: what was trained, and a card written now."""
    from cardioembed_study.workflow import cards  # figures and models come with it, which the graph does without

    adapter = made / "runs" / run / "adapter"
    trained = files.verify(adapter / "SHA256SUMS", [], f"run 02_train for {run} again")
    card = cards.write(made / "cards" / folder, folder, run, made / "results", below)
    return {card: Path(card.name)} | {adapter / file: Path(file) for file in ("SHA256SUMS", *trained)}


def _replace(targets: Mapping[Path, Mapping[Path, Path]]) -> None:
    """Replace folders by copies of files (place to path inside), all of them whole before the first takes its place."""
    names = {folder: [folder.with_name(f".{folder.name}.{end}") for end in ("aside", "old")] for folder in targets}
    for folder, (aside, old) in names.items():
        if old.exists() and not folder.exists():  # killed between the two
            old.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
        for source, target in targets[folder].items():
            with files.replacing(aside / target) as copy:
                shutil.copyfile(source, copy)
    for folder, (aside, old) in names.items():
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Assemble pages or publish evidence; return 0, or 1 after a message."""
    parser = argparse.ArgumentParser(prog="python -m cardioembed_study.workflow.publish", description=__doc__)
    parser.add_argument("what", choices=["assemble", "evidence"])
    parser.add_argument("profile")
    chosen = parser.parse_args(arguments)
    try:
        done = [assemble(chosen.profile)] if chosen.what == "assemble" else evidence(chosen.profile)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.writelines(f"wrote {_short(folder)}\n" for folder in done)
    return 0


def _evidence(profile: Profile, made: Path) -> dict[Path, Path]:
    """Return where, below the book, each file of a finished profile goes.

    Raises:
        ValueError: as for ``assemble``.
    """
    mteb = settings.check("04_mteb", profile.notebooks["04_mteb"])
    optional = [
        *FLOORS,
        *(f"curve.{run}.json" for run in mteb.curves),
        "choice.all.json",
        *(f"mteb-not-run.{task}.json" for task in mteb.tasks),
    ]
    names = [*_published(profile), *(optional if profile.until == "06_report" else [])]
    kept = {made / "results" / name: Path("results") / profile.name / name for name in names}
    kept = {file: place for file, place in kept.items() if file.is_file()}
    _refuse_records(kept)
    room = Path("executed") if profile.until == "06_report" else Path("executed") / profile.name
    copies = {made / "executed" / name: room / name for name in notebooks(profile)}
    _refuse_outputs(copies)
    if profile.until != "06_report":
        return copies | kept
    pages = [page.read_text(encoding="utf-8") for page in (*paths.BOOK.glob("*.md"), paths.ROOT / "README.md")]
    shown = {f"{room}/{name}" for page in pages for room, name in SHOWN.findall(page)} | {"tables/claims-headline"}
    files_of = [file for room in ("tables", "figures") for file in _files(made / room)]
    copies |= {file: file.relative_to(made) for file in files_of if _is_shown(file, shown)}
    wanted = {f"{task}.json" for task in mteb.tasks} | {"model_meta.json", "run_settings.jsonl"}
    models = tuple(f"__{model}" for model in _models(mteb))
    measured = [file for file in _files(made / "mteb") if file.name in wanted and file.parts[-3].endswith(models)]
    copies |= kept | {file: file.relative_to(made) for file in measured}
    if links := [file for file in copies if file.is_symlink()]:
        raise ValueError(f"{_short(links[0])} is a link to another file; take it away, and run what makes the file")
    return copies


def _is_shown(file: Path, shown: Collection[str]) -> bool:
    """Return whether a page shows a table or figure: its file, the numbers of it, or one of the parts it is made of."""
    name, n = re.fullmatch(r"(.+?)(?:-(\d))?", file.stem).groups()
    whole = file.with_name(f"{name}.md")
    part = n and whole.is_file() and int(n) <= whole.read_text(encoding="utf-8").count("\n**")
    return f"{file.parent.name}/{name if part else file.stem}" in shown and file.suffix in ENDS[file.parent.name]


def _refuse_records(kept: Mapping[Path, Path]) -> None:
    """Refuse records that are not as they were written, and notes of whose access nothing is known.

    Raises:
        ValueError: naming the record.
    """
    for file in kept:
        record = study_records.read(file)
        if file.name == "notes.all.json" and record["status"] == "run":
            known = [text.get("access") for text in record["params"].get("read", {}).values()]
            if known not in (["open"], ["restricted"]):
                raise ValueError(f"{file.name} does not say how its notes may be used; run 01_notes again")


def _refuse_outputs(copies: Mapping[Path, Path]) -> None:
    """Refuse copies of notebooks on clinical notes that show more than tables of records.

    Raises:
        ValueError: naming the first such cell.
    """
    for file in copies:
        if file.stem not in runner.ON_NOTES:
            continue
        for cell in nbformat.read(file, as_version=4).cells:
            told = runner.FROM_RECORDS in cell.metadata.get("tags", [])
            for output in cell.get("outputs", []):
                if not told or output.get("data", {}).keys() != {"text/markdown"}:
                    raise ValueError(
                        f"{file.name}, cell {cell.id!r}, shows what was not made of records alone; make it anew with "
                        "`make book`, and keep what papermill writes elsewhere"
                    )


def readme_table(text: str, table: str, profile: str) -> str:
    """Return the README with another table between its two comment marks, the profile named above it."""
    before, rest = text.split("<!-- table -->")
    after = rest.split("<!-- /table -->")[1]
    said = f"Ours are of profile `{profile}`; what the specialty adds, of `domain`:"
    return f"{before}<!-- table -->\n{said}\n\n{for_readme(table).strip()}\n<!-- /table -->{after}"


def for_readme(table: str) -> str:
    """Return a table of the book with its links as they hold from the README, where pages are sources in ``book/``.

    >>> for_readme('| <a href="claims.html#a.b">words</a> | [3 · Retrieval](executed/03_retrieval) | [Data](data) |')
    '| [words](book/claims.md) | [3 · Retrieval](book/executed/03_retrieval.ipynb) | [Data](book/data.md) |'
    """
    table = re.sub(r'<a href="claims\.html#[^"]*">(.*?)</a>', r"[\1](book/claims.md)", table)
    table = re.sub(r"\]\((executed/[\w.-]+)\)", r"](book/\1.ipynb)", table)
    return re.sub(r"\]\(([\w-]+)(?:#[\w.-]+)?\)", r"](book/\1.md)", table)


def _write_readme(profile: str) -> None:
    readme = paths.ROOT / "README.md"
    table = (paths.BOOK / "tables" / "claims-headline.md").read_text(encoding="utf-8").split("-->\n", 1)[1]
    files.write(readme, readme_table(readme.read_text(encoding="utf-8"), table, profile))


def _refuse_missing(profile: Profile, made: Path) -> None:
    wanted = [made / "executed" / name for name in notebooks(profile)]
    wanted += [made / "results" / name for name in _published(profile)]
    missing = [path for path in wanted if not path.is_file()]
    trained = [made / "runs" / run / "adapter" for run in profile.adapters.values()]  # the records tell of all others
    missing += [folder / WEIGHTS[0] for folder in trained if not any((folder / name).is_file() for name in WEIGHTS)]
    rooms = ("tables", "figures") if profile.until == "06_report" else ()
    missing += [made / room for room in rooms if not _files(made / room)]
    if missing:
        names = ", ".join(path.relative_to(made).as_posix() for path in missing)
        raise FileNotFoundError(
            f"profile {profile.name} is not finished: {names}; run `make book PROFILE={profile.name}`"
        )


def _refuse_stale(profile: Profile, made: Path) -> None:
    older = []
    for name, stem in notebooks(profile).items():
        shown = executed.code(nbformat.read(made / "executed" / name, as_version=4))
        source = executed.code(nbformat.read(paths.NOTEBOOKS / f"{stem}.ipynb", as_version=4))
        older += [name] * (shown != source)
    again = f"run `make book PROFILE={profile.name}` again"
    if older:
        raise ValueError(f"{', '.join(older)}: executed from older code than notebooks/ has; {again}")
    kept = {file.name.removeprefix("train.").removesuffix(".json") for file in (made / "results").glob("train.*.json")}
    if left := sorted(kept - set(profile.runs)):
        raise ValueError(
            f"{_short(made / 'results')} has records of {left[0]!r}, no run of profile {profile.name}; delete *.{left[0]}.json"
        )


def _refuse_paths(file: Path) -> None:
    if file.suffix in BINARY:
        return
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if executed.machine_paths(line) or HOMES.search(line):
            raise ValueError(f"{_short(file)}, line {number}, names a folder of this machine; nothing was published")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))


def _short(path: Path) -> str:
    return path.relative_to(paths.ROOT).as_posix() if path.is_relative_to(paths.ROOT) else str(path)


if __name__ == "__main__":
    raise SystemExit(main())
