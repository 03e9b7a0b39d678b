# README's commands and their parts. Everything that needs preparing prepares itself.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: pyftpdlib-expected help setup setup-crate setup-tests build demo test lint bench bench-ftp bench-http bench-queue bench-accuracy fuzz soak soak-load clean

CARGO ?= cargo
PYTHON ?= python3

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: setup-crate ## fetch ONNX Runtime and the models, patch libunftp (once; hash-checked)
	@$(PYTHON) models/fetch.py

# Cargo.toml names vendor/libunftp: nothing that calls cargo works without it.
setup-crate:
	@CARGO="$(CARGO)" scripts/patch-libunftp

setup-tests: setup
	@scripts/test-deps

build: setup ## build target/release/inkport
	$(CARGO) build --release --locked

demo: build ## read real pages over FTP and show what comes out
	@scripts/demo

# No binary of tests runs for ever, nor do all of them together.
BOUNDED = --config 'target."cfg(all())".runner="$(CURDIR)/scripts/bounded"'

test: setup-tests ## every test
	timeout --foreground 4000 $(CARGO) test --locked --no-fail-fast $(BOUNDED)
	timeout --foreground 1200 $(CARGO) test --locked --features crash-points --test crash_points --test disk $(BOUNDED)

lint: setup-tests ## format, clippy, licences: warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --features crash-points --lib --test crash_points --test disk -- -D warnings
	@scripts/deny

bench: bench-ftp bench-accuracy ## measure on this machine: uploads beside vsftpd, reading against ground truth

bench-ftp: build ## uploads a second, beside vsftpd
	@bench/ftp.sh

bench-http: build ## 200 connections for a minute on /healthz, the status page and /api/v1/jobs
	@bench/http.sh

bench-queue: setup ## claims, start-up, status page with a million finished and 100,000 queued jobs
	$(CARGO) test --release --locked --test queue_scale -- --ignored --nocapture

soak-load: setup ## uploads at full speed for two minutes: memory must stay flat
	$(CARGO) test --release --locked --test overload -- --ignored --nocapture

bench-accuracy: build ## how well pages are read (needs documents with ground truth)
	@bench/accuracy.sh

FUZZ_SECONDS ?= 600

fuzz: setup-crate ## throw hostile clients, damaged documents and a million mutated requests at it for FUZZ_SECONDS (600)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --locked --test ftp_fuzz --test fuzz_documents -- --ignored
	$(CARGO) test --locked --lib mutated_requests -- --ignored --nocapture

SOAK_KILLS ?= 200
SOAK_SECONDS ?= 3600

SOAK_CUTS ?= 200

soak: setup-tests ## SOAK_KILLS (200) times kill -9 under load (SOAK_SECONDS at most), SOAK_CUTS (200) power cuts, each write failing in each way, a poisoned document's neighbours
	SOAK_KILLS=$(SOAK_KILLS) SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --locked --test soak -- --ignored --nocapture
	SOAK_CUTS=$(SOAK_CUTS) $(CARGO) test --locked --features crash-points --test disk -- --ignored --nocapture --test-threads 1
	$(CARGO) test --locked --test wall -- --ignored --nocapture

pyftpdlib-expected: setup-tests ## write the list of pyftpdlib's tests that fail anew
	PYFTPDLIB_REFRESH=1 $(CARGO) test --locked --test ftp_pyftpdlib

clean: setup-crate ## remove what was built (not what was fetched, not your data)
	$(CARGO) clean
