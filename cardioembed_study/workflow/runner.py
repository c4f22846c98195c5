"""How does one notebook become one executed notebook, or nothing at all?

``python -m cardioembed_study.workflow.runner NOTEBOOK OUTPUT`` runs it through papermill. Parameters and kernel are
checked before anything starts; the output is written aside and moved once every cell has run.

A notebook that reads clinical notes runs behind a closed door: its outputs, its log and its traceback stay below
``restricted``, the terminal sees cells and per cent, and ``OUTPUT`` has only the outputs of cells tagged ``from-records``, run
once more in a process that cannot open that folder. All others are such processes from the start.

Started by ``accelerate launch`` as several processes, each runs ``02_train`` up to its training, which they share; the first
alone goes on and writes.
"""

from __future__ import annotations

import argparse
import builtins
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, TextIO

import nbformat
import papermill
import yaml
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from cardioembed_lib import files, launched
from cardioembed_study import clinical, paths, runs, settings
from cardioembed_study import records as study_records
from cardioembed_study.corpus import manifests
from cardioembed_study.workflow import executed

REFRESH = re.compile(r"(\x1b\[A|\s)*[\r\n]( +\Z)?|\x1b\[A")  # between two states of a bar, or two lines
PER_CENT = re.compile(r"(?<!\d)(\d{1,2}|100)%\|")  # of tqdm
BAR_SECONDS = 10  # between two states of a progress bar where nobody sees it move (a log file, CI)
OUTPUT_SECONDS = 60  # what a cell has printed may reach us so much later than its end, on a busy machine
FOLDERS = ("CARDIOEMBED_ARTIFACTS", "CARDIOEMBED_MIRROR", "CARDIOEMBED_MIMIC")
ON_NOTES = ("01_notes", "05_mimic")  # beside runs of 02_train on them
SHARED = "train"  # the cell of 02_train that several processes share
FROM_RECORDS = "from-records"  # tag of the cells whose outputs are published of a notebook that reads clinical notes


class Lines:
    """A kernel's stream as others see it: on a terminal a bar moves; elsewhere each of its states is a line."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write everything."""
        self.stream.write(text if self.stream.isatty() else REFRESH.sub("\n", text))

    def flush(self) -> None:
        """Flush the stream behind."""
        self.stream.flush()


class Behind:
    """A kernel's stream of which others see the tens of per cent that a bar has reached: all else goes to a log."""

    def __init__(self, log: TextIO, stream: TextIO) -> None:
        self.log, self.stream, self.shown = log, stream, 0

    def write(self, text: str) -> None:
        """Write to the log, and the tens of a bar to the stream."""
        self.log.write(text)
        for tens in (int(number) // 10 for number in PER_CENT.findall(text)):
            if tens not in (0, self.shown):
                self.shown = tens
                self.stream.write(f"  {tens * 10} %\n")

    def flush(self) -> None:
        """Flush both."""
        self.log.flush()
        self.stream.flush()


def muffled(log: TextIO) -> type[AsyncKernelManager]:
    """Return a manager of kernels whose process says nothing to this terminal, not even when it crashes, but to a log."""

    class Muffled(AsyncKernelManager):
        async def _async_start_kernel(self, **options: Any) -> None:
            await super()._async_start_kernel(stdout=log, stderr=log, **options)

        start_kernel = _async_start_kernel

    return Muffled


def run(notebook: Path, output: Path, given: Mapping[str, Any], kernel: str, records: Sequence[Path] = ()) -> None:
    """Run a notebook and write it, executed, to ``output``; a failed run leaves ``<name>.failed.ipynb`` and no record.

    Args:
        notebook: one of ``notebooks/``.
        output: where the executed copy goes; its folder is made.
        given: the parameters that differ from the notebook's defaults.
        kernel: name of a registered Jupyter kernel.
        records: files the notebook writes; removed before it starts and when it fails.

    Raises:
        ValueError: an unknown parameter, a wrong value, an unknown kernel, or a machine's folder in an output.
        RuntimeError: a cell failed, or the kernel died; names notebook and cell, and of restricted notes the error's class alone.
    """
    for name in FOLDERS:  # as they are seen from here: a notebook on notes runs in another folder
        if (place := os.environ.get(name, "~")) and not place.startswith("~"):
            os.environ[name] = os.path.abspath(place)
    p = settings.check(notebook.stem, given)
    if kernel not in (known := KernelSpecManager().find_kernel_specs()):
        raise ValueError(
            f"no Jupyter kernel {kernel!r}; {files.near_miss(kernel, known)}; to register a Python, run with it: "
            f"python -m ipykernel install --user --name {kernel}"
        )
    notes, output = reads_notes(notebook.stem, p), output.absolute()
    cells: Path | NotebookNode = notebook.absolute()
    if helps := runs.helps():
        cells = load_notebook_node(str(notebook))
        names = [cell.id for cell in cells.cells]
        if SHARED not in names:
            raise ValueError(f"{notebook.name} is no work for several processes; only 02_train shares its training")
        cells.cells = cells.cells[: names.index(SHARED) + 1]
        output, records = output.with_name(f".{output.stem}.rank{os.environ['RANK']}.ipynb"), ()
    room = (paths.restricted(p.profile) / "executed").absolute() if notes else output.parent
    partial, failed = (room / f"{output.stem}.{state}.ipynb" for state in ("partial", "failed"))
    room.mkdir(parents=True, exist_ok=True)
    for old in (failed, *records, *room.glob(f".{output.stem}.rank*.failed.ipynb")):
        old.unlink(missing_ok=True)
    try:
        if notes:
            quiet = access(notebook.stem, p) != clinical.OPEN or not clinical.none_restricted()
            hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
            resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # a core dump holds all
            with (room / f"{output.stem}.log").open("w", encoding="utf-8") as log:
                streams, manager = (Behind(log, sys.stdout),) * 2, muffled(log)
                _execute(cells, partial, given, kernel, streams, quiet, room, kernel_manager_class=manager)
            if helps:
                return
            shown = executed.clean(rendered(notebook, given, kernel))
            partial.replace(room / f"{output.stem}.ipynb")
        else:
            with closed():
                _execute(cells, partial, given, kernel, (Lines(sys.stdout), Lines(sys.stderr)))
            if helps:
                return
            shown = executed.clean(nbformat.read(partial, as_version=4))
        if given.get("run"):
            shown.cells[0].source = shown.cells[0].source.replace("\n", f": {given['run']}\n", 1)  # the book's sidebar
        files.write(output, nbformat.writes(shown) + "\n")
    except BaseException as error:
        for record in records:
            record.unlink(missing_ok=True)
        if isinstance(error, (RuntimeError, ValueError)):
            hint = f"; to read it: {partial.replace(failed)}" if partial.exists() else ""
            raise RuntimeError(f"{notebook.name} failed: {error}{hint}") from None
        raise
    finally:
        partial.unlink(missing_ok=True)


def reads_notes(stem: str, p: settings.Parameters) -> bool:
    """Return whether a notebook with these parameters reads clinical notes."""
    return stem in ON_NOTES or settings.on_notes(p.model_dump())


def access(stem: str, p: settings.Parameters) -> str:
    """Return the access of the notes that a notebook reads: ``01_notes`` is given it by a manifest, and writes it down."""
    if not isinstance(p, settings.Notes):
        return clinical.access(p.profile)
    return manifests.load(p.source).access if p.source else clinical.OPEN


def rendered(notebook: Path, given: Mapping[str, Any], kernel: str) -> NotebookNode:
    """Return a notebook with the outputs of its cells tagged ``from-records``, texts and tables alone, made of records alone.

    Args:
        notebook: one of ``notebooks/``; its cells tagged so need no other cell but that of the parameters.
        given: the parameters that differ from the notebook's defaults.
        kernel: name of a registered Jupyter kernel.

    Raises:
        RuntimeError: a cell failed; its message is of a process that cannot have seen a note.
    """
    whole = parameterize_notebook(load_notebook_node(str(notebook)), dict(given))
    needed = {"parameters", "injected-parameters", FROM_RECORDS}
    told = [cell for cell in whole.cells if cell.cell_type == "code" and needed & set(cell.metadata.get("tags", []))]
    if not any(FROM_RECORDS in cell.metadata.get("tags", []) for cell in told):
        return whole
    part = nbformat.v4.new_notebook(cells=deepcopy(told))
    place = {"metadata": {"path": str(paths.ROOT)}}
    client = NotebookClient(part, kernel_name=kernel, resources=place, extra_arguments=["--log-level=40"])
    try:
        client.execute(env=os.environ | {paths.CLOSED: "1"})
    except CellExecutionError as error:
        raise RuntimeError(f"a cell tagged {FROM_RECORDS}: {error.ename}: {error.evalue}") from None
    for cell, made in zip(told, part.cells, strict=True):
        cell.outputs = [
            nbformat.v4.new_output("display_data", {"text/markdown": output.data["text/markdown"]})
            for output in made.outputs
            if "text/markdown" in output.get("data", {})
        ]
    return whole


@contextmanager
def closed() -> Iterator[None]:
    """Start kernels that cannot open ``restricted`` while the block runs."""
    os.environ[paths.CLOSED] = "1"
    try:
        yield
    finally:
        del os.environ[paths.CLOSED]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one notebook as the command line says; return 0, or 1 after a message."""
    parser = argparse.ArgumentParser(prog="python -m cardioembed_study.workflow.runner", description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--profile", help="take the parameters and the kernel from profiles/PROFILE.yaml")
    parser.add_argument("--run", help="which run of the profile, for 02_train")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="one parameter, as YAML"
    )
    parser.add_argument("--kernel", help="name of a Jupyter kernel; default: the profile's, else python3")
    parser.add_argument("--record", type=Path, action="append", default=[], help="file removed when the run fails")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a cluster's kill cleans up too
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", str(BAR_SECONDS))  # tqdm reads it in the kernel
    try:
        given, kernel = _of_profile(chosen.notebook.stem, chosen.profile, chosen.run)
        given |= {name: _value(text) for name, text in chosen.p}
        run(chosen.notebook, chosen.output, given, chosen.kernel or kernel, chosen.record)
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        rank, processes = launched()
        said = error.args[0] if isinstance(error, KeyError) else error
        print(f"\nprocess {rank} of {processes}: {said}" if processes > 1 else said, file=sys.stderr)
        return 1
    return 0


def _of_profile(stem: str, name: str | None, run: str | None) -> tuple[dict[str, Any], str]:
    if name is None:
        return {}, "python3"
    profile = settings.profile(name)
    kernel = profile.kernel.get(stem, profile.kernel.get("default", "python3"))
    if stem != "02_train":
        return dict(profile.notebooks.get(stem, {})), kernel
    if run not in profile.runs:
        raise ValueError(f"profile {name} has no run {run!r}; {files.near_miss(str(run), profile.runs)}")
    refuse_nothing(name, run, settings.check("02_train", profile.runs[run]).pairs)
    return dict(profile.runs[run]), kernel


def refuse_nothing(profile: str, run: str, kinds: Sequence[str]) -> None:
    """Refuse to train on kinds of pairs that the profile's texts do not have, as far as ``01_corpus`` has counted them.

    Raises:
        ValueError: no such pair to train on, or none of the first kind for dev; names the kinds that there are.
    """
    record = study_records.path(profile, "corpus", "all")
    counted = study_records.read(record)["counts"].get("pairs", {}) if record.is_file() else {}
    if not counted.keys() >= set(kinds):
        return
    sums = {
        (kind, split): sum(n.get(split, 0) for n in topics.values())
        for kind, topics in counted.items()
        for split in ("train", "dev")
    }
    if not sum(sums[kind, "train"] for kind in kinds) or not sums[kinds[0], "dev"]:
        have = [kind for kind in counted if sums[kind, "train"] and sums[kind, "dev"]]
        raise ValueError(
            f"run {run!r}: the texts of profile {profile} have no pairs of {kinds[0]!r} for training and dev (a book without "
            f"a glossary has no definitions); there are {', '.join(have) or 'none'}: set its `pairs`"
        )


def _value(text: str) -> Any:
    """Return a parameter typed on the command line: YAML, but 2e-4 is a number as well."""
    try:
        return float(text) if re.fullmatch(r"[+-]?[\d.]+[eE][+-]?\d+", text) else yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _execute(
    notebook: Path | NotebookNode,
    partial: Path,
    given: Mapping[str, Any],
    kernel: str,
    streams: tuple[Lines | Behind, Lines | Behind],
    quiet: bool = False,
    cwd: Path = paths.ROOT,
    **options: Any,
) -> None:
    """Run a notebook into ``partial``, showing each cell's name; a failure names the cell, if quiet with its class alone."""
    step = ""

    def announce(cell: NotebookNode, cell_index: int) -> None:
        nonlocal step
        if cell.cell_type == "code":
            step = "given" if "injected-parameters" in cell.metadata.get("tags", []) else cell.id
            print(f"{partial.name.removesuffix('.partial.ipynb')} · {step}", flush=True)

    try:
        papermill.execute_notebook(
            notebook,
            partial,
            dict(given),
            kernel_name=kernel,
            progress_bar=False,
            stdout_file=streams[0],
            stderr_file=streams[1],
            cwd=cwd,
            iopub_timeout=OUTPUT_SECONDS,
            on_cell_start=announce,
            extra_arguments=["--log-level=40"],  # not the kernel's notice that it speaks to this process over TCP
            **options,
        )
    except PapermillExecutionError as error:
        said = _class(error.ename) if quiet else f"{error.ename}: {error.evalue}"
        raise RuntimeError(f"cell {step!r}: {said}") from None
    except DeadKernelError:
        raise RuntimeError(f"cell {step!r}: the kernel died; out of memory is the usual reason") from None
    except CellTimeoutError:
        raise RuntimeError(
            f"cell {step!r}: the kernel hangs, or answers too late; run it again when less else runs on this machine"
        ) from None
    except Exception as error:  # such as an output that no notebook can hold
        if not quiet:
            raise
        raise RuntimeError(f"cell {step!r}: {_class(type(error).__name__)}") from None


def _class(name: str) -> str:
    """Return an exception's class, if it is one of Python's own; others may be called anything."""
    kind = getattr(builtins, name, None)
    return name if isinstance(kind, type) and issubclass(kind, BaseException) else "an error"


if __name__ == "__main__":
    raise SystemExit(main())
