# make book    set everything up, execute the notebooks on what results/ holds, build build/book/_build/html/index.html
# make test    set everything up, run every test
# make results measure what is missing or stale for MINUTES minutes
# make publish the built book and its runs as one archive with checksums, in build/publish
# make gates   measure whether the synthetic world is hard enough, and solvable
PYTHON ?= python3
VENV ?= .venv
PROFILE ?= laptop
MINUTES ?= 60
CORES ?= 2
BIN := $(VENV)/bin
# one thread for each of several processes
ALONE := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: book publish test unit notebooks lint results gates bench clean

book: $(VENV)/ready
	$(BIN)/python book/build.py make $(PROFILE) $(CORES)

# REPOSITORY=https://... is the address that the book's buttons for source and launch lead to
publish: export REID_REPOSITORY := $(REPOSITORY)
publish: book
	$(BIN)/python book/bundle.py

test: lint unit notebooks

unit: $(VENV)/ready
	$(ALONE) $(BIN)/python -m pytest -p no:nbval -n $(CORES) --dist loadfile --no-loadscope-reorder --durations 10 tests

notebooks: $(VENV)/ready
	$(BIN)/python book/build.py smoke build/smoke
	$(ALONE) $(BIN)/python -m pytest -n $(CORES) --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout 300 build/smoke

lint: $(VENV)/ready
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .

results: $(VENV)/ready
	$(BIN)/python -m reid_core measure --minutes $(MINUTES) --jobs $(CORES)

gates: $(VENV)/ready
	$(BIN)/python -m reid_core gates

bench: $(VENV)/ready
	$(BIN)/python -m reid_core bench

clean:
	rm -rf build .snakemake

$(VENV)/ready: pyproject.toml constraints.txt .ci/setup.py
	$(PYTHON) .ci/setup.py $(VENV)
