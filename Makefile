# A fresh machine needs Python >= 3.11 and make; everything else comes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests start some hundred processes of Python: each would compile what it imports.
export PYTHONDONTWRITEBYTECODE :=
# Processes side by side have to collect the same tests in the same order, also where that is a set's.
export PYTHONHASHSEED := $(or $(PYTHONHASHSEED),$(shell date +%s))
# Processes that tests run in side by side; 0 for one in the foreground, as a debugger wants it.
WORKERS ?= 5
SIDE_BY_SIDE = --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
# The version in uv.lock, so that the sync below replaces nothing while it runs.
UV_VERSION := $(shell sed -n '/^name = "uv"$$/{n;s/^version = "\(.*\)"$$/\1/p;}' uv.lock)

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

# A target's line of `make help` stands behind its ##, and ##@ begins a group.
help: ## List what can be made
	@awk -F ':.*## ' '/^##@ /{printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## /{printf "  %-16s%s\n", $$1, $$2}' \
		$(firstword $(MAKEFILE_LIST))

##@ Try it
setup: $(VENV)/.ready ## Create .venv with everything that uv.lock names

$(VENV)/.ready: pyproject.toml uv.lock
	@echo "Setting up $(VENV) with what uv.lock names, from PyPI: the first time this takes a minute or two …" >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, this is " + sys.version.split()[0] + ": set PYTHON")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@# A second time with the system's certificates, for machines behind a proxy that has its own.
	@VIRTUAL_ENV= $(BIN)/uv sync --quiet --locked --python $(BIN)/python || \
		VIRTUAL_ENV= UV_SYSTEM_CERTS=1 $(BIN)/uv sync --quiet --locked --python $(BIN)/python
	@touch $@

demo: setup ## Watch events of a simulated PIM arrive, signed, in under 30 s
	@$(BIN)/aep demo

demo-google: setup ## Watch the same on Google's emulators, in six processes
	@$(BIN)/aep demo-google

serve: setup ## Run the platform on this machine
	@$(BIN)/aep serve

##@ Test and lint
test: setup ## Run tests of every kind, in minutes; ARGS="-k …"
	@$(BIN)/pytest $(SIDE_BY_SIDE) -m "not full" $(ARGS)

test-unit: setup ## Run the tests in tests/unit; ARGS="-k …"
	@$(BIN)/pytest $(SIDE_BY_SIDE) tests/unit $(ARGS)

# More of these tests wait, so more of them run side by side.
test-all: WORKERS = 6
test-all: setup ## Run every test as CI does, with Kafka if java and mvn are here
	@$(BIN)/python tests/support/kafka_server.py .cache/kafka $(BIN)/pytest $(SIDE_BY_SIDE) $(ARGS)

coverage: setup ## Show branches that tests of parts take; domain/ needs 95 %
	@mkdir -p .cache
	@$(BIN)/coverage run -m pytest -q tests/unit tests/contract -m "not emulators and not full" $(ARGS)
	@$(BIN)/coverage report
	@$(BIN)/coverage report --include "functions/event_platform/domain/*" --fail-under 95

test-emulators: setup ## Run the tests on Google's emulators; needs gcloud and Java
	@$(BIN)/pytest -m emulators

test-hostile: setup ## Attack the platform in full size, 20 minutes; ARGS="-k A3"
	@$(BIN)/pytest -q tests/hostile/full_size.py $(ARGS)

lint: setup ## Run ruff, codespell, pyright, and check pages and imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell
	@$(BIN)/python docs/line_length.py
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: setup ## Let ruff put the code in its form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

audit: setup ## Look up known vulnerabilities of what uv.lock names, online
	@$(BIN)/uv audit --locked

bench: setup ## Measure the platform here; ARGS="--case burst --runs 5"
	@$(BIN)/python -m bench $(ARGS)

##@ Deploy to Google Cloud
infra-test: setup ## Check what would be deployed; more where pulumi is on PATH
	@$(BIN)/pytest tests/infra

infra-preview: setup ## See what `pulumi up` would change in STACK, or a whole example
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

##@ Write what follows from other files
requirements: setup ## Export from uv.lock what functions, a server and a build need
	@$(BIN)/uv export --quiet --locked --offline --only-group functions --no-emit-project --no-header \
		--output-file functions/requirements.txt
	@$(BIN)/uv export --quiet --locked --offline --no-dev --no-emit-project --no-header \
		--output-file requirements-server.txt
	@$(BIN)/uv export --quiet --locked --offline --only-group build --no-emit-project --no-header \
		--output-file requirements-build.txt

events-page: setup ## Write docs/events.md from the catalog
	@$(BIN)/aep events --markdown > docs/events.md

options-page: setup ## Write docs/command-options.md from the commands
	@$(BIN)/python docs/options_page.py

console-assets: setup ## Fetch what the console runs in a browser
	@$(BIN)/python docs/console/assets.py

console-axe: setup ## Fetch axe-core for the tests of the console in a browser
	@$(BIN)/python docs/console/assets.py --axe

screenshots: setup ## Take pictures of the console for its page, with Chromium
	@$(BIN)/python docs/console/screenshots.py

docs: $(VENV)/.docs ## Build the pages as a site into site/, and check its links
	@$(BIN)/python docs/site/build_site.py

docs-look: docs ## Look at the built site with Chromium
	@$(BIN)/python docs/site/look_at_site.py

$(VENV)/.docs: $(VENV)/.ready
	@VIRTUAL_ENV= $(BIN)/uv sync --quiet --locked --inexact --group docs --python $(BIN)/python || \
		VIRTUAL_ENV= UV_SYSTEM_CERTS=1 $(BIN)/uv sync --quiet --locked --inexact --group docs --python $(BIN)/python
	@touch $@

demo-picture: setup ## Run the demo and draw what it prints, docs/demo.svg
	@$(BIN)/python docs/demo_picture.py

pictures: setup ## Draw the pictures of the pages that follow from the code
	@$(BIN)/python docs/pictures.py

##@ Release
image: ## Build the container image with podman, docker or buildah
	@engine=$$(command -v podman || command -v docker || command -v buildah) || \
		{ echo "make image needs podman, docker or buildah on PATH" >&2; exit 1; }; \
	case "$$engine" in */docker) form= ;; *) form="--format docker" ;; esac; \
	version=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' functions/event_platform/__init__.py); \
	"$$engine" build $$form --file Containerfile --label "org.opencontainers.image.version=$$version" \
		--tag "akeneo-event-platform:$$version" --tag akeneo-event-platform:latest $(ARGS) .

dist: setup ## Build wheel and sdist into dist/; TAG=vX.Y.Z if that is meant
	@[ -z "$$TAG" ] || [ "$${TAG#v}" = "$$($(BIN)/aep --version | cut -d' ' -f2)" ] || { echo "$$TAG is not the version" >&2; exit 1; }
	@rm -rf dist
	@$(BIN)/uv build --quiet --offline --no-build-isolation --python $(BIN)/python --out-dir dist
	@cd dist && sha256sum *.tar.gz *.whl > SHA256SUMS && cat SHA256SUMS

publish: ## Make a release of TAG with what is in dist/; needs gh
	@gh release create "$$TAG" dist/*.tar.gz dist/*.whl dist/SHA256SUMS --verify-tag --generate-notes --title "$$TAG"
