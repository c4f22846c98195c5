"""Which passages does a source give, which are repeats, and which split is each document in?

Repeats are told by the Jaccard similarity of word 3-shingles: one changed word changes three of them, so at 0.9 two
sentences of 30 words are alike only if they differ at an end. Where they differ in a number, a negation or a side, both
are kept (``shingles.same_meaning``).
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import polars as pl
from tqdm import tqdm

from cardioembed_lib import files
from cardioembed_study.corpus import blocks, books, cleaning, manifests, pairs, readers, shingles

SCHEMA = {
    "passage_id": pl.String,
    "source": pl.String,
    "document": pl.String,
    "topic": pl.String,
    "section": pl.String,
    "kind": pl.String,
    "terms": pl.List(pl.String),
    "text": pl.String,
}
SPLITS = ("train", "dev", "test")
FEWEST = 3  # documents that a source needs, so that one can be held out each for dev and test
FRACTIONS = (0.8, 0.1, 0.1)  # ours: the paper does not say how many documents it held out
ENTRIES = 10  # ours: a document that is a glossary has at least so many entries for each other passage
THRESHOLD = 0.9  # ours: Jaccard similarity from which two sentences say the same


def prepare(source: manifests.Source, folder: Path) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the passages of one source in reading order, and what was counted on the way.

    Prose becomes sentences, of which short ones (paper section 2.1) and noise are dropped. Glossary entries, questions
    and answers are cleaned but kept whole. The entries of a glossary that is a document of its own belong to the documents that
    introduce their terms.

    Args:
        source: a manifest; its name, format and cardiology are read.
        folder: the verified folder of its files (``manifests.fetch``).

    Returns:
        A frame with the columns of ``SCHEMA``, and counts: documents, blocks of each kind, sentences_raw, too_short,
        noise, sentences, glossary, questions, answers; ``left_out`` of a glossary that is a document of its own.

    Raises:
        FileNotFoundError: a document of the manifest is not in the folder.
        ValueError: a document that cannot be read (see ``readers.read``).
    """
    counts: Counter[str] = Counter()
    rows = [
        row
        for path, name, blocks in documents(source, folder)
        for row in _document(source, _topic(source, path, name), name, blocks, counts)
    ]
    read = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    frame = with_entries_placed(read)
    counts["documents"] -= read["document"].n_unique() - frame["document"].n_unique()
    counts.update({"left_out": len(read) - len(frame)} if len(frame) < len(read) else {})
    return frame, _named(counts)


def with_entries_placed(frame: pl.DataFrame) -> pl.DataFrame:
    """Return one source, each entry of a glossary that is a document of its own in the document that introduces its term.

    So an entry has the topic and the split of the sentence that it is paired with, and the glossary, which is in no split, is
    no document. Where several documents introduce a term, the first has the entry, but one with an entry of its own goes
    before: what is learnt of a term in one split is not asked in another. What else the glossary holds is left out: terms
    that nobody introduces, and its own prose.

    Args:
        frame: passages of one source, in reading order; identifiers and order stay.
    """
    kinds = frame.group_by("document", maintain_order=True).agg("kind")
    apart = [document for document, held in kinds.iter_rows() if is_glossary(held)]
    if len(apart) in (0, len(kinds)):
        return frame
    first: dict[str, dict] = {}
    chapters = frame.filter(~pl.col("document").is_in(apart))
    homes = pl.concat([chapters.filter(kind=kind) for kind in ("glossary", "sentence")])
    for row in homes.iter_rows(named=True):
        for term in row["terms"]:
            first.setdefault(pairs.key(term), row)
    return pl.DataFrame(list(_placed(frame, apart, first)), schema=SCHEMA, orient="row")


def _placed(frame: pl.DataFrame, apart: Sequence[str], first: dict[str, dict]) -> Iterator[dict]:
    for row in frame.iter_rows(named=True):
        if row["document"] not in apart:
            yield row
        elif row["kind"] == "glossary" and (home := first.get(pairs.key(row["terms"][0]))):
            title = home["section"].split(" > ")[0]
            yield row | {k: home[k] for k in ("document", "topic")} | {"section": f"{title} > {row['section']}"}


def is_glossary(kinds: Sequence[str]) -> bool:
    """Whether a document with passages, or blocks, of these kinds is a glossary: entries and hardly anything else.

    >>> is_glossary(["sentence", *["glossary"] * 10]), is_glossary(["sentence", *["glossary"] * 9]), is_glossary(["glossary"])
    (True, False, True)
    """
    entries = sum(kind == "glossary" for kind in kinds)
    return entries > 0 and ENTRIES * (len(kinds) - entries) <= entries


def _named(counts: Counter[str]) -> dict[str, int]:
    keys = ["documents", "sentences_raw", "too_short", "noise", "sentences", "glossary", "questions", "answers"]
    return {key: counts[key] for key in keys} | {key: counts[key] for key in sorted(counts) if key not in keys}


def document_name(path: str) -> str:
    """Return the short name of a document; ``documents`` refuses a source of which two files have one.

    >>> document_name("modules/m46650/index.cnxml"), document_name("8_NHLBI_QA_XML/0000001.xml")
    ('m46650', '8_NHLBI_QA_XML/0000001')
    """
    stem = PurePosixPath(path).with_suffix("").as_posix()
    return stem.removesuffix("/index").removeprefix("modules/")


def documents(source: manifests.Source, folder: Path) -> Iterator[tuple[str, str, list[blocks.Block]]]:
    """Yield file, name and blocks of each document of a source, in reading order.

    One file is one document, but a whole book: an EPUB always, and other formats of ``manifests.BOOKS`` where the source has
    fewer than three files. Its chapters are documents, named by file, number and title.

    Raises:
        FileNotFoundError: a file of the manifest is not in the folder.
        ValueError: a file that cannot be read, two documents of one name, or field ``cardiology`` names a chapter that no file
            has.
    """
    paths = manifests.documents(source)
    book = source.format in manifests.BOOKS
    named: dict[str, str] = {}
    for path in () if book else paths:
        if (other := named.setdefault(name := document_name(path), path)) != path:
            raise ValueError(f"{source.name}: {other} and {path} would both be document {name!r}; rename one of them")
    divide = book and (source.format == "epub" or len(paths) < FEWEST)
    found, chapters = [], 0
    for path in tqdm(paths, desc=source.name, unit="doc", leave=False):
        for ending, held in readers.documents(_bytes(source, folder, path), source.format, path, divide):
            found.append(path + ending)
            chapters += not is_glossary([block.kind for block in held])
            yield path, found[-1] if book else document_name(path), held
    wanted = [name for name in source.cardiology if "#" in name] if book and source.cardiology != "all" else []
    if unknown := [name for name in wanted if name not in found]:
        near = files.near_miss(unknown[0], found)[:400]
        raise ValueError(f"{source.name}.yaml: field 'cardiology' names {unknown[0]!r}, no chapter of it; {near}")
    if book and chapters < FEWEST:
        warnings.warn(
            f"{source.name}: chapters found: {chapters}, wanted: at least {FEWEST}; nothing can be held out for tests. Give "
            "chapters headings of one level (in Word the style Heading 1), or save each as a file of its own",
            stacklevel=2,
        )


def _bytes(source: manifests.Source, folder: Path, path: str) -> bytes:
    file = folder / path
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; manifest {source.name} lists it: fetch the source again")
    largest = books.LARGEST if source.format in books.ZIPPED else readers.LARGEST
    if (size := file.stat().st_size) > largest:
        raise ValueError(f"{file} has {size:,} bytes, wanted at most {largest:,}; divide it, one file a chapter")
    return file.read_bytes()


def _topic(source: manifests.Source, path: str, name: str) -> str:
    of_topic = source.cardiology == "all" or path in source.cardiology or name in source.cardiology
    return "cardiology" if of_topic else "other"


def _document(
    source: manifests.Source, topic: str, name: str, blocks: list[blocks.Block], counts: Counter[str]
) -> Iterator[tuple]:
    counts["documents"] += 1
    counts.update(f"blocks_{block.kind}" for block in blocks)
    passages = ((block, kind, terms, text) for block in blocks for kind, terms, text in _passages(block))
    for n, (block, kind, terms, text) in enumerate(passages):
        if _keep(kind, text, counts):
            section = " > ".join(block.section)
            yield f"{source.name}:{name}:{n:05d}", source.name, name, topic, section, kind, list(terms), text


def _passages(block: blocks.Block) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield kind, terms and text of each passage of a block; a term goes with the first sentence that has it."""
    text = cleaning.clean(block.text)
    if block.kind not in blocks.PROSE:
        yield block.kind, block.terms, text
        return
    left = list(block.terms)
    for sentence in cleaning.sentences(text):
        terms = tuple(term for term in left if cleaning.clean(term) in sentence)
        left = [term for term in left if term not in terms]
        yield "sentence", terms, sentence


_PLURALS = {"sentence": "sentences", "question": "questions", "answer": "answers", "glossary": "glossary"}


def _keep(kind: str, text: str, counts: Counter[str]) -> bool:
    """Count a passage; questions and answers are never dropped, so that pairs stay pairs."""
    fate = _PLURALS[kind]
    if kind == "sentence":
        counts["sentences_raw"] += 1
        fate = "too_short" if len(text) < cleaning.MIN_CHARS else "noise" if cleaning.is_noise(text) else fate
    counts[fate] += 1
    return fate == _PLURALS[kind]


def deduplicate(
    frame: pl.DataFrame, threshold: float = THRESHOLD, seed: int = 17
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the frame without repeats, the first of each kept, and how many were removed.

    Exact repeats (case and spaces aside) are removed within each kind: a glossary entry repeats if term and meaning
    do; a question only together with its answer. Near repeats are removed among sentences alone: a definition in
    other words is what the study is about.

    Args:
        frame: passages, in the order in which the first is to be kept.
        threshold: 0 to 1, Jaccard similarity of word 3-shingles.
        seed: of the hash functions that propose candidates; each is then verified.
    """
    n_rows = frame.height
    frame = frame.with_columns(_key().alias("_key")).unique("_key", keep="first", maintain_order=True).drop("_key")
    sentences = frame.filter(kind="sentence").select("passage_id", "text")
    repeats = shingles.repeats(sentences["text"].to_list(), threshold, seed)
    removed = sentences[sorted(repeats)].select("passage_id") if repeats else sentences.head(0).select("passage_id")
    kept = frame.join(removed, on="passage_id", how="anti", maintain_order="left")
    counts = {"exact_duplicates": n_rows - frame.height, "near_duplicates": len(repeats), "kept": kept.height}
    return kept, counts


def _key() -> pl.Expr:
    """Return what makes two passages exact repeats: kind, text, and the term or the other half of a pair."""
    text = pl.col("text").str.to_lowercase().str.replace_all(r"\s+", " ")
    term = pl.when(kind="glossary").then(pl.col("terms").list.join("|").str.to_lowercase()).otherwise(pl.lit(""))
    other = pl.when(kind="question").then(text.shift(-1)).when(kind="answer").then(text.shift(1)).otherwise(pl.lit(""))
    return pl.concat_str("kind", text, term, other, separator="\x1f", ignore_nulls=True)


def split(frame: pl.DataFrame, fractions: tuple[float, ...] = FRACTIONS, seed: int = 17) -> pl.DataFrame:
    """Return the frame with a column ``split``; no document is in two, whatever the order of rows.

    Documents are ordered by a hash within each source and topic; a stratum of three or more gives at least one
    document each to test and dev, a smaller one is all train.

    Args:
        frame: passages.
        fractions: of documents in train, dev and test; sum 1.
        seed: part of the hash.

    Raises:
        ValueError: fractions that are not three, or do not sum to 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"split fractions are {tuple(fractions)}; wanted three (train, dev, test) that sum to 1")
    strata = frame.group_by("source", "topic").agg(pl.col("document").unique())
    rows = [
        (source, topic, document, where)
        for source, topic, documents in strata.iter_rows()
        for document, where in _assigned(source, documents, fractions, seed)
    ]
    keys = ["source", "topic", "document"]
    places = pl.DataFrame(rows, schema=dict.fromkeys([*keys, "split"], pl.String), orient="row")
    return frame.drop("split", strict=False).join(places, on=keys, how="left", maintain_order="left")


def _assigned(source: str, documents: list[str], fractions: Iterable[float], seed: int) -> Iterator[tuple[str, str]]:
    ordered = sorted(documents, key=lambda name: hashlib.sha256(f"{seed}:{source}:{name}".encode()).digest())
    _, dev, test = (_share(len(ordered), fraction) for fraction in fractions)
    for n, document in enumerate(ordered):
        yield document, "test" if n < test else "dev" if n < test + dev else "train"


def _share(n_documents: int, fraction: float) -> int:
    return max(1, round(n_documents * fraction)) if n_documents >= FEWEST and fraction > 0 else 0


def near_duplicate_audit(frame: pl.DataFrame, threshold: float = THRESHOLD, seed: int = 17) -> pl.DataFrame:
    """Return the train passages that repeat a dev or test passage, of any kind; remove them with an anti-join.

    A question or answer that repeats one held out is returned with the other half of its pair.

    Args:
        frame: passages with a split.
        threshold: 0 to 1, Jaccard similarity of word 3-shingles.
        seed: as in ``deduplicate``.

    Returns:
        passage_id, match_id (the held-out passage) and jaccard; its height is the count of the record.
    """
    held = frame.filter(pl.col("split") != "train")
    train = frame.filter(split="train")
    texts = held["text"].to_list() + train["text"].to_list()
    found = shingles.repeats(texts, threshold, seed, n_reference=held.height)
    ids = held["passage_id"].to_list() + train["passage_id"].to_list()
    rows = [(ids[n], ids[match], jaccard) for n, (match, jaccard) in sorted(found.items())]
    return _with_partners(pl.DataFrame(rows, schema=_AUDIT, orient="row"), train)


_AUDIT = {"passage_id": pl.String, "match_id": pl.String, "jaccard": pl.Float64}


def _with_partners(offenders: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    """Return the offenders and, for each question, its answer, and the reverse."""
    partner = pl.when(kind="question").then(pl.col("passage_id").shift(-1))
    partner = partner.when(kind="answer").then(pl.col("passage_id").shift(1))
    pairs = train.select("passage_id", partner.alias("partner")).drop_nulls()
    partners = offenders.join(pairs, on="passage_id").select(pl.col("partner").alias("passage_id"), *list(_AUDIT)[1:])
    return pl.concat([offenders, partners]).unique("passage_id", keep="first", maintain_order=True)
