# make demo and make test each do all their own set-up: Python 3.11, make and a compiler are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0

VLLM := .venv-vllm
LINUX := $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m))

.PHONY: demo test check docs lock clean

demo: $(VENV)/ready
	$(BIN)/alm-proxies demo

# One group after the other, so that two engines never share the processors.
test: check $(if $(LINUX),$(VLLM)/ready)
	$(BIN)/pytest -m 'not vllm and not browser and not server'
	$(BIN)/pytest -m '(browser or server) and not vllm'
ifeq ($(LINUX),)
	@echo 'The tests with a real vLLM are left out: they need Linux on x86-64.'
else
	$(VLLM)/bin/python -m pytest -m vllm tests/engines tests/models
endif

check: $(VENV)/ready
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The site, into site/: strict, and nothing in it is loaded from the network.
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# torch has no hash: its wheel differs by machine (set PIP_EXTRA_INDEX_URL for the CPU build, see README.md).
$(VENV)/ready: requirements/lock.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements/lock.txt
	$(BIN)/pip install --quiet --no-deps '$(TORCH)'
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# vLLM pins a torch and transformers of its own, so it lives in an environment of its own: the CPU build, for tests.
$(VLLM)/ready: requirements/vllm.txt tests/vllm_environment/repair.py
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --no-deps -r requirements/vllm.txt
	$(VLLM)/bin/python tests/vllm_environment/repair.py
	touch $@

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --override requirements/overrides.txt requirements/lock.in -o requirements/lock.txt

clean:
	rm -rf $(VENV) $(VLLM) build dist site
