"""Which queries and paraphrases are written of a profile's passages, by whom, at which cost, and which pairs do they make?"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from cardioembed_lib import files
from cardioembed_study import paths, records, remote
from cardioembed_study.corpus import manifests, pairs
from cardioembed_study.queries import asking, rules, writers
from cardioembed_study.settings import Queries

SCHEMA = {
    "query": pl.String,
    "query_type": pl.String,
    "passage": pl.String,
    "relevance": pl.Int64,
    "passage_ids": pl.List(pl.String),
    "source": pl.String,
    "document": pl.String,
    "topic": pl.String,
    "split": pl.String,
    "writer": pl.String,
}
PAIRED = 2  # relevance from which a query and its passage are a pair; ours
CHARACTERS = 4  # of English text in a token, about
REPLIES = "queries/replies.sqlite"
_Answer = tuple[list[tuple[str, int]], list[writers.Reply], list[str]]  # queries and grades, replies, faults
NONE_SENT = "a dry run: counts and cost were estimated, nothing was sent and nothing written"


@dataclass
class Plan:
    """What is asked, and what may be sent and paid for that is not known yet."""

    passages: pl.DataFrame
    tasks: list[asking.Task] = field(default_factory=list)
    writer: str = rules.NAME
    counts: dict[str, Any] = field(default_factory=dict)
    cost: float = 0.0


def plan(p: Queries) -> Plan:
    """Return what the parameters ask for; nothing is sent, no key is read and no model loaded.

    Raises:
        FileNotFoundError: ``01_corpus`` was not run.
        ValueError: a service is to write, and texts may not be sent to it.
    """
    passages = pl.read_parquet(paths.need(_file(p, "corpus/passages.parquet"), "01_corpus"))
    passages = passages.filter(topic="cardiology") if p.cardiology_only else passages
    if p.writer == "rule":
        return Plan(passages)
    if p.writer == "service":
        refuse_access(
            {name: manifests.load(name).access for name in passages["source"].unique().sort()}, p.send_private
        )
    made, texts = Plan(passages, asking.tasks(passages, p), Path(p.model).name), asking.prompts()
    known, identity = writers.Known(_file(p, REPLIES)), writers.identity(p.service, p.model, p.most_tokens)
    asked = [messages for task in made.tasks if not known.get(identity, messages := asking.first(task, texts))]
    known.close()
    characters = sum(len(message["content"]) for messages in asked for message in messages)
    made.counts = {"passages": len(made.tasks), "requests": len(asked), "prompt_tokens": characters // CHARACTERS}
    made.counts["completion_tokens"] = len(asked) * p.most_tokens
    made.cost = _cost(p, made.counts)
    return made


def refuse_access(access: dict[str, str], send_private: bool) -> None:
    """Refuse to send texts that must stay here.

    Args:
        access: of each source, by its name.
        send_private: whether its owner allows private texts to be sent.

    Raises:
        ValueError: naming the source.

    >>> refuse_access({"mine": "private"}, send_private=True)
    """
    for name, given in access.items():
        if given == "private" and not send_private:
            raise ValueError(
                f"{name} is private, so nothing of it is sent to a service; set send_private if its licence allows that, or "
                "choose writer 'local' or 'rule'"
            )
        if given not in (*remote.SENDABLE, "private"):
            raise ValueError(
                f"{name} is {given}: nothing of it is ever sent to a service; choose writer 'local' or 'rule'"
            )


def write(p: Queries, planned: Plan) -> dict[str, Any]:
    """Write queries, pairs and the record ``queries.all``, and return the record; of a dry run the record alone.

    Raises:
        ValueError: a service refuses, or the key is missing.
        OSError: it cannot be reached or stays busy; what is done is kept.
    """
    place = records.path(p.profile, "queries", "all")
    params = p.model_dump(exclude={"service"}) | {"written_by": planned.writer, "model": Path(p.model).name}
    inputs = [_file(p, "corpus/passages.parquet"), paths.PROMPTS]
    if p.dry_run:
        return records.write(
            place, metrics={}, counts=planned.counts, inputs=inputs, params=params, status="not run", reason=NONE_SENT
        )
    if p.writer == "rule":
        rows, counts = rules.write(planned.passages, p.kinds), {}
        rows = [row for kind in p.kinds for row in _drawn([row for row in rows if row[1] == kind], p)]
    else:
        rows, counts = ask(planned.tasks, _writer(p), _file(p, REPLIES))
    written = pl.DataFrame(rows, schema=SCHEMA, orient="row").unique(
        ["query", "passage"], keep="first", maintain_order=True
    )
    paired = pair(written)
    for file, frame in {"queries/queries": written, **{f"pairs/{kind}": f for kind, f in paired.items()}}.items():
        with files.replacing(_file(p, f"{file}.parquet")) as aside:
            frame.write_parquet(aside)
    counted = {f"written_{kind}": len(written.filter(query_type=kind)) for kind in p.kinds} | counts
    counted["pairs"] = {k: dict(f["split"].value_counts(sort=True).iter_rows()) for k, f in paired.items()}
    metrics = {"cost": _cost(p, counts["tokens"])} if p.writer == "service" else {}
    return records.write(place, metrics=metrics, counts=counted, inputs=inputs, params=params)


def ask(tasks: Sequence[asking.Task], writer: writers.Writer, kept: Path) -> tuple[list[tuple], dict[str, Any]]:
    """Return rows of ``SCHEMA`` in the order of the tasks, and counts.

    A reply that cannot be used is asked for once more, with the reason; then the passage is skipped and counted.

    Args:
        tasks: what is asked.
        writer: the language model.
        kept: file of the replies; what is known there is not asked again.

    Returns:
        Counts: ``tokens`` of all replies, those known included; ``faults`` by their kind, of first and second replies; and
        ``skipped`` passages by kind.
    """
    known, texts = writers.Known(kept), asking.prompts()
    tokens, faults, skipped, rows = Counter(requests=0, prompt_tokens=0, completion_tokens=0), Counter(), Counter(), []
    stop = threading.Event()

    def work(task: asking.Task) -> _Answer:
        if stop.is_set():
            return [], [], []
        try:
            return _one(task, writer, known, texts)
        except BaseException:
            stop.set()  # at once: the next task may begin before the error is seen below
            raise

    with ThreadPoolExecutor(writer.workers) as pool:
        try:
            futures = [pool.submit(work, task) for task in tasks]
            for task, future in zip(tasks, tqdm(futures, unit="passage", desc=f"ask {writer.name}"), strict=True):
                found, replies, failed = future.result()
                tokens.update(requests=len(replies))
                for reply in replies:
                    tokens.update(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
                faults.update(failed)
                skipped.update([] if found else [task.kind])
                rows += [
                    (q, task.kind, task.text, grade, list(task.ids), *task.place, writer.name) for q, grade in found
                ]
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            known.close()
    counts = {"tokens": dict(tokens), "faults": dict(sorted(faults.items())), "skipped": dict(skipped)}
    return rows, counts


def _one(task: asking.Task, writer: writers.Writer, known: writers.Known, texts: dict[str, str]) -> _Answer:
    """Return a passage's queries, none where it is skipped; the replies; and what was wrong with them."""
    messages, replies, faults = asking.first(task, texts), [], []
    for _ in range(2):
        reply, _known = known.ask(writer, messages)
        replies.append(reply)
        try:
            if reply.finish not in ("stop", "length"):
                raise asking.Fault(reply.finish, "the reply cannot be read")
            return asking.read(task, reply.text), replies, faults
        except asking.Fault as fault:
            cut = reply.finish == "length"
            faults.append("cut_off" if cut else fault.kind)
            if reply.finish in ("refused", "content_filter"):
                break
            messages = asking.again(
                messages, reply.text, "the reply was too long and was cut off" if cut else str(fault)
            )
    return [], replies, faults


def pair(written: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return pairs (``pairs.SCHEMA``): ``query``, a query and its passage, and ``paraphrase``, a sentence and its paraphrase.

    Queries of one passage are a group; those whose passage only names the subject make no pair.

    Args:
        written: rows of ``SCHEMA``.
    """
    rows: dict[str, list[tuple]] = {"query": [], "paraphrase": []}
    for n, row in enumerate(written.filter(pl.col("relevance") >= PAIRED).iter_rows(named=True)):
        first, more = row["passage_ids"][0], len(row["passage_ids"]) - 1
        passage = (row["passage"], f"{first}+{more}" if more else first)
        query = (row["query"], f"{first}:{row['query_type']}{n}")
        (anchor, anchor_id), (positive, positive_id) = (
            (passage, query) if row["query_type"] == "paraphrase" else (query, passage)
        )
        place = (row["source"], row["document"], row["topic"], row["split"])
        kind = "paraphrase" if row["query_type"] == "paraphrase" else "query"
        rows[kind].append((anchor, positive, [], anchor_id, positive_id, passage[1], *place))
    return {kind: pl.DataFrame(found, schema=pairs.SCHEMA, orient="row") for kind, found in rows.items()}


def _drawn(rows: list[tuple], p: Queries) -> Iterable[tuple]:
    numbers = pl.Series(range(len(rows)))
    return rows if not 0 < p.limit < len(rows) else [rows[n] for n in numbers.sample(p.limit, seed=p.seed).sort()]


def _writer(p: Queries) -> writers.Writer:
    if p.writer == "local":
        return writers.Local(p.model, p.most_tokens)
    return writers.Service(remote.Remote(p.model, p.service, p.service_key or None), p.most_tokens, p.at_a_time)


def _cost(p: Queries, tokens: dict[str, int]) -> float:
    return (tokens["prompt_tokens"] * p.price_in + tokens["completion_tokens"] * p.price_out) / 1e6


def _file(p: Queries, name: str) -> Path:
    return paths.artifacts(p.profile) / name
