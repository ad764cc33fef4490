# make demo: sets up .venv and runs the whole way on generated speech.
# make test: sets up .venv and runs every check that CI runs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check lock clean

.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sersearch needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@echo "openSMILE (audEERING), which the tests use, was installed too: for research and private use, no products."
	touch $@

demo: .venv/.ready
	$(BIN)/sersearch demo

test: .venv/.ready check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations 12

# The one check command without the tests: format, lint, types, layering.
check: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Pin what pyproject.toml allows; needs uv (pip install uv).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links \
	    --extra demo --extra dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv build dist *.egg-info
