# `make run` trains on the embedded digits and draws maps, `make test` runs the tests; each builds
# its own virtual environment in .venv first. PYTHON selects the interpreter.
# `make lock` updates the versions that CI installs, `make audit` asks PyPI for their known
# vulnerabilities.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test chaos bench lock audit clean

run: $(VENV)/run.stamp
	$(BIN)/python main.py --config=configs/digits.py
	$(BIN)/python -m cluenet_jax visualize --checkpoint=runs/digits --num_images=8 \
		--out=runs/digits/maps

test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/python -m pytest

$(BIN)/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(f"Python 3.11 or newer is needed, found {v[0]}.{v[1]}; try: make PYTHON=python3.11") if v < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(BIN)/python requirements.txt
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

# All tests of whole runs, of TPU programs, of the wheel and the notebook, the long ones too; one
# run is killed 20 times.
# About 20 minutes.
chaos: $(VENV)/test.stamp
	KILLS=20 $(BIN)/python -m pytest -n 0 -m "" \
		tests/train/test_run.py tests/train/test_hosts.py tests/train/test_reliability.py \
		tests/train/test_detection_run.py tests/train/test_pose_run.py tests/compile/test_nano.py \
		tests/benchmarks/test_comparison.py tests/tasks/test_detection.py tests/test_wheel.py \
		tests/test_examples.py

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
