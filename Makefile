# make demo and make test each do all their own set-up: Python 3.11, make and a compiler are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0

.PHONY: demo test check lock clean

demo: $(VENV)/ready
	$(BIN)/alm-proxies demo

test: check
	$(BIN)/pytest

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# torch has no hash: its wheel differs by machine (set PIP_EXTRA_INDEX_URL for the CPU build, see README.md).
$(VENV)/ready: requirements/lock.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements/lock.txt
	$(BIN)/pip install --quiet --no-deps '$(TORCH)'
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --override requirements/overrides.txt requirements/lock.in -o requirements/lock.txt

clean:
	rm -rf $(VENV) build dist
