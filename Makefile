# make dev is the first command, make test the second; CI calls make test and nothing else.
SHELL := /bin/bash
PY := .venv/bin/python
export DENO_DIR := $(CURDIR)/.deno-dir
export DENO_NO_UPDATE_CHECK := 1
FILE ?= examples/toggler/toggler.ts
SEEDS ?= 200

.PHONY: setup dev test check sim kill bench fmt lock clean

setup: .venv/.installed src/statebacked/runtime/js/dist/.built ## .venv with everything; called by the others

.venv/.installed: requirements.lock pyproject.toml
	@echo "setting up .venv (first time: about 40 seconds)"
	python3 -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

src/statebacked/runtime/js/dist/.built: .venv/.installed tools/build_worker.py $(wildcard src/statebacked/runtime/js/*.ts)
	$(PY) tools/build_worker.py
	@touch $@

fmt: setup
	$(PY) -m ruff format . && $(PY) -m ruff check --fix .

lock: .venv/.installed ## write requirements.lock anew from pyproject.toml
	$(PY) -m piptools compile -q --extra dev --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --strip-extras --allow-unsafe -o requirements.lock pyproject.toml

clean:
	rm -rf .venv .deno-dir src/statebacked/runtime/js/dist node_modules
