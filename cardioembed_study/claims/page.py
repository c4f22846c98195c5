"""How does the ledger become a page, and how are its numbers, names and links written there?

Every table here is made of the claims, their checks and their verdicts alone. ``claims.html`` is a plain table that needs no
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
from cardioembed_study.claims import ledger, verdicts
from cardioembed_study.claims.checks import Check
from cardioembed_study.claims.ledger import Claim
from cardioembed_study.claims.verdicts import Verdict

COLUMNS = ("source", "model", "data", "metric", "published", "ours", "verdict", "why")  # of the page's table
FILTERS = ("source", "model", "verdict", "metric")  # columns that get a drop-down list
WORDS = {"acc": "Acc", "auroc": "AUROC", "map": "MAP", "mrr": "MRR", "ndcg": "nDCG", "p95": "P95"} | {
    f"top{k}": f"top-{k}" for k in (1, 5, 10)
}
BARE = ("fraction", "count")  # units that are not written after the number
CHECKS = "claims-arithmetic#"  # how a verdict links to a check
DOTTED = re.compile(r"`[^`]+`|(?:https?://)?[\w./-]*[A-Za-z_]\w*\.[A-Za-z]{2,}[\w/-]*(?:[.:][\w/-]+)*")


def rows(claims: Mapping[str, Claim], judged: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return a row a claim, in the order of the ledger: what was published where, what is ours, and the verdict.

    Raises:
        ValueError: the verdicts are not one for each claim, in the ledger's order.
    """
    names = [verdict.claim for verdict in judged]
    if names != list(claims):
        odd = next(
            (name for name in [*claims, *names] if names.count(name) != 1 or name not in claims), "only the order"
        )
        raise ValueError(
            f"{len(names)} verdicts for {len(claims)} claims, and they do not match: {odd}; make both anew with "
            "ledger.load() and verdicts.judge()"
        )
    titles = {key: source["title"] for key, source in ledger.sources().items()}
    return [
        {
            "claim": claim.id,
            "source": titles[f"{claim.id.split('.')[0]}.{claim.source}"],
            "place": claim.place,
            "model": claim.model,
            "data": claim.data,
            "metric": metric(claim.metric),
            "published": published(claim.value, claim.unit),
            "value": claim.value,
            "unit": claim.unit,
            "ours": verdict.ours,
            "verdict": verdict.verdict,
            "why": verdict.why,
            "note": claim.note,
            "link": verdict.link,
        }
        for claim, verdict in zip(claims.values(), judged, strict=True)
    ]


def write(profile: str, claims: Mapping[str, Claim], judged: Sequence[Verdict], checked: Sequence[Check]) -> None:
    """Write the tables of the page of claims into ``artifacts/<profile>/tables``.

    ``claims.html`` and ``claims.csv`` hold every claim; the others are Markdown that pages include.
    """
    folder, table = paths.artifacts(profile) / "tables", rows(claims, judged)
    files.write(folder / "claims.html", as_html(table))
    with files.replacing(folder / "claims.csv") as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    parts = {
        "verdicts": verdict_rows(table),
        "claims-sources": source_rows(table),
        "claims-headline": headline_rows(table),
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


def headline_rows(table: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the claims of the first page in words, with links that hold in the book (`publish` mends them for the README).

    Of ours the first number alone is shown; interval, n and the rest stand in the table that each claim links to.
    """
    by_id = {row["claim"]: row for row in table}
    return [
        {
            "claim": f'<a href="claims.html#{row["claim"]}">{escaped(_words(row))}</a>',
            "published": markdown(row["published"]),
            "ours": markdown(re.split(r" \(|[:;] ", row["ours"])[0]) or "none",
            "verdict": row["verdict"],
            "shown in": _markdown_link(row["link"]),
        }
        for row in (by_id[name] for name in verdicts.HEADLINES)
    ]


def check_rows(checked: Sequence[Check]) -> list[dict[str, str]]:
    """Return a row for each arithmetic check; a check's anchor is the target of the verdicts that rest on it."""
    return [
        {
            "check": f'<a id="{anchor(check.name)}"></a>{markdown(check.name)}',
            "stated": markdown(check.stated),
            "computed": markdown(check.computed),
            "holds": "yes" if check.holds else "no" if check.decides else "no, for information",
            "claims": _listed(check.claims),
        }
        for check in checked
    ]


def verdict_rows(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each verdict with its meaning and how many claims have it."""
    counts = Counter(row["verdict"] for row in table)
    return [
        {"verdict": _choice("verdict", name), "meaning": markdown(meaning), "claims": counts[name]}
        for name, meaning in verdicts.VERDICTS.items()
    ]


def source_rows(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how many claims of each source have which verdict, a row a source."""
    counts = Counter((row["source"], row["verdict"]) for row in table)
    sources = dict.fromkeys(row["source"] for row in table)
    return [
        {"source": _choice("source", source)} | {name: counts[source, name] for name in verdicts.VERDICTS}
        for source in sources
    ]


def numbers(judged: Sequence[Verdict], checked: Sequence[Check]) -> dict[str, int]:
    """Return the counts that pages quote: of all claims, of each verdict, of all checks and of those that hold."""
    counts = Counter(verdict.verdict for verdict in judged)
    by_verdict = {f"claims_{name.replace(' ', '_')}": counts[name] for name in verdicts.VERDICTS}
    held = sum(check.holds for check in checked)
    return {"claims_total": len(judged), **by_verdict, "checks_total": len(checked), "checks_hold": held}


def anchor(check: str) -> str:
    """Return the id of a check on the page.

    >>> anchor("sum of shares")
    'check-sum-of-shares'
    """
    return f"check-{re.sub(r'[^A-Za-z0-9.]+', '-', check).strip('-')}"


def href(link: str) -> str:
    """Return a verdict's link as an address relative to the page of claims: a check's anchor, a page, or nothing.

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


def published(value: float, unit: str) -> str:
    """Return a number with its unit as text, no digit lost; from 10,000 on in groups of three.

    >>> published(99.6, "percent"), published(106386.0, "triplets"), published(8.0, "layers"), published(2e-05, "fraction")
    ('99.6 %', '106,386 triplets', '8 layers', '2e-05')
    """
    number = repr(float(value)).removesuffix(".0")
    if value.is_integer() and abs(value) >= 10_000:
        number = f"{int(value):,}"
    return number if unit in BARE else f"{number} {re.sub('^percent', '%', unit)}"


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
    if link.startswith(CHECKS):
        return f'<a href="claims.html{href(link)}">{title(link)}</a>'
    return f"[{title(link)}]({link})" if link else "[Claims](claims)"


def _listed(names: Sequence[str]) -> str:
    """Return links to claims; a long list is folded."""
    links = ", ".join(f'<a href="#{name}">{escaped(name)}</a>' for name in names)
    return links if len(names) <= 3 else f"<details><summary>{len(names)} claims</summary>{links}</details>"


def _choice(column: str, value: str) -> str:
    """Return a link that opens the table with one value of a column chosen."""
    return f'<a href="claims.html#{column}={quote_plus(value)}">{escaped(value)}</a>'


def _words(row: Mapping[str, Any]) -> str:
    about = ": ".join(part for part in (row["model"], row["metric"]) if part)
    return f"{about}, {row['data']}" if row["data"] else about
