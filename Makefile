# `make demo` and `make test` need Python 3.11 or newer, make and a package index; nothing else beforehand.
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo demo-console test quick lint types unit docs site cases screenshots bench-read bench-peers bench-trail bench-run bench-kill bench-chaos bench-watch bench-load lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

run-venv:
	@tools/venv run
dev-venv:
	@tools/venv dev
judge-venv:
	@tools/venv judge
.PHONY: run-venv dev-venv judge-venv

demo: run-venv ## the whole job on a practice AWS: audit, plan, apply, read back, undo
	@$(BIN)/sparekey demo

demo-console: run-venv ## the page to work in, on the practice company
	@$(BIN)/sparekey console --demo

test: dev-venv judge-venv ## everything that must hold: lint, types, tests with coverage
	@tools/system-packages
	@$(MAKE) --no-print-directory lint types unit

quick: dev-venv ## lint, types and the fast tests of the rooms that changed, in seconds
	@$(BIN)/python tools/quick.py

lint: dev-venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev-venv
	$(BIN)/mypy

unit: dev-venv
	@rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest --numprocesses 4 --dist loadfile
	@$(BIN)/python -m coverage combine -q
	@$(BIN)/python tools/coverage_gate.py

docs: dev-venv ## write again what the docs generate from the code
	@$(BIN)/python tools/generate_docs.py

site: dev-venv ## build the docs as a site, into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench-read: dev-venv ## measure our own reading against a constant-time server
	@$(BIN)/python bench/cases.py

bench-peers: dev-venv ## measure other tools on the same question (installs them under .bench)
	@$(BIN)/python bench/peers.py

bench-trail: dev-venv ## measure the archive scan beside other tools (installs them under .bench)
	@$(BIN)/python bench/trail.py --install --write

cases: dev-venv ## play the faults that were met from outside, one after the other (ARGS="forged_plan")
	@$(BIN)/python cases/run.py $(ARGS)

screenshots: dev-venv ## take the console's screenshots again, into docs/screenshots
	@PYTHONPATH=tests $(BIN)/python tests/console/screenshots.py

bench-run: dev-venv ## measure runs: steps a second on SQLite and PostgreSQL, one worker and more
	@$(BIN)/python bench/steps.py --write

bench-kill: dev-venv ## kill a run of 200 keys at every point, on SQLite and on PostgreSQL (ARGS="--seconds 600")
	@$(BIN)/python bench/kill.py $(ARGS)

bench-chaos: dev-venv ## play 1,000 seeds of a bad line between a run and AWS
	@$(BIN)/python bench/chaos.py $(ARGS)

bench-watch: dev-venv ## two workers, 40 faults drawn at random over an hour of virtual time: the worst delay
	@$(BIN)/python bench/watch.py $(ARGS)

bench-load: dev-venv ## one worker: 5,000 keys, 200 accounts, 300 probes, 20 runs, 50 streams, 30 minutes (ARGS="--minutes 5")
	@$(BIN)/python bench/load.py $(ARGS)

lock: ## resolve the hash-pinned requirements again (needs uv)
	@tools/lock --upgrade

clean:
	rm -rf .venv .venv-judge .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache dist
