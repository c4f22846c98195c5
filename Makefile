# Everything a newcomer types. Needed: make, and Python 3.11, 3.12 or 3.13. `make help` lists the targets.
SHELL   := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PROFILE ?= embedded
PYTHON  ?=
PY      := .venv/bin/python
ROOM    = $(if $(CARDIOEMBED_ARTIFACTS),$(CARDIOEMBED_ARTIFACTS),artifacts)
PAGE    = $(ROOM)/$(PROFILE)/book/_build/html/index.html
# Files count as changed by their time, as in make itself. The Snakefile takes a lock that ends with its process,
# where Snakemake's own would outlive a kill.
GRAPH   := $(PY) -m snakemake --cores all --rerun-incomplete --max-checksum-file-size 0 --quiet host reason rules --nolock

.PHONY: help book all test fast lint verify publish bench clean

help:  ## say what there is
	@echo "make TARGET [PROFILE=embedded|open|domain|medembed|paper]"
	@sed -nE 's/^([a-z.]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 12

book: .venv/made  ## run the notebooks of PROFILE that need it, and build the book of that run
	@$(GRAPH) --config profile=$(PROFILE) -- book
	@echo "The book of profile $(PROFILE): open $(PAGE)"

all: .venv/made  ## run the notebooks of PROFILE that need it, without building a book
	@$(GRAPH) --config profile=$(PROFILE) -- all

test: .venv/made  ## the whole test suite, with the embedded profile from end to end
	$(PY) -m pytest -n auto

fast: .venv/made  ## the tests that take seconds
	$(PY) -m pytest -n auto -m "not slow and not gpu"

lint: .venv/made  ## style of code and notebooks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

verify: .venv/made  ## run PROFILE afresh in artifacts/verify and compare with the committed records
	@[ -d book/results/$(PROFILE) ] || { echo "Of $(PROFILE) no records are committed; choose PROFILE=$$(ls book/results | paste -sd'|')" >&2; exit 2; }
	rm -rf artifacts/verify/$(PROFILE)
	CARDIOEMBED_ARTIFACTS="$(CURDIR)/artifacts/verify" $(GRAPH) --config profile=$(PROFILE) -- all
	$(PY) -m cardioembed_study.workflow.verify artifacts/verify/$(PROFILE)/results book/results/$(PROFILE)

publish: .venv/made  ## copy the finished evidence of PROFILE into book/ and adapters/
	$(PY) -m cardioembed_study.workflow.publish evidence $(PROFILE)

bench: .venv/made  ## measure speed against peers on this machine
	@for what in train.py "train.py --explore" "train.py --read --steps 8 --repeats 5" encode.py mining.py search.py growth.py "gpu.py --memory" corpus.py mimic.py; do \
	  echo "== $$what"; $(PY) benchmarks/$$what || exit 1; done

clean:  ## remove what was built (.venv, artifacts, pages); committed evidence stays
	rm -rf .venv artifacts .snakemake book/_build _build .pytest_cache .ruff_cache *.egg-info

.venv/made: requirements.lock pyproject.toml
	@rm -f .venv/made
	@for python in "$(PYTHON)" python3.11 python3.12 python3.13 python3 python; do \
	  if [ -n "$$python" ] && "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then found="$$python"; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "No Python 3.11 or newer with its venv module was found; install one (on Debian: python3 and python3-venv)," >&2; \
	  echo "or say where it is: make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	echo "Making .venv with $$("$$found" --version)"; "$$found" -m venv --clear .venv
	$(PY) -m pip install --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch .venv/made
