# `make` alone prints the list of targets. You need only python3 (3.11 or newer, with venv), make and git:
# everything else is installed as a wheel, pinned in uv.lock or here.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

UV_VERSION := 0.13.8
PYTHON ?= python3
# Two workers: suites start servers and Postgres of their own, and the smallest machine has two cores.
TEST_WORKERS ?= 2
# Fuzzing time in `make chaos`; during a quarter of it Postgres is killed. `make test` uses 30.
FUZZ_SECONDS ?= 270
# Calls in the fuzzing of every RPC and route; `make test` makes 800.
FUZZ_CALLS ?= 24000
# Transfers in the history of the ledger under faults; `make test` sends 20,000.
HISTORY_TRANSFERS ?= 1000000
# Payments through cut connections at a processor of others in `make chaos`; `make test` makes 20.
FAULTED_PAYMENTS ?= 10000

# The types take as long as all other checks together, on one core.
LINT := check-types check-style check-imports check-schemas check-breaking check-generated check-pages
BESIDE := -j $(TEST_WORKERS) $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

VENV := .venv
UV := $(VENV)/bin/uv
SYNCED := $(VENV)/.synced
RUN := $(VENV)/bin
PY := $(RUN)/python
# uv must neither fetch an interpreter of its own nor obey an environment that the caller has active.
UV_SYNC := env -u VIRTUAL_ENV UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=$(VENV) \
	$(UV) sync --locked --inexact --compile-bytecode --quiet
# Without bytecode a start of the mesh costs 2.7 s of CPU instead of 1.2 s, and the crash tests start it 120 times.
unexport PYTHONDONTWRITEBYTECODE
# A checkout may belong to another user than git expects; the facade states its own version.
export GOFLAGS := -buildvcs=false
# tools/go_toolchain.py chooses a Go that is new enough; it must not fetch another one.
export GOTOOLCHAIN := local

.PHONY: help setup demo up test lint generate catalog-schema examples bench chaos gateway grpcurl wheel \
	check-style check-types check-imports check-schemas check-breaking check-generated check-pages check-gateway \
	suites unit release-image clean

##@ Use

help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

setup: $(SYNCED) ## Install everything into .venv (other targets do this when needed)

demo: setup $(if $(findstring --keep,$(ARGS)),gateway) ## Bill two real traces; make demo ARGS=--keep keeps the mesh running
	@$(RUN)/tollmesh demo $(ARGS)

up: setup ## Start the mesh with its REST facade; Ctrl-C stops it (ARGS="--grpc-port 7000 ...")
	@$(MAKE) gateway || echo "Starting the mesh without REST." >&2
	@$(RUN)/tollmesh up $(ARGS)

##@ Work on it

test: setup ## Lint, types, architecture, schemas and all suites; ends with the count
	@$(MAKE) $(BESIDE) $(LINT) check-gateway
	@$(MAKE) suites

lint: setup ## All checks that run no service
	@$(MAKE) $(BESIDE) $(LINT)

generate: setup ## Write gen/ from proto/, and pages of docs/reference (PARTS="python sdk go jsonschema" for some)
	@$(PY) tools/generate.py $(PARTS)
	@$(PY) tools/event_page.py
	@$(PY) tools/cli_page.py
	@$(PY) tools/settings_page.py
	@$(PY) tools/metrics_page.py
	@$(PY) tools/recipe_pages.py
	@$(PY) tools/seed_conformance.py
	@$(PY) tools/catalog_schema.py

catalog-schema: setup ## Write the JSON Schema of the catalogue's YAML, for editors, from proto/
	@$(PY) tools/generate.py jsonschema
	@$(PY) tools/catalog_schema.py

examples: setup gateway ## Record the examples of the OpenAPI description anew, from calls to a mesh
	@TOLLMESH_WRITE_EXAMPLES=1 $(RUN)/pytest -q tests/integration/gateway/test_examples.py
	@$(PY) tools/generate.py go

unit: setup ## Only the tests that need no server and no database
	@$(RUN)/pytest tests/unit -q

chaos: setup ## Only the crash tests: every crash point, and minutes of fuzzing events and calls
	@TOLLMESH_FUZZ_SECONDS=$(FUZZ_SECONDS) TOLLMESH_FUZZ_CALLS=$(FUZZ_CALLS) TOLLMESH_CRASH_POINTS=all \
		TOLLMESH_HISTORY_TRANSFERS=$(HISTORY_TRANSFERS) TOLLMESH_FAULTED_PAYMENTS=$(FAULTED_PAYMENTS) \
		$(RUN)/pytest tests/chaos -n $(TEST_WORKERS) --dist loadgroup

bench: setup ## Measure speed and memory; prints a table with ratios
	@$(RUN)/pytest tests/bench -q -s -p no:cacheprovider

gateway: setup ## Build the REST facade to build/gateway
	@go=$$($(PY) tools/go_toolchain.py) && \
		PATH="$$go:$$PATH" go -C services/gateway build -o ../../build/gateway .

grpcurl: setup ## Build grpcurl to build/grpcurl, to list and call the services by reflection
	@go=$$($(PY) tools/go_toolchain.py) && PATH="$$go:$$PATH" \
		go -C services/gateway build -o ../../build/grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl

wheel: setup ## Build the wheels of the server, facade included, and of the Python client to dist/
	@go=$$($(PY) tools/go_toolchain.py) && PATH="$$go:$$PATH" CGO_ENABLED=0 \
		go -C services/gateway build -trimpath -ldflags="-s -w" -o ../../build/wheel/gateway .
	@TOLLMESH_GATEWAY=$(CURDIR)/build/wheel/gateway $(UV) build --quiet --no-build-isolation --wheel --out-dir dist .
	@$(UV) build --quiet --no-build-isolation --wheel --out-dir dist sdk/python

##@ Pieces of `make test`

check-style: setup ## ruff: rules and format
	@$(RUN)/ruff check --quiet .
	@$(RUN)/ruff format --check --quiet .
	@echo "style: clean"

check-types: setup ## mypy --strict; the client as Python 3.10 too
	@$(RUN)/mypy --strict services tollmesh_verify tests tools sdk/python/src
	@$(RUN)/mypy --strict --python-version 3.10 sdk/python/src

check-imports: setup ## import-linter: who may import whom
	@$(RUN)/lint-imports

check-schemas: setup ## buf lint and format
	@$(RUN)/buf lint
	@$(RUN)/buf format --diff --exit-code --path proto/payments
	@echo "schemas: clean"

check-breaking: setup ## buf breaking, against the parent commit and the last release
	@$(PY) tools/check_breaking.py

check-generated: setup ## gen/ matches proto/
	@$(PY) tools/generate.py --check

check-pages: setup ## docs/reference and the schema of the catalogue match what they are written from
	@$(PY) tools/event_page.py --check
	@$(PY) tools/cli_page.py --check
	@$(PY) tools/settings_page.py --check
	@$(PY) tools/metrics_page.py --check
	@$(PY) tools/recipe_pages.py --check
	@$(PY) tools/seed_conformance.py --check
	@$(PY) tools/catalog_schema.py --check

check-gateway: setup ## gofmt, go vet and the facade's own tests; the Go example
	@go=$$($(PY) tools/go_toolchain.py) && PATH="$$go:$$PATH" && export PATH && \
		unformatted=$$(gofmt -l services/gateway sdk/go) && \
		if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted" >&2; exit 1; fi && \
		go -C services/gateway vet ./... && go -C services/gateway test ./... && go -C sdk/go/example vet ./...

suites: setup gateway ## Every pytest suite except bench
	@$(RUN)/pytest tests --ignore tests/bench -n $(TEST_WORKERS) --dist loadgroup

##@ Release

release-image: setup ## Record the schemas as those of the released version (tests/golden/)
	@$(PY) tools/check_breaking.py --record

clean: ## Remove everything the targets created, but keep the data of a mesh
	rm -rf $(VENV) .tools build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# The stamp is newer than the lock file exactly when the environment follows it.
$(SYNCED): pyproject.toml uv.lock | $(UV)
	@$(UV_SYNC)
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tollmesh needs Python 3.11 or newer; choose one with: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up .venv (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
