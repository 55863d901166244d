# What a person runs, and CI as well. `make help` lists the targets.

CARGO ?= cargo
# The scripts call it too.
export CARGO
# Where rustup puts cargo, for shells that do not know it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

# More flags for `make run`, `make load` and `make idle`: make run ARGS="--listen 127.0.0.1:9443".
ARGS ?=
# Which benchmarks `make bench` runs: those whose name contains it, or all.
BENCH ?=
# The fleet of `make fleet`: agents, and how many of them fall silent.
AGENTS ?= 1000000
SILENCE ?= 10000
# The history of `make history`: threats, of AGENTS agents.
THREATS ?= 5000000

# Cargo is asked where it has put the program: CARGO_TARGET_DIR may say, or its configuration. The server is beside it.
LOADTEST = "$$(tests/support/built.sh guardbeat-loadtest --release --workspace)"
# What the published Guard client asks for.
NODE_WANTED := 20
RUST_WANTED := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# $(call install,WHAT,PACKAGE): says that WHAT is missing and installs Debian's PACKAGE.
define install
  echo "Missing: $(1)."; \
  if ! command -v apt-get >/dev/null; then echo "Install it and try again."; exit 1; fi; \
  if [ "$$(id -u)" -eq 0 ]; then as_root=; else as_root="sudo -n "; fi; \
  echo "Installing $(2) with apt-get:"; \
  echo "  $${as_root}apt-get update && $${as_root}apt-get install --yes --no-install-recommends $(2)"; \
  $${as_root}apt-get update --quiet </dev/null \
  && $${as_root}env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends $(2) </dev/null \
  || { echo "That did not work. Install $(2) yourself and try again:"; \
       echo "  sudo apt-get install $(2)"; exit 1; }
endef

.PHONY: help setup setup-checks setup-node setup-python run test api-check guard-e2e build dist bench bench-store load million \
  compare compare-redis idle register fleet fleet-redis history
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

run: setup ## build, and start the server with the embedded store in ./data
	@# REDIS_URL is another program's, and this one would refuse it.
	@exec env -u REDIS_URL $(CARGO) run --release --locked -- serve $(ARGS)

# The tests come last, so that their summary does.
test: setup setup-checks ## check formatting, lints and documentation, and run all tests
	@echo "== formatting"
	@$(CARGO) fmt --all --check
	@echo "== clippy"
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@echo "== documentation"
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked
	@echo "== tests"
	@$(CARGO) test --workspace --locked --no-fail-fast
	@echo "== the contract once more, over TLS"
	@GUARDBEAT_TEST_TLS=1 $(CARGO) test --locked --no-fail-fast --test it contract::

api-check: setup setup-python ## check the running server against docs/openapi.json with Schemathesis (four minutes)
	@tests/schemathesis/run.sh

guard-e2e: setup setup-node ## drive the published Guard client against the running server
	@tests/guard-e2e/run.sh

# mimalloc and ring are partly written in C, and Rust links with the C compiler.
setup: ## check what building needs, and install what is missing
	@command -v $(CARGO) >/dev/null || { \
	  echo "Rust is missing. Get it from https://rustup.rs:"; \
	  echo "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"; \
	  echo "then open a new terminal and try again."; \
	  exit 1; }
	@have=$$(rustc --version | cut -d' ' -f2); \
	oldest=$$(printf '%s\n' "$(RUST_WANTED)" "$$have" | sort -V | head -n 1); \
	if [ "$$oldest" != "$(RUST_WANTED)" ]; then \
	  echo "Rust $$have is too old: $(RUST_WANTED) or later is needed."; \
	  echo "Update it with 'rustup update stable', or get it from https://rustup.rs."; \
	  exit 1; \
	fi
	@echo '#include <stdlib.h>' | cc -E -x c - >/dev/null 2>&1 || { \
	  $(call install,a C compiler (cc) with its headers,build-essential); }

# rustfmt and clippy: a minimal toolchain has neither. Redis: the tests of its store start servers of their own. Debian
# has the program in redis-tools; the package redis-server adds a service, which would start on port 6379 and stay.
setup-checks: ## check what the tests need beyond that, and install what is missing
	@missing=; \
	$(CARGO) fmt --version >/dev/null 2>&1 || missing="$$missing rustfmt"; \
	$(CARGO) clippy --version >/dev/null 2>&1 || missing="$$missing clippy"; \
	if [ -n "$$missing" ]; then \
	  if ! command -v rustup >/dev/null; then \
	    echo "Missing from this Rust toolchain:$$missing. Install them as you installed Rust, and try again."; \
	    exit 1; \
	  fi; \
	  echo "Missing from this Rust toolchain:$$missing. Installing with rustup:"; \
	  echo "  rustup component add$$missing"; \
	  rustup component add $$missing; \
	fi
	@command -v redis-server >/dev/null || command -v redis-check-rdb >/dev/null || { \
	  $(call install,a Redis server (for the tests; no service is started),redis-tools); }

setup-python: ## check what api-check needs, and install what is missing
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { \
	  $(call install,Python 3 with venv,python3-venv); }

setup-node: ## check what guard-e2e needs, and install what is missing
	@command -v npm >/dev/null || { \
	  $(call install,Node.js with npm,npm); }
	@node -e 'process.exit(Number(process.versions.node.split(".")[0] < $(NODE_WANTED)))' || { \
	  echo "Node.js $$(node --version) is too old: the published Guard client wants $(NODE_WANTED) or later."; \
	  echo "Get it from https://nodejs.org."; \
	  exit 1; }

build: setup ## build the server and the load test, for release
	$(CARGO) build --release --workspace --locked

# What is installed needs no debug information, which is five sixths of what cargo builds.
dist: setup ## the server to be installed: small, with its debug information in a file beside it
	@server=$$(tests/support/built.sh guardbeat --release) && tests/support/split.sh "$$server" "$$(dirname "$$server")/dist"

bench: setup ## measure the parts of a heartbeat (a minute, 100 MB in TMPDIR); BENCH=record for some of them
	$(CARGO) bench --locked --bench engine -- $(BENCH)

bench-store: setup ## measure the candidates for the embedded store (ten minutes, 1 GB in TMPDIR)
	$(CARGO) run --release --locked --manifest-path benches/embedded-store-choice/Cargo.toml

load: build setup-checks ## a tour of the load scenarios (six minutes): what this machine holds; reports in load-report
	$(LOADTEST) tour $(ARGS)

million: build ## a million agents of which a tenth falls silent in the same second (six minutes, 4 GB)
	$(LOADTEST) run million

compare: build ## measure a heartbeat beside a bare handler that does nothing with it
	$(LOADTEST) run compare

fleet: build ## measure a fleet of AGENTS agents of which SILENCE fall silent
	$(LOADTEST) run fleet --set fleet.agents=$(AGENTS) --set silence.agents=$(SILENCE)

history: build ## measure a history of THREATS threats, reported by AGENTS agents
	$(LOADTEST) run history --set fleet.agents=$(AGENTS) --set survey.threats=$(THREATS)

compare-redis: build setup-checks ## as compare, on both stores
	$(LOADTEST) run compare --set compare.sides=embedded,redis,bare --set compare.rounds=6

# Both, whatever comes of the first.
idle: build ## measure what idle connections cost, plain and over TLS (six minutes)
	@failed=0; \
	$(LOADTEST) run idle $(ARGS) --out load-report/idle || failed=1; \
	$(LOADTEST) run idle --set server.tls=true --set thresholds.connection_bytes=10240 \
	  --set thresholds.slope_bytes=10240 --set thresholds.resumed=0.99 $(ARGS) --out load-report/idle-tls || failed=1; \
	exit $$failed

register: build setup-checks ## measure registrations on both stores
	$(LOADTEST) run register

fleet-redis: build setup-checks ## as fleet, with the fleet in Redis
	$(LOADTEST) run fleet --set fleet.agents=$(AGENTS) --set silence.agents=$(SILENCE) --set server.store=redis
