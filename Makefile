# make dev is the first command, make test the second; CI calls make test and nothing else.
SHELL := /bin/bash
PY := .venv/bin/python
PYTHON ?= python3
# "named" where the user chose the Python: .venv is then made anew when its own is another. A .venv whose
# Python is gone is made anew in any case.
NAMED := $(if $(filter file,$(origin PYTHON)),,named)
STALE := $(if $(NAMED),$(shell tools/make_venv.sh stale "$(PYTHON)"),$(if $(wildcard $(PY)),,FORCE))
export DENO_DIR := $(CURDIR)/.deno-dir
export DENO_NO_UPDATE_CHECK := 1
SEEDS ?= 200

.PHONY: FORCE browser faketime setup dev test check sim kill restarts soak fuzz bench fmt lock clean

setup: .venv/.installed src/statebacked/runtime/js/dist/.built ## .venv with everything; called by the others

.venv/.installed: requirements.lock pyproject.toml $(STALE)
	@tools/make_venv.sh make "$(PYTHON)" $(NAMED)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

src/statebacked/runtime/js/dist/.built: .venv/.installed tools/build_worker.py $(wildcard src/statebacked/runtime/js/*.ts src/statebacked/runtime/js/deno.*)
	$(PY) tools/build_worker.py
	@touch $@

fmt: setup
	$(PY) -m ruff format . && $(PY) -m ruff check --fix .

lock: .venv/.installed ## write requirements.lock anew from pyproject.toml
	$(PY) -m piptools compile -q --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --strip-extras --allow-unsafe -o requirements.lock pyproject.toml

clean:
	rm -rf .venv .deno-dir src/statebacked/runtime/js/dist node_modules

dev: setup ## a server with the toggler deployed; prints what to paste next
	.venv/bin/statebacked dev examples/toggler/toggler.ts

check: setup ## format, lint, types, layers, fast tests, 200 seeds
	$(PY) -m ruff format --check --quiet .
	$(PY) -m ruff check --quiet .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo 2>/dev/null || .venv/bin/lint-imports
	$(PY) -m pytest -q -n 2 -m "not worker and not e2e"

sim: setup ## seeded worlds: SEED=17 replays one with its story, SEEDS=20000 runs that many on all cores
	$(PY) -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

tests/e2e/node_modules/.installed: tests/e2e/package-lock.json
	npm --prefix tests/e2e ci --no-audit --no-fund --loglevel=error
	@touch $@

browser: ## Debian's Chromium, for the page tests
	@command -v chromium >/dev/null || { \
		echo "installing Debian's chromium"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
		|| { echo "the page tests need Chromium; run: sudo apt-get install chromium"; exit 1; }; }

faketime: ## Debian's libfaketime, for the tests that set the clock
	@ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || { \
		echo "installing Debian's faketime"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends faketime >/dev/null; } \
		|| { echo "the tests that set the clock need libfaketime; run: sudo apt-get install faketime"; exit 1; }; }

test: check tests/e2e/node_modules/.installed browser faketime ## everything
	$(PY) -m pytest -q -m "worker or e2e"

kill: setup ## 100 times kill -9 under load; the laws must hold after each
	$(PY) -m tests.e2e.kill --kills $(or $(KILLS),100) $(if $(SEED),--seed $(SEED))

restarts: setup tests/e2e/node_modules/.installed browser ## 20 restarts under traffic of the published client
	$(PY) -m tests.e2e.restarts --restarts $(or $(RESTARTS),20) $(if $(SEED),--seed $(SEED))

soak: setup ## ten minutes of steady load on 1,000 instances; memory must stay flat
	$(PY) -m tests.e2e.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

fuzz: setup ## ten minutes of stories of requests made up from the contract; none may be answered with 5xx
	$(PY) -m tests.e2e.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

bench: setup ## the figures, as a table
	@command -v wrk >/dev/null || { apt-get update -qq && apt-get install -qq -y wrk >/dev/null; } \
		|| { echo "the load generator is wrk; run: sudo apt-get install wrk"; exit 1; }
	$(PY) -m bench.run $(FIGURES)
