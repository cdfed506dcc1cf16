# Everything runs in an environment of its own (.venv), with the exact versions of requirements/.
# Another interpreter: make demo PYTHON=python3.13. Another place: make demo VENV=/tmp/venv.

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
RESULTS ?= results
TIMEOUT ?=
ROW ?= benchmarks/PERFORMANCE.md

BIN := $(VENV)/bin
# -qq: errors only. A newer pip or being root is no news to somebody who wants a demo.
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip install -qq --no-input
# A stamp is written after its step has succeeded, so that an interrupted step is done again.
PYTHON_STAMP := $(VENV)/.stamp-python
CORE := $(VENV)/.stamp-core
TEST := $(VENV)/.stamp-test
LINT := $(VENV)/.stamp-lint
MODELS := $(VENV)/.stamp-models

.PHONY: help demo install test test-slow coverage soundness lint format bench bench-proofs bench-training ablation scaling vnncomp-folder models docs lock clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo       certify real digits on bundled networks (installs everything first)'
	@echo 'make test       the fast test suite          make test-slow   the tests marked slow'
	@echo 'make coverage   every branch of the proof checker that its own tests reach; less than 95 % fails'
	@echo 'make soundness  try to make a wrong verdict or a wrong proof pass; prints a table and counts'
	@echo 'make lint       formatter, linter, types, import directions'
	@echo 'make bench VNNCOMP=FOLDER    run a VNN-COMP set, beside RIVALS=FILE if given; a row in PERFORMANCE.md'
	@echo 'make bench-proofs VNNCOMP=FOLDER    solve and check with proofs, compare the times'
	@echo 'make bench-training    images a second of each recipe and architecture, on a GPU with its utilisation'
	@echo 'make ablation VNNCOMP=FOLDER    what rounding and proofs cost, what a second core gains'
	@echo 'make scaling    how time grows with width, depth, inputs, radius and points; fitted exponents'
	@echo 'make models     train the bundled models again'
	@echo 'make docs       run the commands that the guide prints, write their output into it'
	@echo 'make lock       pin the versions that are installed now'

demo: $(CORE)
	@$(BIN)/relucid demo

install: $(CORE)

test: $(TEST)
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-slow: $(TEST)
	@$(BIN)/python -m pytest -m slow $(ARGS)

coverage: $(TEST)
	@$(BIN)/python -m tests.proof_coverage

soundness: $(TEST)
	@$(BIN)/python -m tests.soundness $(ARGS)

lint: $(LINT)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(LINT)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# One start for each set: a folder with an instances.csv, or all such folders in a folder.
each-set = status=0; for list in "$(VNNCOMP)"/instances.csv "$(VNNCOMP)"/*/instances.csv; do \
	test -f "$$list" || continue; name=`basename "$$(dirname "$$list")"`; echo "$$name:"; \
	$(BIN)/python benchmarks/$(1) $(if $(TIMEOUT),--timeout $(TIMEOUT)) $(ARGS) || status=$$?; \
	done; exit $$status

bench: vnncomp-folder $(CORE)
	@$(call each-set,compare.py "$$list" --out "$(RESULTS)/$$name" --resume --row "$(ROW)" \
		$(if $(RIVALS),--tools "$(RIVALS)"))

bench-proofs: vnncomp-folder $(CORE)
	@mkdir -p "$(RESULTS)"
	@$(call each-set,check_proofs.py "$$list" --out "$(RESULTS)/$$name.proofs.csv")

bench-training: $(TEST)
	@mkdir -p "$(RESULTS)"
	@$(BIN)/python benchmarks/training.py --out "$(RESULTS)/training.csv" --row "$(ROW)" $(ARGS)

ablation: vnncomp-folder $(CORE)
	@$(call each-set,ablation.py "$$list" --out "$(RESULTS)/$$name.ablation" --row "$(ROW)")

scaling: $(CORE)
	@$(BIN)/python benchmarks/scaling.py --out "$(RESULTS)/scaling" --row "$(ROW)" $(ARGS)

vnncomp-folder:
	@test -n "$(VNNCOMP)" || { echo 'make bench VNNCOMP=FOLDER: name a folder with an instances.csv, or a folder of such folders' >&2; exit 2; }

models: $(MODELS)
	@$(BIN)/python data/train_models.py

docs: $(CORE)
	@$(BIN)/python docs/refresh.py

lock: $(TEST) $(LINT) $(MODELS)
	@$(BIN)/python requirements/lock.py

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(PYTHON_STAMP):
	@test -n "$(PYTHON)" || { echo 'relucid needs Python 3.11 or newer; none was found (name one: make demo PYTHON=/path/to/python)' >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "relucid needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`" >&2; exit 2; }
	@echo "Creating $(VENV) with `$(PYTHON) --version`"
	@$(PYTHON) -m venv $(VENV) || { echo 'No environment could be created; on Debian and Ubuntu: apt install python3-venv' >&2; exit 2; }
	@touch $@

$(CORE): $(PYTHON_STAMP) requirements/core.txt pyproject.toml
	@echo 'Installing relucid and its libraries (once, a minute or two) ...'
	@$(PIP) -r requirements/core.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@echo 'Compiling the numerical kernels (once, half a minute) ...'
	@$(BIN)/python -m verifier.search.warm_up
	@$(BIN)/python -m constructions.warm_up
	@touch $@

$(TEST): $(CORE) requirements/test.txt
	@echo 'Installing what the tests need ...'
	@$(PIP) -r requirements/test.txt
	@touch $@

$(LINT): $(CORE) requirements/lint.txt
	@echo 'Installing what the checks need ...'
	@$(PIP) -r requirements/lint.txt
	@touch $@

$(MODELS): $(CORE) requirements/models.txt
	@echo 'Installing Torch ...'
	@$(PIP) -r requirements/models.txt
	@touch $@
