# Everything a newcomer needs: `make demo` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
# A file of exact versions, for runs that must be repeatable: `make check CONSTRAINTS=constraints.txt`.
CONSTRAINTS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := src tests bench tools examples
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile

.PHONY: demo test check check-lowest format bench dist clean

demo: $(READY)
	@$(BIN)/lmstrix demo

test: $(READY)
	@$(PYTEST)

check: $(READY)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(PYTEST)

# The tests with the oldest versions of the packages that pyproject.toml allows, in an environment of their own.
check-lowest:
	@test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=.venv-lowest .venv-lowest/bin/uv pip install --quiet --resolution lowest-direct -e '.[engine,dev]'
	.venv-lowest/bin/python -m pytest -q -n 2 --dist loadfile -p no:cacheprovider

format: $(READY)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: $(READY)
	$(BIN)/python bench/run.py

dist: $(READY)
	rm -rf dist
	$(BIN)/python -m hatchling build

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "LMStrix needs Python 3.11 or newer. To choose one that is installed, for example: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing LMStrix into $(VENV) (first time only) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS)) -e '.[engine,dev]'
	@touch $(READY)

clean:
	rm -rf $(VENV) .venv-lowest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
