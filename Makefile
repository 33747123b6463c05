# A fresh machine needs Python >= 3.11 and make; everything else comes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The version in uv.lock, so that the sync below replaces nothing while it runs.
UV_VERSION := $(shell sed -n '/^name = "uv"$$/{n;s/^version = "\(.*\)"$$/\1/p;}' uv.lock)

.PHONY: help setup demo demo-google requirements events-page pictures test test-unit test-all test-emulators test-hostile lint audit bench dist publish serve format infra-preview infra-test

help: ## What can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

setup: $(VENV)/.ready ## Create .venv with everything that uv.lock names

$(VENV)/.ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, this is " + sys.version.split()[0] + ": set PYTHON")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@# A second time with the system's certificates, for machines behind a proxy that has its own.
	@VIRTUAL_ENV= $(BIN)/uv sync --quiet --locked --python $(BIN)/python || \
		VIRTUAL_ENV= UV_SYSTEM_CERTS=1 $(BIN)/uv sync --quiet --locked --python $(BIN)/python
	@touch $@

demo: setup ## Watch events of a simulated PIM arrive, signed, in under 30 seconds
	@$(BIN)/aep demo

demo-google: setup ## Watch the same on Google's emulators, with a process for each function
	@$(BIN)/aep demo-google

requirements: setup ## Export from uv.lock what Google's functions and one server need, with hashes
	@$(BIN)/uv export --quiet --locked --offline --only-group functions --no-emit-project --no-header \
		--output-file functions/requirements.txt
	@$(BIN)/uv export --quiet --locked --offline --no-dev --no-emit-project --no-header \
		--output-file requirements-server.txt

events-page: setup ## Write docs/events.md from the catalog
	@$(BIN)/aep events --markdown > docs/events.md

pictures: setup ## Draw those pictures of docs/architecture.md that follow from the code
	@$(BIN)/python docs/pictures.py

test: setup ## Run every test that this machine can run
	@$(BIN)/pytest

test-unit: setup ## Run the tests in tests/unit, a minute or two; ARGS="-k …"
	@$(BIN)/pytest tests/unit $(ARGS)

test-all: setup ## Run every test, as CI does, with a Kafka broker from Maven Central where java and mvn are on PATH
	@$(BIN)/python tests/support/kafka_server.py .cache/kafka $(BIN)/pytest $(ARGS)

test-emulators: setup ## Run the tests on Google's emulators (gcloud components pubsub-emulator, cloud-firestore-emulator; Java 17)
	@$(BIN)/pytest -m emulators

test-hostile: setup ## Attack the platform in full size, beside a PIM that must not notice; 20 minutes on a quiet machine; ARGS="-k A3"
	@$(BIN)/pytest -q tests/hostile/full_size.py $(ARGS)

infra-test: setup ## Check what would be deployed: wiring, policies, and a stack's life where `pulumi` is on PATH
	@$(BIN)/pytest tests/infra

infra-preview: setup ## See what `pulumi up` would change in STACK, or all that it makes of the example production
ifdef STACK
	@cd infra && pulumi preview --stack $(STACK) --policy-pack policy
else
	@# In a copy, with secrets and a state that are thrown away: nothing is signed in to, and no file changes here.
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && cp -R infra functions pyproject.toml uv.lock "$$copy" && \
		ln -s "$(CURDIR)/$(VENV)" "$$copy/$(VENV)" && mkdir "$$copy/state" && cd "$$copy/infra" && \
		export PULUMI_BACKEND_URL="file://$$copy/state" PULUMI_CONFIG_PASSPHRASE=example && \
		pulumi stack init production && \
		pulumi config set --secret secretsKey "$$(head -c 32 /dev/urandom | base64)" && \
		pulumi config set --secret registryKey "$$(head -c 32 /dev/urandom | base64)" && \
		pulumi config set --secret smtpUrl smtps://user:password@mail.example.com && \
		pulumi preview --policy-pack policy
endif

lint: setup ## ruff, pyright and the direction of dependencies
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

audit: setup ## Look up known vulnerabilities of everything that uv.lock names; needs the network (osv.dev)
	@$(BIN)/uv audit --locked

format: setup ## Let ruff put the code in its form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## Measure the platform on this machine; ARGS="--case burst --runs 5" and the like
	@$(BIN)/python -m bench $(ARGS)

dist: setup ## Build wheel and sdist into dist/; with TAG=vX.Y.Z only if that is the version
	@[ -z "$$TAG" ] || [ "aep $${TAG#v}" = "$$($(BIN)/aep --version)" ] || { echo "$$TAG is not the version" >&2; exit 1; }
	@rm -rf dist
	@$(BIN)/uv build --quiet --offline --no-build-isolation --python $(BIN)/python --out-dir dist
	@cd dist && sha256sum *.tar.gz *.whl > SHA256SUMS && cat SHA256SUMS

publish: ## Make a release of the tag TAG with what `make dist` built; needs `gh`, signed in
	@gh release create "$$TAG" dist/*.tar.gz dist/*.whl dist/SHA256SUMS --verify-tag --generate-notes --title "$$TAG"

serve: setup ## Run the platform on this machine
	@$(BIN)/aep serve
