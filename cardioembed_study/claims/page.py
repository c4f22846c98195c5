"""How does the ledger become a page, and how are its numbers, names and links written there?

Every table here is made of claims, checks, classes and properties alone. ``claims.html`` is a plain table that needs no
script; ``book/_static/claims.js`` adds search, filters and sorting to it.
"""

from __future__ import annotations

import csv
import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

from markupsafe import Markup

from cardioembed_lib import files
from cardioembed_study import paths, show
from cardioembed_study.claims import headline, ledger, verdicts
from cardioembed_study.claims.checks import Check
from cardioembed_study.claims.ledger import Claim
from cardioembed_study.claims.properties import OUTCOMES, Property
from cardioembed_study.claims.verdicts import Judged, Outcome

COLUMNS = ("source", "model", "data", "metric", "published", "ours", "class", "why")  # of the page's table
FILTERS = ("source", "model", "class", "metric")  # columns that get a drop-down list
WORDS = {"acc": "Acc", "auroc": "AUROC", "map": "MAP", "mrr": "MRR", "ndcg": "nDCG", "p95": "P95"} | {
    f"top{k}": f"top-{k}" for k in (1, 5, 10)
}
CHECKS = "claims-arithmetic#"  # how a row links to a check
DOTTED = re.compile(r"`[^`]+`|(?:https?://)?[\w./-]*[A-Za-z_]\w*\.[A-Za-z]{2,}[\w/-]*(?:[.:][\w/-]+)*")


def rows(claims: Mapping[str, Claim], judged: Judged) -> list[dict[str, Any]]:
    """Return a row a claim, in the order of the ledger: what was published where, its class, and the properties it bears on.

    Raises:
        ValueError: the verdicts are not one for each claim, in the ledger's order.
    """
    names = [verdict.claim for verdict in judged.claims]
    if names != list(claims):
        odd = next(
            (name for name in [*claims, *names] if names.count(name) != 1 or name not in claims), "only the order"
        )
        raise ValueError(
            f"{len(names)} verdicts for {len(claims)} claims, and they do not match: {odd}; make both anew with "
            "ledger.load() and verdicts.judge()"
        )
    about: dict[str, list[str]] = {}
    for one in judged.outcomes:
        for claim in one.property.bears_on:
            about.setdefault(claim, []).append(one.property.id)
    sources = ledger.sources()
    return [
        {
            "claim": claim.id,
            "paper": (source := sources[f"{claim.id.split('.')[0]}.{claim.source}"])["paper"],
            "source": source["title"],
            "place": claim.place,
            "model": claim.model,
            "data": claim.data,
            "metric": metric(claim.metric),
            "published": ledger.published(claim.value, claim.unit),
            "value": claim.value,
            "unit": claim.unit,
            "ours": verdict.ours,
            "class": verdict.kind,
            "why": verdict.why,
            "note": claim.note,
            "link": verdict.link,
            "properties": " ".join(about.get(claim.id, ())),
        }
        for claim, verdict in zip(claims.values(), judged.claims, strict=True)
    ]


def write(profile: str, claims: Mapping[str, Claim], judged: Judged, checked: Sequence[Check]) -> None:
    """Write the tables of the page of claims into ``artifacts/<profile>/tables``.

    ``claims.html`` and ``claims.csv`` hold every claim, ``classes.csv`` the counts by paper and class; the others are
    Markdown that pages include.
    """
    folder, table = paths.artifacts(profile) / "tables", rows(claims, judged)
    files.write(folder / "claims.html", as_html(table))
    for name, part in (("claims", table), ("classes", class_counts(table))):
        with files.replacing(folder / f"{name}.csv") as aside, aside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(part[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(part)
    parts = {
        "claims-properties": property_rows(judged),
        "claims-classes": class_rows(table),
        "claims-papers": paper_rows(table),
        "claims-headline": headline_rows(claims, judged),
        "claims-arithmetic": check_rows(checked),
    }
    for name, part in parts.items():
        files.write(folder / f"{name}.md", f"{show.HEAD}{show.table(part).data}\n")


def as_html(table: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as one accessible table; every row's id is its claim's, every text escaped.

    A cell whose number the script sorts by names it.
    """
    words = {"code": code, "href": href, "title": title, "leading": _leading_number}
    return show.HEAD + show.filled(__package__, "page.html.j2", rows=table, columns=COLUMNS, filters=FILTERS, **words)


def headline_rows(claims: Mapping[str, Claim], judged: Judged) -> list[dict[str, str]]:
    """Return the claims of the first page in words, with links that hold in the book (`publish` mends them for the README)."""
    return [
        {
            "claim": f'<a href="claims.html#{row.claim}">{escaped(row.words)}</a>',
            "published": escaped(row.published),
            "ours": escaped(row.ours),
            "in plain words": escaped(row.plain),
            "shown in": _markdown_link(row.link),
        }
        for row in headline.rows(claims, judged)
    ]


def property_rows(judged: Judged) -> list[dict[str, str]]:
    """Return a row for each property: its outcome once, what it rests on, and the claims that it bears on."""
    return [
        {
            "property": f'<a id="property-{p.id}"></a>{markdown(p.sentence)}',
            "outcome": outcome.words,
            "ours": f"{markdown(measured(outcome))} {_markdown_link(outcome.measured.page)}"
            if outcome.measured
            else "",
            "status": p.status,
            "rule": _folded(
                "rule", f"{markdown(rule(p))} SHA-256: {p.digest[:12]} (this property), {judged.rules[:12]} (the file)."
            ),
            "bears on": _listed(p.bears_on, most=0),
        }
        for outcome in judged.outcomes
        for p in [outcome.property]
    ]


def measured(outcome: Outcome) -> str:
    """Return what was measured for a property, with n, documents, interval and seeds; nothing if nothing was."""
    m, unit = outcome.measured, outcome.property.unit
    if m is None:
        return ""
    interval = f"{m.interval} {m.low:+.3f} to {m.high:+.3f}; " if m.low is not None else "no interval; "
    n = f"{m.n:,}" if isinstance(m.n, int) else m.n  # of restricted notes a few are "<11"
    groups = f", {m.groups} {m.grouped}" if m.groups is not None else ""
    seeds = f"{m.seeds} seed{'s' * (m.seeds != 1)}"
    return f"{m.difference:+.3f} {unit} ({interval}n = {n} {m.of}{groups}; {seeds}): {m.said}".removesuffix(": ")


def rule(p: Property) -> str:
    """Return what is measured for a property, on what, with which recipe, and what decides."""
    return (
        f"Measured: {p.measure}. On: {p.split}. Recipe: {p.recipe}. {p.rule} Fewer than {p.seeds} seeds are inconclusive. Dated "
        f"{p.dated}."
    )


def check_rows(checked: Sequence[Check]) -> list[dict[str, str]]:
    """Return a row for each arithmetic check; a check's anchor is the target of the claims that rest on it."""
    return [
        {
            "check": f'<a id="{anchor(check.name)}"></a>{markdown(check.name)}',
            "stated": markdown(check.stated),
            "computed": markdown(check.computed),
            "holds": ("yes" if check.holds else "no") + ", for information" * (not check.decides),
            "claims": _listed(check.claims),
        }
        for check in checked
    ]


def class_rows(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each class with its meaning and how many claims have it."""
    counts = Counter(row["class"] for row in table)
    return [
        {"class": _choice("class", name), "meaning": markdown(meaning), "claims": counts[name]}
        for name, meaning in verdicts.CLASSES.items()
    ]


def class_counts(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how many claims of each paper have which class, a row a pair, in the order of the ledger and of the classes."""
    counts = Counter((row["paper"], row["class"]) for row in table)
    papers = dict.fromkeys(row["paper"] for row in table)
    return [{"paper": p, "class": name, "claims": counts[p, name]} for p in papers for name in verdicts.CLASSES]


def paper_rows(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the same counts, a row a class and a column a paper."""
    counts = {(row["paper"], row["class"]): row["claims"] for row in class_counts(table)}
    papers = dict.fromkeys(paper for paper, _ in counts)
    return [{"class": _choice("class", n)} | {paper: counts[paper, n] for paper in papers} for n in verdicts.CLASSES]


def numbers(judged: Judged, checked: Sequence[Check]) -> dict[str, Any]:
    """Return what pages quote: counts of claims, of properties and of checks, and the first digits of the rules' SHA-256.

    Checks that decide hold or fail; the others inform.
    """
    counts = Counter(verdict.kind for verdict in judged.claims)
    outcomes = Counter(one.outcome for one in judged.outcomes)
    decides = [check.holds for check in checked if check.decides]
    return {
        "claims_total": len(judged.claims),
        **{f"claims_{name.replace(' ', '_')}": counts[name] for name in verdicts.CLASSES},
        "share_unchecked": sum(counts[name] for name in verdicts.UNCHECKED) / len(judged.claims),
        **{f"properties_{re.sub('[ ,]+', '_', name)}": outcomes[name] for name in OUTCOMES},
        "properties_total": len(judged.outcomes),
        **{"checks_total": len(checked), "checks_hold": sum(decides), "checks_fail": len(decides) - sum(decides)},
        "checks_inform": len(checked) - len(decides),
        "rules": judged.rules[:12],
    }


def anchor(check: str) -> str:
    """Return the id of a check on the page.

    >>> anchor("sum of shares")
    'check-sum-of-shares'
    """
    return f"check-{re.sub(r'[^A-Za-z0-9.]+', '-', check).strip('-')}"


def href(link: str) -> str:
    """Return a row's link as an address relative to the page of claims: a check's anchor, a page, or nothing.

    >>> href("executed/03_retrieval"), href("claims-arithmetic#sum"), href("differences#tried"), href("")
    ('executed/03_retrieval.html', '#check-sum', 'differences.html#tried', '')
    """
    if link.startswith(CHECKS):
        return f"#{anchor(link.removeprefix(CHECKS))}"
    page, mark, place = link.partition("#")
    return f"{page}.html{mark}{place}" if page else ""


def title(link: str) -> str:
    """Return how a link is called: a notebook by number and name, a page by its name.

    >>> title("executed/03_retrieval"), title("executed/02_train.seed17"), title("claims-arithmetic#sum"), title("data")
    ('3 · Retrieval', '2 · Train seed17', 'Arithmetic', 'Data')
    """
    if link.startswith(CHECKS):
        return "Arithmetic"
    page = link.partition("#")[0].rpartition("/")[2]
    number, _, name = page.partition("_")
    name = {"mteb": "MTEB", "mimic": "MIMIC"}.get(name, name.replace(".", " ").capitalize())
    return f"{int(number)} · {name}" if number.isdigit() else page.capitalize()


def metric(name: str) -> str:
    """Return how the page calls a metric.

    >>> metric("ndcg_at_10"), metric("acc_at_1"), metric("learning_rate")
    ('nDCG@10', 'Acc@1', 'learning rate')
    """
    words = re.sub(r"_at_(?=\d)", "@", name).replace("_", " ")
    return re.sub(r"[a-z0-9]+", lambda word: WORDS.get(word[0], word[0]), words)


def code(text: str) -> Markup:
    """Return text for HTML, escaped; what stands between backticks becomes code.

    >>> print(code("a < b in `x.py`"))
    a &lt; b in <code>x.py</code>
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text)))


def markdown(text: str) -> str:
    r"""Return text so that Markdown shows it as it is; what looks like a file or an address becomes code.

    >>> markdown("a_b < 2 * c, see run.py")
    'a_b \\< 2 \\* c, see `run.py`'
    """
    parts, end = [], 0
    for found in DOTTED.finditer(text):
        parts += [escaped(text[end : found.start()]), f"`{found[0].strip('`')}`"]
        end = found.end()
    return "".join([*parts, escaped(text[end:])])


def escaped(text: str) -> str:
    """Return text with a backslash before what Markdown would read as a sign."""
    return re.sub(r"([\\`*<>$\[\]~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)


def _leading_number(ours: str) -> str:
    number = re.match(r"[-+]?\d+(?:\.\d+)?", ours.replace("−", "-").replace(",", ""))
    return number[0] if number else ""


def _markdown_link(link: str) -> str:
    if link.startswith((CHECKS, "claims#")):  # places that Markdown does not know of
        return f'<a href="claims.html#{href(link).partition("#")[2]}">{title(link)}</a>'
    return f"[{title(link)}]({link})" if link else "[Claims](claims)"


def _listed(names: Sequence[str], most: int = 3) -> str:
    """Return links to claims; a list of more is folded."""
    links = ", ".join(f'<a href="#{name}">{escaped(name)}</a>' for name in names)
    return links if len(names) <= most else _folded(f"{len(names)} claim{'s' * (len(names) > 1)}", links)


def _folded(head: str, body: str) -> str:
    return f"<details><summary>{head}</summary>{body}</details>"


def _choice(column: str, value: str) -> str:
    """Return a link that opens the table with one value of a column chosen."""
    return f'<a href="claims.html#{column}={quote_plus(value)}">{escaped(value)}</a>'
