# make test    everything that must pass before a change lands
# make bench   the benchmarks, as one table of ratios
.PHONY: tools test format lint unit doc bench bench-quick crash

CARGO ?= cargo
# Long random suites are short by default; STRANDLINE_CASES=20 makes them twenty times as long.
export STRANDLINE_CASES ?= 1

test: tools format lint unit doc

# Says what it installs before it does.
tools:
	@for component in rustfmt clippy; do \
		$(CARGO) $$component --version >/dev/null 2>&1 || $(CARGO) $$(echo $$component | sed 's/rustfmt/fmt/') --version >/dev/null 2>&1 || { \
		echo "installing the toolchain component $$component"; rustup component add $$component; }; done
	@$(CARGO) nextest --version >/dev/null 2>&1 || { \
		echo "installing cargo-nextest, the test runner"; $(CARGO) install --locked cargo-nextest; }

format:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings

unit:
	$(CARGO) nextest run --workspace --all-features
	$(CARGO) test --workspace --doc

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --all-features

# Kills one job 50 times and compares its result with an undisturbed run (about two minutes).
crash:
	$(CARGO) run --release -- demo --kills 50

bench:
	$(CARGO) build --release
	$(CARGO) run --release -p strandline-benches -- table

bench-quick:
	$(CARGO) build --release
	$(CARGO) run --release -p strandline-benches -- table --quick
