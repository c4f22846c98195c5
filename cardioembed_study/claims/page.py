"""How does the ledger become a page?

Every table here is made of the ledger, its checks and its verdicts alone. ``verdicts.html`` is a plain table that needs no
script; ``book/_static/claims.js`` adds search, filters and sorting to it.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from cardioembed_study import paths, show
from cardioembed_study.claims import arithmetic, text
from cardioembed_study.claims import verdicts as claims_verdicts

COLUMNS = ("source", "model", "data", "metric", "published", "ours", "verdict", "why")  # of the page's table
FILTERS = ("source", "model", "verdict", "metric")  # columns that get a drop-down list


def rows(
    ledger: Mapping[str, claims_verdicts.Claim], verdicts: Sequence[claims_verdicts.Verdict]
) -> list[dict[str, Any]]:
    """Return a row a claim, in the order of the ledger: what was published where, what is ours, and the verdict.

    Raises:
        ValueError: the verdicts are not one for each claim, in the ledger's order.
    """
    names = [verdict.claim for verdict in verdicts]
    if names != list(ledger):
        odd = next(
            (name for name in [*ledger, *names] if names.count(name) != 1 or name not in ledger), "only the order"
        )
        raise ValueError(
            f"{len(names)} verdicts for {len(ledger)} claims, and they do not match: {odd}; make both anew with "
            "claims.ledger() and claims.verdicts()"
        )
    titles = {key: source["title"] for key, source in claims_verdicts.sources().items()}
    return [_row(claim, verdict, titles) for claim, verdict in zip(ledger.values(), verdicts, strict=True)]


def write(
    profile: str,
    ledger: Mapping[str, claims_verdicts.Claim],
    verdicts: Sequence[claims_verdicts.Verdict],
    checks: Sequence[arithmetic.Check],
) -> None:
    """Write the tables of the page of claims into ``artifacts/<profile>/tables``.

    ``verdicts.html`` and ``verdicts.csv`` hold every claim; the others are Markdown that pages include.
    """
    folder, table = paths.artifacts(profile) / "tables", rows(ledger, verdicts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "claims.html").write_text(as_html(table), encoding="utf-8")
    _write_csv(folder / "claims.csv", table)
    parts = {
        "verdicts": verdict_rows(table),
        "claims-sources": source_rows(table),
        "claims-headline": headline_rows(table),
        "claims-arithmetic": check_rows(checks),
    }
    for name, part in parts.items():
        (folder / f"{name}.md").write_text(f"{show.HEAD}{show.table(part).data}\n", encoding="utf-8")


def as_html(table: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as one accessible table; every row's id is its claim's, every text escaped."""
    heads = "".join(
        f'<th scope="col" data-column="{name}"{" data-filter" if name in FILTERS else ""}>{name.capitalize()}</th>'
        for name in COLUMNS
    )
    caption = "Every claim of the ledger: what was published where, what is ours, and the verdict"
    return (
        f'{show.HEAD}<div class="claims" role="region" aria-label="Table of claims" tabindex="0">\n<table>\n'
        f"<caption>{caption}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n"
        f"{''.join(map(_tr, table))}</tbody>\n</table>\n</div>\n"
    )


def headline_rows(table: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the claims of the first page in words, with links that hold in the book (`publish` mends them for the README).

    Of ours the first number alone is shown; interval, n and the rest stand in the table that each claim links to.
    """
    by_id = {row["claim"]: row for row in table}
    return [
        {
            "claim": f'<a href="claims.html#{row["claim"]}">{text.escaped(_words(row))}</a>',
            "published": text.markdown(row["published"]),
            "ours": text.markdown(re.split(r" \(|[:;] ", row["ours"])[0]) or "none",
            "verdict": row["verdict"],
            "shown in": _markdown_link(row["link"]),
        }
        for row in (by_id[name] for name in claims_verdicts.HEADLINES)
    ]


def check_rows(checks: Sequence[arithmetic.Check]) -> list[dict[str, str]]:
    """Return a row for each arithmetic check; a check's anchor is the target of the verdicts that rest on it."""
    return [
        {
            "check": f'<a id="{text.anchor(check.name)}"></a>{text.markdown(check.name)}',
            "stated": text.markdown(check.stated),
            "computed": text.markdown(check.computed),
            "holds": "yes" if check.holds else "no" if check.decides else "no, for information",
            "claims": _listed(check.claims),
        }
        for check in checks
    ]


def verdict_rows(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each verdict with its meaning and how many claims have it."""
    counts = Counter(row["verdict"] for row in table)
    return [
        {"verdict": _choice("verdict", name), "meaning": text.markdown(meaning), "claims": counts[name]}
        for name, meaning in claims_verdicts.VERDICTS.items()
    ]


def source_rows(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how many claims of each source have which verdict, a row a source."""
    counts = Counter((row["source"], row["verdict"]) for row in table)
    sources = dict.fromkeys(row["source"] for row in table)
    return [
        {"source": _choice("source", source)} | {name: counts[source, name] for name in claims_verdicts.VERDICTS}
        for source in sources
    ]


def numbers(verdicts: Sequence[claims_verdicts.Verdict], checks: Sequence[arithmetic.Check]) -> dict[str, int]:
    """Return the counts that pages quote: of all claims, of each verdict, of all checks and of those that hold."""
    counts = Counter(verdict.verdict for verdict in verdicts)
    found = {f"claims_{name.replace(' ', '_')}": counts[name] for name in claims_verdicts.VERDICTS}
    held = sum(check.holds for check in checks)
    return {"claims_total": len(verdicts), **found, "checks_total": len(checks), "checks_hold": held}


def _row(claim: claims_verdicts.Claim, verdict: claims_verdicts.Verdict, titles: Mapping[str, str]) -> dict[str, Any]:
    return {
        "claim": claim.id,
        "source": titles[f"{claim.id.split('.')[0]}.{claim.source}"],
        "place": claim.place,
        "model": claim.model,
        "data": claim.data,
        "metric": text.metric(claim.metric),
        "published": text.published(claim.value, claim.unit),
        "value": claim.value,
        "unit": claim.unit,
        "ours": verdict.ours,
        "verdict": verdict.verdict,
        "why": verdict.why,
        "note": claim.note,
        "link": verdict.link,
    }


def _tr(row: Mapping[str, Any]) -> str:
    """Return a row of the page; a cell whose number the script sorts by names it."""
    name, shown = (
        escape(row["claim"]),
        {column: text.code(row[column]) for column in (*COLUMNS, "place", "note")},
    )
    number = re.match(r"[-+]?\d+(?:\.\d+)?", row["ours"].replace("−", "-").replace(",", ""))
    note = f"<small>{shown['note']}</small>" if row["note"] else ""
    cells = {column: f"<td>{shown[column]}</td>" for column in COLUMNS} | {
        "source": f'<th scope="row">{shown["source"]}<small>{shown["place"]}</small><a href="#{name}">{name}</a></th>',
        "published": f'<td data-number="{row["value"]!r}">{shown["published"]}</td>',
        "verdict": f'<td><span class="{row["verdict"].replace(" ", "-")}">{shown["verdict"]}</span></td>',
        "why": f"<td>{shown['why']}{_html_link(row['link'])}{note}</td>",
    }
    if number:
        cells["ours"] = f'<td data-number="{number[0]}">{shown["ours"]}</td>'
    return f'<tr id="{name}">{"".join(cells.values())}</tr>\n'


def _html_link(link: str) -> str:
    return f' <a href="{escape(text.href(link))}">{escape(text.title(link))}</a>' if link else ""


def _markdown_link(link: str) -> str:
    if link.startswith(text.CHECKS):
        return f'<a href="claims.html{text.href(link)}">{text.title(link)}</a>'
    return f"[{text.title(link)}]({link})" if link else "[Claims](claims)"


def _listed(names: Sequence[str]) -> str:
    """Return links to claims; a long list is folded."""
    links = ", ".join(f'<a href="#{name}">{text.escaped(name)}</a>' for name in names)
    return links if len(names) <= 3 else f"<details><summary>{len(names)} claims</summary>{links}</details>"


def _choice(column: str, value: str) -> str:
    """Return a link that opens the table with one value of a column chosen."""
    return f'<a href="claims.html#{column}={quote_plus(value)}">{text.escaped(value)}</a>'


def _words(row: Mapping[str, Any]) -> str:
    about = ": ".join(part for part in (row["model"], row["metric"]) if part)
    return f"{about}, {row['data']}" if row["data"] else about


def _write_csv(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
