# make book    set everything up, execute the notebooks on what results/ holds, build build/book/index.html
# make test    set everything up, run every test
# make results measure what is missing or stale for MINUTES minutes
# make gates   measure whether the synthetic world is hard enough, and solvable
PYTHON ?= python3
VENV ?= .venv
PROFILE ?= laptop
MINUTES ?= 60
CORES ?= 2
BIN := $(VENV)/bin

.PHONY: book test unit notebooks lint results gates bench clean

book: $(VENV)/ready
	$(BIN)/snakemake --cores $(CORES) --quiet rules progress host --keep-going --config profile=$(PROFILE) -- book

test: lint unit notebooks

unit: $(VENV)/ready
	$(BIN)/python -m pytest tests

notebooks: $(VENV)/ready
	$(BIN)/python book/build.py smoke build/smoke
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env build/smoke

lint: $(VENV)/ready
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .

results: $(VENV)/ready
	$(BIN)/python -m reid_core measure --minutes $(MINUTES) --jobs $(CORES)

gates: $(VENV)/ready
	$(BIN)/python -m data_prep gates

bench: $(VENV)/ready
	$(BIN)/python -m reid_core bench

clean:
	rm -rf build .snakemake

$(VENV)/ready: pyproject.toml constraints.txt .ci/setup.py
	$(PYTHON) .ci/setup.py $(VENV)
