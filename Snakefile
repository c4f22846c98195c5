"""The notebooks as a graph: what has to run again, and in which order.

snakemake --cores all --config profile=embedded          everything up to tables and figures
snakemake --cores all --config profile=embedded book     and the book of this run

snakemake --cores all --config profile=open parts=8 run=seed17 -- index      its sentences, indexed on disk

A profile of profiles/ is the configuration. On a cluster: install the extra `cluster`, and put in the place of `--cores all`
`--workflow-profile profiles/slurm`.
"""

import json
import os
import re
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from cardioembed_lib import files
from cardioembed_study import paths, settings
from cardioembed_study.corpus import manifests
from cardioembed_study.workflow import executed, publish

PROFILE = settings.profile(config.get("profile", "embedded"))
CORPUS = settings.check("01_corpus", PROFILE.notebooks["01_corpus"])
ENDING = [stem for stem in ("03_domain", "04_medembed") if stem == PROFILE.until]  # of a profile that ends before 06
RETRIEVAL = settings.check("03_retrieval", PROFILE.notebooks["03_retrieval"])


def place(path):
    """Return a path as seen from the repository, so that a repository that was moved is not run again."""
    path = os.path.abspath(path)
    return os.path.relpath(path, paths.ROOT) if Path(path).is_relative_to(paths.ROOT) else path


def sources(stem):
    return [place(path) for path in executed.sources(stem)]


def texts():
    """Return the manifests of the profile's texts, their lists of files, and the texts that lie in this repository."""
    files = []
    for name in [*CORPUS.sources, *CORPUS.benchmarks]:
        source, manifest = manifests.load(name), manifests.names()[name]  # the first says which name may be meant
        files += [manifest] + ([manifest.parent / source.files] if source.files else [])
        if source.path:
            files += [manifest.parent / source.path / document for document in manifests.documents(source)]
    return [place(file) for file in files]


def learnt_from(wildcards):
    """Return what a run is trained on: books, queries written of them, or clinical notes."""
    run = PROFILE.runs[wildcards.run]
    if settings.on_notes(run):
        return rules.notes.output
    return [*rules.corpus.output, *(rules.queries.output if settings.on_queries(run) else [])]


def kernel(stem):
    return PROFILE.kernel.get(stem, PROFILE.kernel.get("default", "python3"))


def conditions(stem, run=None):
    """Return what else the numbers depend on: a change of parameters or kernel re-runs this notebook only."""
    given = PROFILE.runs[run] if run else PROFILE.notebooks[stem]
    return json.dumps({"kernel": kernel(stem), **given}, sort_keys=True)


JUPYTER_BOOK = Path(sys.executable).with_name("jupyter-book")
A = place(paths.artifacts(PROFILE.name))
RUNS = list(PROFILE.runs)
PARTS, INDEXED = config.get("parts", 1), config.get("run", "")  # of the rules embed and index
if not (isinstance(PARTS, int) and PARTS > 0):
    raise WorkflowError(f"parts is {PARTS!r}; wanted a number of parts, such as 20")
if INDEXED and INDEXED not in RUNS:
    raise WorkflowError(f"profile {PROFILE.name} has no run {INDEXED!r}; {files.near_miss(INDEXED, RUNS)}")
HALF = max(1, workflow.cores // 2)  # two notebooks side by side do half as much again as one on all cores
MTEB = settings.check("04_mteb", PROFILE.notebooks["04_mteb"])
MIMIC = settings.check("05_mimic", PROFILE.notebooks["05_mimic"])
RECORDS = {stem: [f"{A}/results/{name}" for name in names] for stem, names in publish.records(PROFILE).items()}
PAGES = [place(path) for path in [*paths.BOOK.glob("*.*"), *paths.BOOK.glob("_static/*"), paths.ROOT / "_config.yml"]]


if workflow.is_main_process:
    (paths.ROOT / ".snakemake").mkdir(exist_ok=True)
    LOCK = FileLock(paths.ROOT / ".snakemake" / "running")  # it ends with this process, however that ends
    try:
        LOCK.acquire(timeout=0)
    except Timeout:
        raise WorkflowError("another process runs this graph already; wait for it, or stop it") from None


workdir: str(paths.ROOT)


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)) or "none",
    part=r"\d+",


rule all:
    input:
        f"{A}/executed/{PROFILE.until}.ipynb",


rule corpus:
    input:
        sources("01_corpus"),
        texts(),
    output:
        notebook=f"{A}/executed/01_corpus.ipynb",
        records=f"{A}/results/corpus.all.json",
        passages=f"{A}/corpus/passages.parquet",
    params:
        conditions=conditions("01_corpus"),
    threads: workflow.cores
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.runner notebooks/01_corpus.ipynb {output.notebook:q}"
        " --profile {PROFILE.name} --record {output.records:q}"


rule queries:
    # Of profiles with a run that learns from them. Not an output: queries/replies, so that no reply is paid for twice.
    input:
        sources("01_queries"),
        rules.corpus.output,
    output:
        notebook=f"{A}/executed/01_queries.ipynb",
        records=f"{A}/results/queries.all.json",
    params:
        conditions=conditions("01_queries"),
    threads: HALF
    resources:
        gpu=int(kernel("01_queries") != "python3"),
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.runner notebooks/01_queries.ipynb {output.notebook:q}"
        " --profile {PROFILE.name} --record {output.records:q}"


rule notes:
    # Not an output: restricted/, which holds what no log of a workflow should name.
    input:
        sources("01_notes"),
        [place(path) for path in sorted((paths.MANIFESTS / "clinical").rglob("*.*"))],
    output:
        notebook=f"{A}/executed/01_notes.ipynb",
        records=f"{A}/results/notes.all.json",
    params:
        conditions=conditions("01_notes"),
    threads: HALF
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.runner notebooks/01_notes.ipynb {output.notebook:q}"
        " --profile {PROFILE.name} --record {output.records:q}"


rule train:
    priority: 2  # most of the rest waits for the last of them
    # Not an output: runs/<run>/checkpoint, so that a killed training goes on where it stopped.
    input:
        sources("02_train"),
        learnt_from,
    output:
        notebook=f"{A}/executed/02_train.{{run}}.ipynb",
        records=f"{A}/results/train.{{run}}.json",
    params:
        conditions=lambda wildcards: conditions("02_train", wildcards.run),
    threads: HALF
    resources:
        gpu=int(kernel("02_train") != "python3"),
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.runner notebooks/02_train.ipynb {output.notebook:q}"
        " --profile {PROFILE.name} --run {wildcards.run:q} --record {output.records:q}"


rule retrieval:
    input:
        sources("03_retrieval"),
        rules.corpus.output,
        [place(path) for path in sorted((paths.MANIFESTS / "primer").glob("*.md"))],  # shown on the page look
        expand(rules.train.output, run=RETRIEVAL.runs),
    output:
        notebook=f"{A}/executed/03_retrieval.ipynb",
        records=RECORDS["03_retrieval"],
    params:
        conditions=conditions("03_retrieval"),
        records=lambda wildcards, output: [f"--record={record}" for record in output.records],
    threads: HALF
    resources:
        gpu=int(kernel("03_retrieval") != "python3"),
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.runner notebooks/03_retrieval.ipynb {output.notebook:q}"
        " --profile {PROFILE.name} {params.records:q}"


for stem in ENDING:

    rule:
        name:
            stem.partition("_")[2]
        input:
            sources(stem),
            rules.corpus.output,
            expand(rules.train.output, run=settings.check(stem, PROFILE.notebooks[stem]).runs),
        output:
            notebook=f"{A}/executed/{stem}.ipynb",
            records=RECORDS[stem],
        params:
            conditions=conditions(stem),
            stem=stem,
            records=lambda wildcards, output: [f"--record={record}" for record in output.records],
        threads: workflow.cores
        resources:
            gpu=int(kernel(stem) != "python3"),
        shell:
            "{sys.executable:q} -m cardioembed_study.workflow.runner notebooks/{params.stem}.ipynb {output.notebook:q}"
            " --profile {PROFILE.name} {params.records:q}"


rule mteb:
    priority: 1  # long: 03_retrieval runs beside it
    input:
        sources("04_mteb"),
        rules.corpus.output,
        expand(rules.train.output, run=MTEB.runs),
        [place(path) for path in sorted((paths.MANIFESTS / "benchmarks").glob("*.*"))],
    output:
        notebook=f"{A}/executed/04_mteb.ipynb",
        records=RECORDS["04_mteb"],
    params:
        conditions=conditions("04_mteb"),
        records=lambda wildcards, output: [f"--record={record}" for record in output.records],
    threads: HALF
    resources:
        gpu=int(kernel("04_mteb") != "python3"),
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.runner notebooks/04_mteb.ipynb {output.notebook:q}"
        " --profile {PROFILE.name} {params.records:q}"


rule mimic:
    priority: 1
    input:
        sources("05_mimic"),
        rules.notes.output,
        expand(rules.train.output, run=[*MIMIC.runs, *([MIMIC.textbook] if MIMIC.textbook else [])]),
    output:
        notebook=f"{A}/executed/05_mimic.ipynb",
        records=RECORDS["05_mimic"],
    params:
        conditions=conditions("05_mimic"),
        records=lambda wildcards, output: [f"--record={record}" for record in output.records],
    threads: HALF
    resources:
        gpu=int(kernel("05_mimic") != "python3"),
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.runner notebooks/05_mimic.ipynb {output.notebook:q}"
        " --profile {PROFILE.name} {params.records:q}"


rule report:
    input:
        sources("06_report"),
        rules.corpus.output,
        expand(rules.train.output, run=RUNS),
        rules.retrieval.output,
        rules.mteb.output,
        rules.mimic.output,
        [place(path) for path in sorted((paths.MANIFESTS / "claims").glob("*.yaml"))],
        [place(path) for name in ("domain", "medembed") for path in sorted((paths.BOOK / "results" / name).glob("*.json"))],
    output:
        notebook=f"{A}/executed/06_report.ipynb",
    params:
        conditions=conditions("06_report"),
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.runner notebooks/06_report.ipynb {output.notebook:q}"
        " --profile {PROFILE.name}"


rule embed:
    # A part of the sentences, as vectors of a run or of the base: --config parts=20 run=seed17
    input:
        rules.corpus.output,
        expand(rules.train.output, run=[INDEXED] if INDEXED else []),
    output:
        touch(f"{A}/index/{{part}}-of-{PARTS}.{INDEXED or 'base'}"),
    threads: workflow.cores
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.command embed {PROFILE.name} --run={INDEXED:q}"
        " --part {wildcards.part}/{PARTS}"


rule index:
    input:
        expand(rules.embed.output, part=range(1, PARTS + 1)),
    output:
        f"{A}/index/{INDEXED or 'base'}/index.faiss",
    threads: workflow.cores
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.command index {PROFILE.name} --run={INDEXED:q}"


rule book:
    input:
        rules.all.input,
        PAGES,
    output:
        f"{A}/book/_build/html/index.html",
    shell:
        "{sys.executable:q} -m cardioembed_study.workflow.publish assemble {PROFILE.name}"
        " && {JUPYTER_BOOK:q} build {A:q}/book"
