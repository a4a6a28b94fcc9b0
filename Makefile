# Two commands do everything on a fresh machine with a Swift toolchain: `make quickstart` and `make test`.
SWIFT ?= swift
PYTHON ?= python3

.PHONY: quickstart build test test-clients test-threads test-neon bench bench-reviews format lint coverage data clean

# Trains a convolutional network on 60,000 real images, evaluates it, saves it and shows what it says.
quickstart: data
	$(SWIFT) build -c release --product apus
	"$$($(SWIFT) build -c release --show-bin-path)/apus" quickstart

build:
	$(SWIFT) build -c release --product apus

# The kernels' tests switch the instruction set of their whole process, which changes last bits: they run in one of their own. So do
# those of servers, whose requests have deadlines: beside tests that keep all processors busy for minutes they would miss them.
test: data
	$(SWIFT) build --build-tests
	$(SWIFT) test --skip-build --filter KernelsTests
	$(SWIFT) test --skip-build --filter 'ServablesTests|ServingTests'
	$(SWIFT) test --skip-build --skip KernelsTests --skip ServablesTests --skip ServingTests

# `apus serve` driven by real clients from PyPI, in an environment of its own; those that cannot be had are skipped, with the reason.
test-clients:
	$(SWIFT) build --product apus
	$(PYTHON) Tests/clients/run.py --apus "$$($(SWIFT) build --show-bin-path)/apus" --quick --venv .build/clients --install $(if $(CLIENTS),--only $(CLIENTS))

# Many tasks on the same tensors and variables, under the thread sanitizer.
test-threads:
	APUS_TESTS=threads $(SWIFT) test --sanitize=thread --scratch-path .build-tsan

# Every family of kernels compiled for aarch64 and run under qemu, if it is installed: see Scripts/test-neon.sh.
test-neon:
	@Scripts/test-neon.sh

# All workloads, one after the other, on two threads. Side by side with the peers: Benchmarks/compare.py.
bench: build
	@apus="$$($(SWIFT) build -c release --show-bin-path)/apus"; \
	for workload in $$("$$apus" bench --list); do "$$apus" bench $$workload --threads 2 || exit 1; done

# The movie-review job in Apus, PyTorch and TensorFlow, in turns. PYTHON: an interpreter that has torch and tensorflow.
bench-reviews: build data
	$(PYTHON) Benchmarks/reviews.py --apus "$$($(SWIFT) build -c release --show-bin-path)/apus" --python "$(PYTHON)"

format:
	$(SWIFT) format --in-place --recursive --parallel Package.swift Sources Tests

lint:
	$(SWIFT) format lint --strict --recursive --parallel Package.swift Sources Tests
	@if command -v $(PYTHON) >/dev/null; then $(PYTHON) Scripts/coverage.py --check; fi

# docs/coverage.md: which of Keras's and PyTorch's names are there, and the tests that name them.
coverage:
	$(PYTHON) Scripts/coverage.py

data:
	@Scripts/fetch-data.sh

clean:
	rm -rf .build .build-tsan
