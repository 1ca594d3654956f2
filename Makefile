# Cardkey's commands; `make help` lists them. Nothing here needs root.

.DEFAULT_GOAL := help
.PHONY: help run test check faults bench audit lock prepare prepare-tests tools

# The first of these that is there and new enough; PYTHON=… chooses another.
ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && \
	echo $$python && break; done)
endif
BIN := .venv/bin
TOOLS := .cache/tools
ARGS ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: prepare ## set everything up and serve the portal until Ctrl-C
	@exec $(BIN)/python -m runner

# What starts whole installations or browsers needs the machine for itself; everything else runs on two cores at once.
ALONE := tests/journeys tests/workers tests/real_servers tests/faults tests/bench tests/test_runner.py

test: prepare-tests ## set everything up and run the tests (ARGS="tests/models -x" for some of them)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python -m pytest -n 2 $(addprefix --ignore=,$(ALONE)); first=$$?; [ $$first -lt 2 ] || exit $$first; \
	$(BIN)/python -m pytest $(wildcard $(ALONE)) && exit $$first
else
	@exec $(BIN)/python -m pytest $(ARGS)
endif

check: export CI = true
check: prepare-tests ## what CI runs: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory test

faults: prepare-tests ## break everything that can break, an hour long, and count what is lost (ARGS="--quick", ARGS="--only F2,F7")
	@exec $(BIN)/python -m bench.faults $(ARGS)

bench: prepare-tests ## measure against plainer ways of doing it, an hour long (ARGS="--quick", ARGS="--only rate,cpu")
	@exec $(BIN)/python -m bench $(ARGS)

audit: tools ## look up known vulnerabilities in the pinned dependencies (needs the internet)
	$(TOOLS)/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.txt

lock: tools ## compile requirements*.in into requirements*.txt with hashes (for maintainers)
	for name in requirements requirements-dev; do \
	$(TOOLS)/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--quiet $$name.in -o $$name.txt || exit 1; done

prepare prepare-tests:
	@test -n '$(PYTHON)' || { echo 'Cardkey needs Python 3.11, 3.12, 3.13 or 3.14. Install one, on Debian with: apt install python3 python3-venv'; exit 1; }
	@$(PYTHON) runner/environment.py $(if $(filter prepare,$@),run,test)

tools:
	@test -x $(TOOLS)/bin/uv || { $(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install --quiet uv==0.13.9 pip-audit==2.10.1; }
