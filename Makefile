# Anabranch: every recipe does its own set-up in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-kafka test-docker test-kubernetes test-policy image kafka-image faults fuzz bench bench-quick kafka check format coverage lock generated clean

help: ## This list
	@awk -F ':.*## ' '/^[.a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: .venv/installed ## The set-up alone: a virtual environment with everything

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "Anabranch needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	@touch $@

demo: .venv/installed ## Train, run and watch the card-fraud pipeline on simulated events
	$(BIN)/anabranch demo $(ARGS)

test: .venv/installed ## All tests that need no Java
	$(BIN)/python -m pytest -n 3 --dist worksteal --doctest-modules --doctest-ignore-import-errors -m "not kafka and not docker and not kubernetes" \
	  agents topics models tests --ignore=tests/benchmarks --ignore=tests/fuzz $(ARGS)

test-kafka: .venv/installed ## Tests on Apache Kafka itself (needs Java 17, Maven, Node.js)
	ANABRANCH_REQUIRE_KAFKA=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/kafka tests/deploy -m kafka $(ARGS)

test-kubernetes: .venv/installed .kubernetes/kube-apiserver ## An API server takes the manifests (needs Go, etcd, kubectl, Java 21, Maven)
	ANABRANCH_REQUIRE_APISERVER=1 $(BIN)/python -m pytest -n 0 tests/deploy -m kubernetes $(ARGS)

.kubernetes/kube-apiserver: tests/deploy/kubernetes_api/build tests/deploy/kubernetes_api/go.mod
	tests/deploy/kubernetes_api/build

test-policy: .venv/installed .venv-policy/installed ## Checkov's policies on what Kustomize builds (needs kubectl)
	ANABRANCH_REQUIRE_CHECKOV=1 $(BIN)/python -m pytest -n 0 tests/deploy/test_kubernetes_policy.py $(ARGS)

.compose/docker-compose: tests/deploy/compose_v2/go.mod
	cd tests/deploy/compose_v2 && GOFLAGS="-buildvcs=false $$GOFLAGS" go build -mod=mod -trimpath -ldflags "-s -w" \
	  -o ../../../.compose/docker-compose github.com/docker/compose/v2/cmd

.venv-policy/installed: tests/deploy/policy-requirements.txt
	$(PYTHON) -m venv .venv-policy
	.venv-policy/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

test-docker: .venv/installed ## Builds the images, runs the Compose stack (needs a Docker engine; BASE=IMAGE KAFKA_IMAGE=IMAGE)
	ANABRANCH_REQUIRE_DOCKER=1 ANABRANCH_BASE_IMAGE=$(BASE) KAFKA_IMAGE=$(KAFKA_IMAGE) \
	  $(BIN)/python -m pytest tests/deploy -m docker $(ARGS)

image: ## The image that serves, anabranch:serve, and the one that trains, anabranch:train (BASE=IMAGE)
	for target in serve train; do docker build -f deploy/Dockerfile --target $$target \
	  --build-arg BASE=$(or $(BASE),python:3.12-slim) $(ARGS) -t anabranch:$$target . || exit 1; done

kafka-image: ## Apache Kafka as the image anabranch-kafka:local, from Maven (BASE=any Debian image)
	deploy/kafka/run -l
	tar -ch deploy/kafka .kafka/libs | docker build -f deploy/kafka/Dockerfile \
	  --build-arg BASE=$(or $(BASE),debian:bookworm-slim) $(ARGS) -t anabranch-kafka:local -

faults: .venv/installed ## Kills workers and brokers (ARGS: --seeds N --long --table FILE, or -m core)
	ANABRANCH_REQUIRE_KAFKA=1 $(BIN)/python -m pytest tests/faults $(ARGS)

fuzz: .venv/installed ## Two million inputs, guided by coverage (OF: wire, events, pipelines, control; ARGS: -runs=N)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[fuzz]"
	mkdir -p .fuzz/found
	$(BIN)/python -m tests.fuzz.$(or $(OF),wire) -runs=2000000 -max_len=8192 -rss_limit_mb=512 -timeout=10 \
	  -malloc_limit_mb=64 -artifact_prefix=.fuzz/found/ -print_final_stats=1 $(ARGS) .fuzz/$(or $(OF),wire)

bench: .venv/installed .venv-peers/installed ## Against its peers on Apache Kafka (ARGS: --only w1 w2, --repeats N; -h)
	$(BIN)/python -m tests.benchmarks.run $(ARGS)

bench-quick: .venv/installed ## Has it become slower? Two minutes (ARGS: --store, --strict)
	$(BIN)/python -m tests.benchmarks.run --quick $(ARGS)

.venv-peers/installed: tests/benchmarks/peers/requirements.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

kafka: ## Apache Kafka on 127.0.0.1:9092 until Ctrl-C (ARGS: -n 3 for a cluster; -h says more)
	deploy/kafka/run $(ARGS)

check: .venv/installed ## Lint, format, the order of packages, and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: .venv/installed ## Put the code into its format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

coverage: .venv/installed ## Tests with branch coverage
	$(BIN)/coverage run -m pytest -q -m "not kafka and not docker and not kubernetes" $(ARGS)
	$(BIN)/coverage report

generated: .venv/installed ## Write what is made of code and pipeline files anew: schema, manifests, dashboards
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. agents/gateway/inference/open_inference.proto
	$(BIN)/anabranch check --schema > deploy/pipelines/pipeline.schema.json
	$(BIN)/anabranch deploy compose card-fraud -o docker-compose.yml
	$(BIN)/anabranch deploy compose card-fraud --secure -o deploy/compose/secure.yml
	$(BIN)/anabranch deploy kubernetes card-fraud
	$(BIN)/anabranch deploy grafana -o deploy/grafana/dashboards
	$(BIN)/anabranch deploy prometheus -o deploy/prometheus
	$(BIN)/python -m deploy.runbook_lines

lock: ## Resolve all dependencies anew into constraints.txt, on Python 3.11
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "The pins have to fit the oldest Python supported: make lock PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/pip install --quiet --disable-pip-version-check -e ".[all,dev]"
	{ echo "# Every dependency of .[all,dev], pinned for Python 3.11 to 3.13; regenerated by make lock."; \
	  .venv-lock/bin/pip freeze --exclude-editable; } > .venv-lock/constraints.txt
	mv .venv-lock/constraints.txt constraints.txt
	rm -rf .venv-lock

clean: ## Remove what recipes have made, but no models
	rm -rf .venv .venv-lock .venv-peers .venv-policy .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz .coverage .kafka .node .kubernetes .compose build dist
