"""What does a person type? ``cardioembed fetch | seal | preview NAME``, ``cardioembed search PROFILE QUESTION``."""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from cardioembed_lib import files
from cardioembed_study import paths, records, settings
from cardioembed_study.corpus import manifests


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return 0, or 1 after one sentence that says what is wrong."""
    parser = argparse.ArgumentParser(prog="cardioembed", description="Texts, and what is found in them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fetch = commands.add_parser(
        "fetch", help="fetch and verify a text of data_manifests/; print its folder and documents"
    )
    fetch.add_argument("name", help="name of its manifest, such as openstax_nutrition")
    seal = commands.add_parser("seal", help="list the files of a text of your own anew, with their hashes")
    seal.add_argument("name", help="name of its manifest")
    preview = commands.add_parser("preview", help="show what a text gives: counts, a sample, what was dropped and why")
    preview.add_argument("name", help="name of its manifest")
    preview.add_argument("--html", type=Path, help="write it to this file, as a page for a browser")
    search = commands.add_parser(
        "search", help="show the sentences of a profile's texts that base and tuned model find nearest to a question"
    )
    search.add_argument(
        "profile", help="a file of profiles/, such as embedded; run its 01_corpus, or `make book`, first"
    )
    search.add_argument("question")
    search.add_argument(
        "--run", default="", help="a run of 02_train beside the base; by default the first of 03_retrieval"
    )
    search.add_argument("-k", type=int, default=5, help="sentences shown (5)")
    negatives = commands.add_parser(
        "negatives", help="draw mined hard negatives for a person to judge, as CSV with texts"
    )
    negatives.add_argument("profile", help="a file of profiles/ whose 01_corpus has run")
    negatives.add_argument("how", help="as the parameter negatives of 02_train, such as dense:10-50")
    negatives.add_argument("-n", type=int, default=60, help="drawn (60)")
    negatives.add_argument("--seed", type=int, default=17, help="of the draw (17)")
    judged = commands.add_parser(
        "judged", help="keep what was judged, without texts, and show how many negatives are false"
    )
    judged.add_argument(
        "sample", nargs="*", type=Path, help="a CSV of `negatives` with its column false_negative filled"
    )
    chosen = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings(record=True) as doubts:
            warnings.simplefilter("always", UserWarning)
            for line in _lines(chosen):
                sys.stdout.write(f"{_harmless(line)}\n")
        sys.stderr.writelines(f"{_harmless(str(doubt.message))}\n" for doubt in doubts if doubt.category is UserWarning)
    except (ValueError, KeyError, OSError, pl.exceptions.PolarsError) as error:
        sys.stderr.write(_harmless(f"{error.args[0] if isinstance(error, KeyError) else error}\n"))
        return 1
    return 0


def _harmless(text: str) -> str:
    """Return a text without characters that steer a terminal or turn its lines round; line ends and tabs stay."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "", text)


def answers(profile: str, question: str, run: str, k: int) -> Iterator[str]:
    """Yield the k sentences nearest to a question, best first, place by place: as the base finds them, then the tuned model.

    Args:
        profile: whose passages.
        question: any text.
        run: of ``02_train``; empty: the first of the profile's ``03_retrieval``, or the base alone until it is trained.
        k: sentences, at least 1; all, if there are no more.

    Raises:
        FileNotFoundError: no such profile, or its passages or the run are not there, with the notebook that makes them.
        ValueError: no such run, an empty question, or k below 1.
    """
    known = settings.profile(profile)
    if (
        run and run not in known.runs and not records.path(profile, "train", run).is_file()
    ):  # one started by hand has one
        raise ValueError(f"profile {profile} has no run {run!r}; {files.near_miss(run, known.runs)}")
    folder, asked = paths.artifacts(profile), settings.check("03_retrieval", known.notebooks["03_retrieval"])
    file = paths.need(folder / "corpus" / "passages.parquet", "01_corpus")
    table, base, adapters = pl.read_parquet(file).filter(kind="sentence"), asked.base, {"base": None}
    trained = [name for name in asked.runs[:1] if (paths.run(profile, name) / "adapter").exists()]
    for name in [run] if run else trained:
        base = records.read(paths.need(records.path(profile, "train", name), "02_train"))["params"]["base"]
        adapters[name] = paths.need(paths.run(profile, name) / "adapter", "02_train")
    found = {name: _nearest(table, question, k, base, adapter, folder) for name, adapter in adapters.items()}
    yield f"base is {base}" + "".join(f", {name} its tuned model" for name in adapters if name != "base")
    width = max(map(len, found))
    for place, hits in enumerate(zip(*found.values(), strict=True), start=1):
        for name, (score, row) in zip(found, hits, strict=True):
            yield f"{place}  {name:<{width}}  {score:.3f}  {row['document']}, {row['section']}\n     {row['text']}"


def _nearest(
    table: pl.DataFrame, question: str, k: int, base: str, adapter: Path | None, folder: Path
) -> list[tuple[float, dict[str, str]]]:
    """Return the cosines and the rows of the passages that one model finds nearest, best first."""
    # Here, since they take seconds to load and no other command needs them.
    from cardioembed_lib import encoder, models
    from cardioembed_study import embeddings
    from cardioembed_study.retrieval import search

    model = models.load(models.spec(base, paths.MODELS), adapter=adapter)
    asked = encoder.encode(model, [question], prompt=model.prompts.get("query", ""))
    texts, prompt = table["text"].to_list(), model.prompts.get("document", "")
    room = adapter.parents[2] if adapter else folder  # vectors lie with what they are made of
    pool = embeddings.cached(room / "embeddings", model, texts, prompt=prompt, progress=True)
    scores, places = search.exact(asked, pool, min(k, len(texts)))
    return [(float(score), table.row(int(i), named=True)) for score, i in zip(scores[0], places[0], strict=True)]


def _reviewed(chosen: argparse.Namespace) -> str:
    """Return a sample to judge, or the rates of what was judged, as CSV."""
    from cardioembed_study.training import review  # here, since it takes a second to load

    if chosen.command == "negatives":
        table = pl.read_parquet(paths.need(paths.pairs(chosen.profile, "definition"), "01_corpus"))
        return review.draw(table, chosen.how, chosen.n, chosen.seed).write_csv().rstrip()
    kept = dict.fromkeys(map(review.keep, chosen.sample))
    return review.rates(*kept).write_csv(float_precision=3).rstrip()


def fetched(source: manifests.Source) -> Iterator[str]:
    """Yield the folder of a source and, of a text to learn from, how many documents it has: a glossary of its own is none."""
    from cardioembed_study.corpus import books, passages, readers  # here, since they take a second to load

    yield str(folder := manifests.fetch(source))
    if source.format in books.FORMATS or source.format in readers.READERS:
        kinds = ([block.kind for block in held] for _, _, held in passages.documents(source, folder))
        n = (
            sum(not passages.is_glossary(held) for held in kinds)
            if source.format in manifests.BOOKS
            else len(manifests.documents(source))
        )
        yield f"{n:,} documents"


def previewed(source: manifests.Source, page: Path | None) -> Iterator[str]:
    """Yield what a source gives, line by line; with a page, only where that was written."""
    from cardioembed_study.corpus import preview  # here, since it takes seconds to load

    found = preview.of(source, Path() if source.access == "restricted" else manifests.fetch(source))
    if page is None:
        yield from preview.lines(found)
    else:
        preview.write(page, found)
        yield str(page)


def _lines(chosen: argparse.Namespace) -> Iterator[str]:
    if chosen.command == "search":
        return answers(chosen.profile, chosen.question, chosen.run, chosen.k)
    if chosen.command in ("negatives", "judged"):
        return iter([_reviewed(chosen)])
    if chosen.command == "seal":
        return iter([str(manifests.seal(chosen.name))])
    source = manifests.load(chosen.name)
    return fetched(source) if chosen.command == "fetch" else previewed(source, chosen.html)


if __name__ == "__main__":
    raise SystemExit(main())
