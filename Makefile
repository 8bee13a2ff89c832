# Every command sets up what it needs first: system packages, the virtual environment, locked dependencies.
SHELL := /bin/bash
VENV ?= .venv
PY := $(VENV)/bin/python
RUN := env -u PYTHONPATH $(PY)

.PHONY: setup servers run demo test test-large test-nightly check bench fuzz lock format clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock scripts/setup.sh pyproject.toml
	bash scripts/setup.sh $(VENV)
	@touch $@

run: setup
	$(RUN) -m app.cli serve

# make demo [DESTINATION=local|sftp|ftp|ftps|s3] [DEPLOYMENT=standalone|ssh|docker]
DESTINATION ?= local
DEPLOYMENT ?= standalone
demo: setup
	$(RUN) -m demo $(DESTINATION) $(DEPLOYMENT)

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m scripts.check_migrations
	$(RUN) -m scripts.check_supply
	$(RUN) -m app.cli openapi --check openapi.yaml

# make test [KUBECONFIG=…]: the deployments' suite also in a real cluster, in pods that it makes and removes there
# (LIBERU_TEST_NAMESPACE, default; LIBERU_TEST_IMAGE, debian:12-slim). Said on the command line only: a KUBECONFIG of
# your shell is not touched.
ifeq ($(origin KUBECONFIG),command line)
unexport KUBECONFIG
CLUSTER := LIBERU_TEST_KUBECONFIG=$(abspath $(KUBECONFIG))
endif
# Files are shared out to two workers.
WORKERS ?= 2
test: check servers
	env -u PYTHONPATH $(CLUSTER) $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=15

# other versions of the database servers, unpacked for the tests
servers: setup
	$(RUN) -m scripts.database_servers build/servers

# objects of 5 GiB through every driver, the largest values of databases; needs about 12 GB of disk
test-large: setup
	$(RUN) -m pytest -m large tests/storage/test_large.py tests/databases

# every case of what `make test` takes a sample of: each kind of object that the databases' servers know, each moment
# of a swap, ninety days of schedules …
test-nightly: setup servers
	LIBERU_TEST_SWEEPS=whole $(RUN) -m pytest -n $(WORKERS) --dist loadfile -m 'sweep and not large'

# the readers of foreign archives against changed ones, hostile dumps against real clients and servers; SECONDS for
# each kind
SECONDS ?= 300
fuzz: setup
	env -u PYTHONPATH FUZZ_SECONDS=$(SECONDS) FUZZ_SEED=$$RANDOM $(PY) -m pytest -n $(WORKERS) tests/external/test_fuzz.py \
		tests/attacks/test_fuzz_mysql.py tests/attacks/test_fuzz_psql.py

# make bench NAME=pipeline
bench: setup
	$(RUN) -m benchmarks $(NAME)

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

lock: setup
	$(VENV)/bin/pip install --quiet uv
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) build
