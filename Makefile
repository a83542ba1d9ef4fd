# make test    everything that must pass before a change lands
# make bench   the benchmarks, as one table of ratios; make bench-rocksdb, those of the backend on RocksDB
.PHONY: tools test format lint unit doc bench bench-quick bench-rocksdb crash crash-rocksdb

CARGO ?= cargo
# Installs Debian packages: $(call debian,NAMES).
debian = sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends $(1) >/dev/null
# Long random suites are short by default; STRANDLINE_CASES=20 makes them twenty times as long.
export STRANDLINE_CASES ?= 1

test: tools format lint unit doc

# Says what it installs before it does.
tools:
	@for component in rustfmt clippy; do \
		$(CARGO) $$component --version >/dev/null 2>&1 || $(CARGO) $$(echo $$component | sed 's/rustfmt/fmt/') --version >/dev/null 2>&1 || { \
		echo "installing the toolchain component $$component"; rustup component add $$component; }; done
	@find /usr/lib -name 'libclang*.so*' 2>/dev/null | grep -q . || { \
		echo "installing libclang, which the bindings of RocksDB are made with"; \
		$(call debian,libclang1-14 libclang-common-14-dev); }
	@command -v ccache >/dev/null || { \
		echo "installing ccache, so that RocksDB is compiled once (about 12 minutes) and not for every profile"; \
		$(call debian,ccache) || echo "going on without it"; }
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

crash-rocksdb:
	$(CARGO) run --release --features rocksdb -- demo --kills 50 --backend rocksdb

bench:
	$(CARGO) build --release
	$(CARGO) run --release -p strandline-benches -- table

bench-quick:
	$(CARGO) build --release
	$(CARGO) run --release -p strandline-benches -- table --quick

# Compiles RocksDB, which takes minutes; all other benches do without.
bench-rocksdb:
	$(CARGO) build --release --features rocksdb
	$(CARGO) run --release -p strandline-benches --features rocksdb -- table --backend rocksdb
