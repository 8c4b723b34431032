# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PLATFORM ?= lab
ROW ?= all

# Debian's own Python where there is one: a shim earlier in PATH may not have venv.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
BIN := .venv/bin
# Python that roles bring to a host.
CARRIED := $(shell find roles -path '*/files/*' -name '*.py')
# molecule, ansible-lint and the tests call their tools by name.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Nothing of ours goes into a home directory, also where a tool installs the collection for itself.
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible-home

.PHONY: help setup lab lab-down images capacity status validate mail-status mail-dns export-terraform check test bench topology docs lock lint types unit sanity integration scenarios clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: .venv/.ready ## make .venv/ from the locked requirements

.venv/.ready: requirements/dev.txt bindep.txt tools/setup.sh
	tools/setup.sh controller
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

.cache/.sandbox-ready: bindep.txt tools/setup.sh
	tools/setup.sh sandbox images
	mkdir -p .cache && touch $@

.cache/.test-ready: bindep.txt tools/setup.sh
	tools/setup.sh sandbox images test
	mkdir -p .cache && touch $@

lab: setup .cache/.sandbox-ready ## build the lab in the embedded sandbox and prove it
	$(BIN)/python -m tools.lab up

lab-down: setup ## remove the sandbox and prove that nothing is left
	$(BIN)/python -m tools.sandbox down

images: setup .cache/.sandbox-ready ## build the guests' images from Debian's packages
	$(BIN)/python -m tools.guest_image tiny
	$(BIN)/python -m tools.guest_image debian

capacity: setup ## use of the host of inventories/$(PLATFORM) against its policy
	$(BIN)/python -m tools.capacity -i inventories/$(PLATFORM)

status: setup ## one screen: host, networks, guests, forwards, warnings
	$(BIN)/python -m tools.status -i inventories/$(PLATFORM)

validate: setup ## every check of inventories/$(PLATFORM) against its model; changes nothing
	$(BIN)/python -m tools.validate -i inventories/$(PLATFORM)

mail-status: setup ## containers, queue, certificate, fullest mailboxes of the mail system
	$(BIN)/python -m tools.mail_status -i inventories/$(PLATFORM)

mail-dns: setup ## the DNS sheet of the mail domains (OUT=directory, ADDRESS=of the host)
	$(BIN)/python -m tools.mail_dns -i inventories/$(PLATFORM) $(if $(OUT),-o $(OUT)) $(if $(ADDRESS),--ipv4 $(ADDRESS))

export-terraform: setup ## write what stands on the host as Terraform configuration
	$(BIN)/python -m tools.export_terraform -i inventories/$(PLATFORM)

check: setup lint types unit ## judges and unit tests, under 3 minutes

lint: setup
	ruff check . && ruff format --check .
	yamllint --strict .
	rm -rf $(ANSIBLE_HOME)/collections
	ansible-lint --offline
	antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .
	antsibull-changelog lint
	vermin --target=3.9- --no-tips --violations --eval-annotations --backport dataclasses plugins $(CARRIED)
	$(BIN)/python -m tools.topology -i inventories/lab --check
	$(BIN)/python -m tools.bad_models_table --check
	$(BIN)/python -m tools.role_readme --check

types: setup
	mypy plugins tools tests bench $(CARRIED)

unit: setup .cache/.test-ready
	pytest tests/unit -q -n 2

sanity: setup
	tools/sanity.sh

integration: setup .cache/.test-ready
	# The first counts lost packets at a fixed rate and wants the machine for itself.
	$(BIN)/python -m pytest tests/integration/firewall_reload -q
	# Alone, so that it can say when there is no terraform to run.
	$(BIN)/python -m pytest tests/integration/terraform -q
	$(BIN)/python -m pytest tests/integration --ignore=tests/integration/firewall_reload --ignore=tests/integration/terraform -v -n 2 --dist loadfile --no-loadscope-reorder --durations=40

scenarios: setup .cache/.test-ready
	rm -rf $(ANSIBLE_HOME)/collections
	# Two at a time, the longest first; what one says is shown when it has ended.
	mkdir -p .cache/scenarios
	printf '%s\n' docker_host el9 guests segments | xargs -P 2 -I{} sh -c \
	  'molecule test --scenario-name {} >.cache/scenarios/{}.log 2>&1; rc=$$?; cat .cache/scenarios/{}.log; [ $$rc = 0 ] || exit 255'

# More examples of each property than the quick judgement takes.
test: export HYBRIDLAB_EXAMPLES = 100
test: check sanity integration scenarios ## everything; sets up what it needs

bench: setup .cache/.sandbox-ready ## ours against the named peers, side by side (ROW=name for one row)
	$(BIN)/python -m bench --row $(ROW)

topology: setup ## draw the segments of inventories/$(PLATFORM)
	$(BIN)/python -m tools.topology -i inventories/$(PLATFORM)

docs: setup ## regenerate what is generated
	$(BIN)/python -m tools.topology -i inventories/lab
	$(BIN)/python -m tools.bad_models_table
	$(BIN)/python -m tools.role_readme

lock: setup ## compile requirements/dev.in with hashes
	cd requirements && ../$(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
	  --no-emit-index-url --no-emit-find-links --output-file=dev.txt dev.in

clean: lab-down ## remove all that was made here, caches too
	rm -rf .venv .cache .ansible tests/output
