# `make serve`, `make test`, `make check`: everything they need is set up on the way, in .venv.
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .cache/tools
PYTHON ?= python3
UV := $(TOOLS)/bin/uv
SERVE_ARGS ?=
# Most tests wait for audio in real time or for processes to start: more of them at once than there are cores.
PYTEST_WORKERS ?= 3

.PHONY: serve test check bench lock clean help

help:
	@echo "make serve   set up, start Triton and the front end   (SERVE_ARGS='--port 9000')"
	@echo "make test    set up, check, run every test"
	@echo "make check   ruff, pyright, import rules"
	@echo "make bench   measure speed on this machine, write bench/results/"
	@echo "make lock    refresh the pinned versions in requirements/"

$(UV):
	@echo "setting up: uv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install --quiet --disable-pip-version-check uv

$(BIN)/python: | $(UV)
	@echo "setting up: Python environment"
	@$(UV) venv --quiet --seed --python '>=3.11,<3.13' $(VENV)

$(VENV)/.serve: requirements/serve.txt pyproject.toml | $(BIN)/python
	@echo "setting up: packages (about 600 MB, once)"
	@$(UV) pip install --quiet --python $(BIN)/python -r requirements/serve.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

# The references of the parity tests want torch: the CPU build, wherever this machine finds one.
$(VENV)/.test: requirements/test.txt $(VENV)/.serve
	@echo "setting up: packages for tests"
	@$(UV) pip install --quiet --python $(BIN)/python -r requirements/test.txt
	@$(BIN)/python -c 'import torch' 2>/dev/null \
	  || $(UV) pip install --quiet --python $(BIN)/python --torch-backend cpu torch==2.13.0 2>/dev/null \
	  || $(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(UV) pip install --quiet --python $(BIN)/python -r requirements/reference.txt
	@touch $@

serve: $(VENV)/.serve
	@$(BIN)/voiceforge serve $(SERVE_ARGS)

test: check
	@tests/setup.sh
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/.test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/python -m pytest -q tests/unit/test_imports.py

bench: $(VENV)/.test
	@$(BIN)/python -m bench.streaming
	@$(BIN)/python -m bench.engine

lock: | $(UV)
	@$(UV) pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --extra embedded pyproject.toml -o requirements/serve.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header --extra embedded --extra production --group test --group check --group load pyproject.toml -c requirements/serve.txt -o requirements/test.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header -c requirements/test.txt requirements/reference.in -o requirements/reference.txt

clean:
	rm -rf $(VENV) .cache build *.egg-info
