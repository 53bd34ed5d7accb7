# Two commands do everything: `make demo` and `make test`. `make demo-s3` is the demo on object storage,
# `make chaos` is a night of faults, then scores and inspections under attack, for about three quarters of an hour.
# `make rehearsal` is two weeks of a fleet in a quarter of an hour.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo demo-s3 test chaos rehearsal lint types imports check install clean

demo: install
	$(BIN)/raysvq demo

demo-s3: install
	$(BIN)/python -m devtools.demo_s3

test: install
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 10

chaos: install
	$(BIN)/python -m benchmarks.night --json benchmarks/results/night.json
	$(BIN)/python -m benchmarks.chaos --runs 10 --json benchmarks/results/chaos.json
	$(BIN)/python -m benchmarks.fleet_chaos --runs 15 --json benchmarks/results/fleet_chaos.json

rehearsal: install
	$(BIN)/python -m devtools.rehearsal --json benchmarks/results/rehearsal.json

check: lint types imports

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[jobs,dev]'
	touch $@

clean:
	rm -rf $(VENV) runs build
