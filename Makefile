# make study: the embedded study, from nothing to its verdict.  make test: what CI runs.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
# at once, of make test; each file's tests stay together, since they share the studies that they run
PROCESSES ?= 2

.PHONY: study install test test-slow test-faults test-chaos test-cluster test-cluster-quick check lock golden gpu docs site site-serve audit licences clean

study: install
	$(BIN)/python -m study.sweep quickstart

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml uv.lock.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement uv.lock.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --no-index --editable .
	touch $@

test: install check
	$(BIN)/python -m pytest -q --numprocesses $(PROCESSES) --dist loadfile

test-slow: install
	$(BIN)/python -m pytest -q -m "slow"

test-faults: install
	$(BIN)/python -m pytest -q -m "not chaos and not slow" tests/faults

test-chaos: install
	$(BIN)/python -m pytest -q -m "chaos"

test-cluster: install
	tests/needs.sh cluster
	$(BIN)/python -m pytest -q -rs -m "cluster"

test-cluster-quick: install
	tests/needs.sh cluster
	$(BIN)/python -m pytest -q -rs -m "cluster and quick"

check: install
	$(BIN)/ruff check .
	$(BIN)/mypy study analysis

# requirements.lock: all, for a checkout. The other two are the images', of the same versions.
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --python-version 3.11

lock:
	$(COMPILE) --all-extras pyproject.toml --output-file requirements.lock
	$(COMPILE) --constraints requirements.lock pyproject.toml --output-file requirements.run.lock
	printf 'mlflow\npsycopg2-binary\n' | $(COMPILE) --constraints requirements.lock - --output-file requirements.mlflow.lock
	echo uv | $(COMPILE) - --output-file uv.lock.txt

golden: install
	$(BIN)/python -m tests.golden

# on a machine with a GPU: all that docs/performance.md promises of GPUs, in about eight minutes; writes the table of docs/gpu.md
gpu: install
	$(BIN)/python -m benchmarks.gpu --write docs/gpu.md

docs: install
	$(BIN)/python docs/make_api.py

# the documentation as a site, in site/; --strict: a link that leads nowhere fails
site: install
	$(BIN)/zensical build --strict

site-serve: install
	$(BIN)/zensical serve

audit: install
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off --requirement requirements.lock

licences: install
	$(BIN)/pip-licenses --order=license --format=markdown

clean:
	rm -rf .venv results report.html site
