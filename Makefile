# `make run` trains on the embedded digits and draws maps, `make test` runs the tests, `make docs`
# builds the documentation site; each builds its own virtual environment in .venv first. PYTHON
# selects the interpreter.
# `make lock` updates the versions that CI installs, `make audit` asks PyPI for their known
# vulnerabilities.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test docs chaos bench lock audit clean

run: $(VENV)/run.stamp
	$(BIN)/python main.py --config=configs/digits.py
	$(BIN)/python -m cluenet_jax visualize --checkpoint=runs/digits --num_images=8 \
		--out=runs/digits/maps

test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

# The site, first page build/docs/index.html; warnings are errors. Two processes write its pages.
docs: $(VENV)/docs.stamp
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet --jobs 2 \
		docs build/docs

$(BIN)/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(f"Python 3.11 or newer is needed, found {v[0]}.{v[1]}; try: make PYTHON=python3.11") if v < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(BIN)/python requirements.txt
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

$(VENV)/docs.stamp: $(VENV)/run.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@

# What `make test` leaves out: long tests of whole runs, buckets, an installed wheel, the notebook, TPU
# programs and benchmarks; one run is killed 20 times.
chaos: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n 0 -m chaos
	KILLS=20 $(BIN)/python -m pytest -n 0 \
		tests/train/test_run.py::test_a_killed_run_ends_like_one_never_killed

# Speed against PyTorch: writes docs/throughput.json and the tables of README and docs/performance.md.
bench: $(VENV)/test.stamp
	$(BIN)/python -m pip install --quiet torch
	$(BIN)/python -m benchmarks.table

lock: $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate \
		--extra test pyproject.toml -o .ci/constraints.txt

audit: $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --disable-pip --no-deps --progress-spinner off -r .ci/constraints.txt

clean:
	rm -rf $(VENV)
