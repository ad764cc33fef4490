# make demo:  set up .venv and run every step on generated speech.
# make quick: run all checks and the tests of pure logic, in less than two minutes on two cores.
# make test:  run everything that CI runs.
# make check: run the checks alone: format, lint, types and layering.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

.PHONY: demo quick test check check-format check-lint check-types check-layers reference site hooks lock clean

.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sersearch needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@echo "The tests use openSMILE (audEERING), which was installed too. Its licence covers research and private use, not products."
	touch $@

demo: .venv/.ready
	$(BIN)/sersearch demo

quick: .venv/.ready check
	$(PYTEST) -m "not slow" --durations 5

test: .venv/.ready check
	$(PYTEST) --durations 12

check: check-format check-lint check-types check-layers

check-format: .venv/.ready
	$(BIN)/ruff format --check .

check-lint: .venv/.ready
	$(BIN)/ruff check .

check-types: .venv/.ready
	$(BIN)/mypy

check-layers: .venv/.ready
	$(BIN)/lint-imports

# Write the tables of docs/study.md again, after a setting has changed.
reference: .venv/.ready
	$(BIN)/python -m sersearch.study.reference docs/study.md

# Build the documentation site into build/site; links that lead nowhere are errors.
site: .venv/.ready
	$(BIN)/python docs/make_site.py

# Run the checks before each commit (.pre-commit-config.yaml).
hooks: .venv/.ready
	$(BIN)/pre-commit install

# Pin what pyproject.toml allows; needs uv (pip install uv).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links \
	    --extra demo --extra dev --extra docs pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv build dist *.egg-info
