"""What does a person type? ``cardioembed fetch | seal | preview NAME``, ``cardioembed search PROFILE QUESTION``.

Of more sentences than memory holds, ``embed`` computes the vectors of a part, as jobs of a cluster do, and ``index`` puts all on
disk for ``search``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from filelock import FileLock
from numpy.typing import NDArray

from cardioembed_lib import files
from cardioembed_study import paths, records, settings
from cardioembed_study.corpus import manifests

if TYPE_CHECKING:
    import faiss


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
    embed = commands.add_parser(
        "embed", help="keep the vectors of a part of a profile's sentences: one job of a cluster"
    )
    index = commands.add_parser(
        "index", help="index a profile's sentences on disk, where they are too many for memory; search then uses it"
    )
    for parser_of in (embed, index):
        parser_of.add_argument("profile", help="a file of profiles/ whose 01_corpus has run")
        parser_of.add_argument("--run", default="", help="a run of 02_train; by default the base")
    embed.add_argument("--part", default="1/1", help="which of how many, such as 3/20 (1/1)")
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
    except (ValueError, KeyError, OSError, ImportError, RuntimeError, pl.exceptions.PolarsError) as error:
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
    asked = settings.check("03_retrieval", settings.profile(profile).notebooks["03_retrieval"])
    trained = [name for name in asked.runs[:1] if (paths.run(profile, name) / "adapter").exists()]
    found, table = {}, None
    for name in ["", *([run] if run else trained)]:
        pool = _Pool(profile, name, base_of=run or "".join(trained))
        found[name or "base"], table = pool.nearest(question, k), pool.table
    yield f"base is {pool.base}" + "".join(f", {name} its tuned model" for name in found if name != "base")
    width = max(map(len, found))
    for place, hits in enumerate(zip(*found.values(), strict=True), start=1):
        for name, (score, number) in zip(found, hits, strict=True):
            row = table.row(number, named=True)
            yield f"{place}  {name:<{width}}  {score:.3f}  {row['document']}, {row['section']}\n     {row['text']}"


class _Pool:
    """A profile's sentences as one model sees them.

    Args:
        profile: whose passages.
        run: of ``02_train``; empty: the base.
        base_of: the run whose base it is, where ``run`` is empty; empty: that of ``03_retrieval``.
    """

    def __init__(self, profile: str, run: str, base_of: str = "") -> None:
        from cardioembed_lib import models  # here, since it takes seconds to load and few commands need it
        from cardioembed_study import embeddings

        known, made = settings.profile(profile), run or base_of
        if (
            made and made not in known.runs and not records.path(profile, "train", made).is_file()
        ):  # one started by hand
            raise ValueError(f"profile {profile} has no run {made!r}; {files.near_miss(made, known.runs)}")
        file = paths.need(paths.artifacts(profile) / "corpus" / "passages.parquet", "01_corpus")
        self.table = pl.read_parquet(file).filter(kind="sentence")
        self.base = settings.check("03_retrieval", known.notebooks["03_retrieval"]).base
        if made:
            self.base = records.read(paths.need(records.path(profile, "train", made), "02_train"))["params"]["base"]
        adapter = paths.need(paths.run(profile, run) / "adapter", "02_train") if run else None
        self.model = models.load(models.spec(self.base, paths.MODELS), adapter=adapter)
        room = adapter.parents[2] if adapter else paths.artifacts(profile)  # vectors lie with what they are made of
        self.vectors = room / "embeddings"
        self.index = room / "index" / (run or "base")
        self.prompt = self.model.prompts.get("document", "")
        self.key = embeddings.key(self.model, [files.sha256(file)], self.prompt)

    def shards(self, part: int = 1, parts: int = 1) -> Iterator[NDArray]:
        """Yield the vectors of a part of the sentences, computed where they are not kept already."""
        from cardioembed_study import embeddings

        texts = self.table["text"].to_list()
        shards = -(-len(texts) // embeddings.SHARD)
        first, last = (embeddings.SHARD * (shards * i // parts) for i in (part - 1, part))
        return embeddings.stream(self.vectors, self.model, texts[first:last], prompt=self.prompt, progress=True)

    def nearest(self, question: str, k: int) -> list[tuple[float, int]]:
        """Return cosines and rows of the k nearest sentences, best first: of all, or by the index where there is one."""
        from cardioembed_lib import encoder
        from cardioembed_study import embeddings, search

        asked = encoder.encode(self.model, [question], prompt=self.model.prompts.get("query", ""))
        k = min(k, len(self.table))
        if self._of() == self.key and (self.index / "index.faiss").exists():
            index = self.indexed()
            scores, places = search.approximate(index, asked, k)
            if places.min() < 0:  # the cells looked into hold fewer
                index.nprobe = index.nlist
                scores, places = search.approximate(index, asked, k)
        else:
            scores, places = search.exact(asked, embeddings.joined(list(self.shards())), k)
        return [(float(score), int(place)) for score, place in zip(scores[0], places[0], strict=True)]

    def _of(self) -> str:
        """Return what the index on disk is of."""
        file = self.index / "of.txt"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def indexed(self) -> faiss.Index:
        """Return the index on disk, made where it is not, or is of other sentences or weights."""
        from cardioembed_study import search

        self.index.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.index.with_name(f".{self.index.name}.lock")):
            if self._of() != self.key:
                shutil.rmtree(self.index, ignore_errors=True)
                files.write(self.index / "of.txt", self.key)
            return search.faiss_on_disk(self.shards, self.index, len(self.table), progress=True)


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
    if chosen.command == "embed":
        if not (asked := re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", chosen.part)) or int(asked[1]) > int(asked[2]):
            raise ValueError(f"--part is {chosen.part!r}; wanted which of how many, such as 3/20")
        n = sum(map(len, _Pool(chosen.profile, chosen.run).shards(int(asked[1]), int(asked[2]))))
        return iter([f"{n:,} sentences"])
    if chosen.command == "index":
        return iter([f"{_Pool(chosen.profile, chosen.run).indexed().ntotal:,} sentences"])
    if chosen.command == "seal":
        return iter([str(manifests.seal(chosen.name))])
    source = manifests.load(chosen.name)
    return fetched(source) if chosen.command == "fetch" else previewed(source, chosen.html)


if __name__ == "__main__":
    raise SystemExit(main())
