"""Which queries and paraphrases are written of a profile's passages, by whom, at which cost, and which pairs do they make?"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from tqdm import tqdm

from cardioembed_lib import files
from cardioembed_study import paths, records
from cardioembed_study.corpus import manifests, pairs
from cardioembed_study.queries import asking, rules, writers
from cardioembed_study.settings import Queries

PLACE = ("source", "document", "topic", "split")
SCHEMA = {
    "query": pl.String,
    "query_type": pl.String,
    "passage": pl.String,
    "relevance": pl.Int64,
    "passage_id": pl.String,
    **dict.fromkeys(PLACE, pl.String),
    "writer": pl.String,
}
PAIRED = 2  # relevance from which a query and its passage are a pair; ours
CHARACTERS = 4  # of English text in a token, about
NONE_SENT = "a dry run: counts and cost were estimated, nothing was sent and nothing written"
ONCE_MORE = "That cannot be used: {}. Answer again, in full, with one JSON object of that form and nothing around it."


@dataclass
class Plan:
    """What is asked, by whom, and what may be sent and paid for that is not known yet."""

    passages: pl.DataFrame
    writer: str = rules.NAME
    tasks: list[asking.Task] = field(default_factory=list)
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
        _refuse_access(passages, p)
    tasks, texts = asking.tasks(passages, p), asking.prompts()
    asked = [asking.first(task, texts) for task in tasks]
    new = [messages for messages in asked if not writers.kept(p, messages).is_file()]
    characters = sum(len(message["content"]) for messages in new for message in messages)
    counts = {"passages": len(tasks), "requests": len(new), "prompt_tokens": characters // CHARACTERS}
    counts["completion_tokens"] = len(new) * p.most_tokens
    return Plan(passages, Path(p.model).name, tasks, counts, _cost(p, counts))


def _refuse_access(passages: pl.DataFrame, p: Queries) -> None:
    from cardioembed_study import remote  # here, since torch comes with it

    for name in passages["source"].unique().sort():
        access = manifests.load(name).access
        if access not in remote.SENDABLE and not (access == "private" and (p.send_private or p.dry_run)):
            allow = "set send_private if its licence allows that, or " if access == "private" else ""
            raise ValueError(
                f"{name} is {access}: nothing of it is sent to a service; {allow}choose writer 'local' or 'rule'"
            )


def write(p: Queries, planned: Plan) -> dict[str, Any]:
    """Write queries, pairs and the record ``queries.all``, and return the record; of a dry run the record alone.

    Raises:
        ValueError: a service refuses, or the key is missing.
        OSError: it cannot be reached or stays busy; what is done is kept.
    """
    about = {
        "path": records.path(p.profile, "queries", "all"),
        "params": p.model_dump(exclude={"service"}) | {"written_by": planned.writer, "model": Path(p.model).name},
        "inputs": [_file(p, "corpus/passages.parquet"), paths.PROMPTS],
    }
    if p.dry_run:
        return records.write(**about, metrics={}, counts=planned.counts, status="not run", reason=NONE_SENT)
    if p.writer == "rule":
        made, counts = list(rules.write(planned.passages)), {}
        rows = [row for kind in p.kinds for row in asking.drawn([row for row in made if row[1] == kind], p)]
    else:
        rows, counts = ask(planned, p)
    written = pl.DataFrame(rows, SCHEMA, orient="row").unique(["query", "passage"], keep="first", maintain_order=True)
    paired = pair(written)
    for name, frame in {"queries/queries": written, **{f"pairs/{kind}": f for kind, f in paired.items()}}.items():
        with files.replacing(_file(p, f"{name}.parquet")) as aside:
            frame.write_parquet(aside)
    counts |= {f"written_{kind}": len(written.filter(query_type=kind)) for kind in p.kinds}
    counts["pairs"] = {k: dict(f["split"].value_counts(sort=True).iter_rows()) for k, f in paired.items()}
    metrics = {"cost": _cost(p, counts["tokens"])} if p.writer == "service" else {}
    return records.write(**about, metrics=metrics, counts=counts)


def ask(planned: Plan, p: Queries) -> tuple[list[tuple], dict[str, Any]]:
    """Return rows of ``SCHEMA`` in the order of the tasks, and counts.

    Returns:
        Counts: ``tokens`` of all replies, those known included; ``faults`` by their kind, of first and second replies; and
        ``skipped`` passages by kind.
    """
    if p.writer == "service" and planned.counts.get("requests"):
        writers.need_key(p)
    writer = writers.local if p.writer == "local" else writers.service
    answer, texts, stop = functools.partial(writers.answer, p, writer(p)), asking.prompts(), threading.Event()
    tokens, faults, skipped, rows = Counter(requests=0, prompt_tokens=0, completion_tokens=0), Counter(), Counter(), []

    def work(task: asking.Task) -> tuple | None:
        try:
            return None if stop.is_set() else _one(task, answer, texts)
        except BaseException:
            stop.set()  # at once: the next task may begin before the error is seen below
            raise

    with ThreadPoolExecutor(1 if p.writer == "local" else p.at_a_time) as pool:
        try:
            found = tqdm(pool.map(work, planned.tasks), f"ask {planned.writer}", len(planned.tasks), unit="passage")
            for task, (queries, replies, failed) in zip(planned.tasks, found, strict=True):
                tokens.update(requests=len(replies))
                for reply in replies:
                    tokens.update(reply.model_dump(include={"prompt_tokens", "completion_tokens"}))
                faults.update(failed)
                skipped.update([] if queries else [task.kind])
                rows += [
                    (query, task.kind, task.text, grade, task.passage_id, *task.place, planned.writer)
                    for query, grade in queries
                ]
        finally:
            stop.set()
    return rows, {"tokens": dict(tokens), "faults": dict(sorted(faults.items())), "skipped": dict(skipped)}


def _one(task: asking.Task, answer: writers.Ask, texts: dict[str, str]) -> tuple[list, list, list]:
    """Return a passage's queries, the replies, and what was wrong with them.

    A reply that cannot be used is asked for once more, with the reason; then the passage is skipped: it has no queries.
    """
    messages, replies, faults = asking.first(task, texts), [], []
    for _ in range(2):
        reply = answer(messages)
        replies.append(reply)
        try:
            if reply.finish not in ("stop", "length"):
                raise asking.Fault(reply.finish, "it cannot be read")
            return asking.read(task, reply.text), replies, faults
        except asking.Fault as fault:
            cut = ("cut_off", "the reply was too long and was cut off")
            kind, said = cut if reply.finish == "length" else fault.args
            faults.append(kind)
        if reply.finish in (writers.REFUSED, "content_filter"):
            break
        messages = [*messages, {"role": "assistant", "content": reply.text or "-"}]
        messages.append({"role": "user", "content": ONCE_MORE.format(said)})
    return [], replies, faults


def pair(written: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return pairs (``pairs.SCHEMA``): ``query``, a query and its passage, and ``paraphrase``, a sentence and its paraphrase.

    Queries of one passage are a group; those whose passage only names the subject make no pair.

    Args:
        written: rows of ``SCHEMA``.
    """
    kept, made = written.filter(pl.col("relevance") >= PAIRED).with_row_index(), {}
    kept = kept.with_columns(
        query_id=pl.format("{}:{}{}", "passage_id", "query_type", "index"),
        negatives=pl.lit([], pl.List(pl.String)),
        group="passage_id",
    )
    for kind, a, b in (("query", "query", "passage"), ("paraphrase", "passage", "query")):
        part = kept.filter((pl.col("query_type") == "paraphrase") == (kind == "paraphrase"))
        sides = part.with_columns(anchor=a, anchor_id=f"{a}_id", positive=b, positive_id=f"{b}_id")
        made[kind] = sides.select(*pairs.SCHEMA)
    return made


def _cost(p: Queries, tokens: dict[str, int]) -> float:
    return (tokens["prompt_tokens"] * p.price_in + tokens["completion_tokens"] * p.price_out) / 1e6


def _file(p: Queries, name: str) -> Path:
    return paths.artifacts(p.profile) / name
