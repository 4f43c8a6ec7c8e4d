PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint docs bench ablation clean

setup: .venv/.ok

.venv/.ok: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/.ok
	$(BIN)/dataengine run demo

# Files go to one process each: what a file's tests share is made once. The order is that of tests/conftest.py.
test: .venv/.ok
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: .venv/.ok
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m dataengine.docs --check

docs: .venv/.ok
	$(BIN)/python -m dataengine.docs

bench: .venv/.ok
	$(BIN)/python tests/benchmarks/run.py

# Every study, on scenes: STEPS of each arm (600 are about five minutes of a core each).
ablation: .venv/.ok
	$(BIN)/dataengine run ablations
	$(BIN)/python -m trainer.ablation all out/ablations/shards --out out/ablations/studies --steps $(or $(STEPS),600)

clean:
	rm -rf .venv out runs
