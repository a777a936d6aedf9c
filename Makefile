# `make bench` and `make test` do everything from a fresh clone: a virtual environment, an install, a run.
# Needs Python 3.11 or newer and a package index. Nothing is installed twice: a stamp remembers what was.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := workers,throughput,finetune,test,zoo,docs
INSTALLED := $(VENV)/.installed
# The bundled models and image sets need no hub; the suite's own tests must not reach for one either.
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
ARGS ?=

.PHONY: bench test more test-all lowest core lint browser docs study mending throughput kills gate-doc scale-doc models-doc api-doc zoo adapters wheel clean

bench: $(INSTALLED)
	$(OFFLINE) $(BIN)/pytest benchmarks $(ARGS)

# Two workers with a core each. The gate is off for the tests' own run: what it does is in the runs that they make.
TESTS := $(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -o emt=false

test: $(INSTALLED) lint
	$(TESTS) -m 'not thorough and not wide' $(ARGS)

# Of what `make test` leaves out, what a change to the gate is most likely to break.
MORE := tests/test_installed.py $(addprefix tests/plugin/test_,gate_runs.py::test_rows_do_not_depend_on_workers_or_batch_size home.py early_stop.py readme_commands.py \
	scorer_runs.py::test_three_scorers_and_the_steps_between ray.py::test_a_node_and_an_actor_may_go \
	parts_by_images.py::test_three_parts_are_the_run_that_one_would_have_been) \
	tests/test_workflows.py::test_the_github_gate tests/compute/test_judge.py

more: $(INSTALLED)
	$(TESTS) -m 'thorough and not wide' $(MORE) $(ARGS)

# Everything but what `make browser` and `make models-doc` do alone: kills, the wheel, long fine-tunings and nights.
test-all: $(INSTALLED) lint
	$(TESTS) -m 'not wide' $(ARGS)

# The gate and what stands on transformers, with the lowest versions that pyproject.toml allows, in an environment of its own.
LOWEST := .venv-lowest
RANKS := test_labels_are_ranked_as_the_loss_of_the_whole_text_says
LOWEST_TESTS := tests/compute/test_backend.py tests/unit/test_without_models.py tests/unit/test_versions.py \
	tests/plugin/test_gate_runs.py::test_bad_options_are_one_sentence_and_nothing_is_written \
	$(foreach family,llava llava_next internvl qwen2_5_vl,tests/compute/test_families.py::$(RANKS)[$(family)])

lowest: $(LOWEST)/.installed
	$(OFFLINE) $(LOWEST)/bin/pytest benchmarks
	$(OFFLINE) OMP_NUM_THREADS=1 $(LOWEST)/bin/pytest -n 2 -o emt=false -m 'not thorough' $(LOWEST_TESTS) $(ARGS)

# What needs no model, so no torch either: reading, the gate, records and reports. For other Pythons without a download of GBs.
CORE_TESTS := $(addprefix tests/unit/test_,reading.py gate.py records.py report.py catalog.py merge.py run_commands.py)

core: $(VENV)/.core
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -o emt=false -m 'not thorough' $(CORE_TESTS) $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The report in a real browser, looked at in every way, with pictures in build/screenshots.
# Needs Debian's chromium.
browser: $(INSTALLED)
	$(OFFLINE) EMT_BROWSER=full EMT_BROWSER_REQUIRED=1 EMT_SCREENSHOTS=build/screenshots $(BIN)/pytest tests/browser $(ARGS)

# The site of README.md and docs/, in build/site; a link or an anchor that leads nowhere ends it.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The bundled fine-tuning runs, checkpoint by checkpoint, and the tables of them in docs/study.md.
# Checkpoints that forgot are what it is for, so verdicts of FAIL and INCONCLUSIVE (1 and 7) do not end it.
study: $(INSTALLED)
	$(OFFLINE) $(BIN)/pytest benchmarks -n 2 --model llava-mini --checkpoint 'fixtures/mini/adapters/*/*' \
		--emt-reports build/study $(ARGS); code=$$?; test $$code = 0 -o $$code = 1 -o $$code = 7
	$(BIN)/emt study "$$(ls -td build/study/*/ | head -1)" --write docs/study.md

# The bundled runs that forget, mended, and what that recovers in docs/mending.md. Where no alpha helps or a promise is not settled
# (1 and 7), the tables say so.
FORGETFUL := lora-fashion lora-emoji lora-mnist

mending: $(INSTALLED)
	for run in $(FORGETFUL); do rm -rf build/mending/$$run; \
		$(OFFLINE) $(BIN)/emt mend --model llava-mini --checkpoint "fixtures/mini/adapters/$$run/checkpoint-*" \
			--out build/mending/$$run/mended --reports build/mending/$$run/reports $(ARGS); code=$$?; \
		test $$code = 0 -o $$code = 1 -o $$code = 7 || exit $$code; \
		$(BIN)/emt study build/mending/$$run/reports/*/ --write docs/mending.md || exit; done

# What the suite costs, and the table of it in docs/throughput.md; about ten minutes on two cores that do nothing else.
throughput: $(INSTALLED)
	$(OFFLINE) $(BIN)/pytest benchmarks --emt-throughput --benchmark-json=throughput.json $(ARGS)
	$(BIN)/emt throughput throughput.json --write docs/throughput.md

# A run killed twenty times in a row, without workers and with two; `make test` does it less often.
kills: $(INSTALLED)
	$(OFFLINE) EMT_TEST_KILLS=20 $(BIN)/pytest tests/plugin/test_kills.py $(ARGS)

# docs/gate.md and the tables of docs/training.md: how often the gate errs, and how often a training is stopped, computed anew.
gate-doc: $(INSTALLED)
	$(BIN)/python -m emt_plugin.gate.calibration
	$(BIN)/python -m emt_plugin.finetune.false_stops

# The tables of docs/scale.md: what an image costs beside the model; about six minutes.
scale-doc: $(INSTALLED)
	$(BIN)/python -m emt_plugin.throughput.scale

# The tables of docs/models.md, from the tests of every family; about four minutes.
models-doc: $(INSTALLED)
	$(TESTS) tests/compute/test_families.py tests/compute/test_finetune_families.py --junitxml=build/families.xml
	$(BIN)/python -m tests.models_doc build/families.xml

# The reference of docs/api.md, from the docstrings.
api-doc: $(INSTALLED)
	$(BIN)/python -m tests.api_doc

# The bundled image sets and models, made anew; about 40 minutes on two cores.
# Needs Debian's dataset-fashion-mnist, fonts-noto-color-emoji and unicode-data.
zoo: $(INSTALLED)
	$(BIN)/python fixtures/mini/build_image_sets.py
	$(BIN)/python fixtures/mini/train_models.py

# The bundled fine-tuning runs, made anew from llava-mini; their weights need the zoo as it is.
adapters: $(INSTALLED)
	$(BIN)/python fixtures/mini/train_adapters.py

wheel: $(INSTALLED)
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

# torch comes first and by its exact version: a bare `torch` pulls gigabytes for machines that have a GPU.
$(INSTALLED): pyproject.toml constraints.txt hatch_build.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

# What runs the tests is taken as it is in constraints.txt, for it is no part of the tool.
$(LOWEST)/.installed: pyproject.toml constraints-lowest.txt constraints.txt
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints-lowest.txt)"
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt \
		$$(grep -E '^(hypothesis|jsonschema|scipy|sentencepiece)==' constraints.txt) --editable '.[workers,finetune]'
	touch $@

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt filelock huggingface_hub hypothesis jinja2 jsonschema msgspec \
		numpy pillow pytest pytest-xdist pyyaml regex scipy tomlkit tqdm
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
