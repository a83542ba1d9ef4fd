# make test    everything that must pass before a change lands
# make bench   the benchmarks, as one table of ratios; make bench-rocksdb, those of the backend on RocksDB;
#              make bench-backends, a page of plots; make bench-nexmark, the queries of Nexmark; make bench-sql, state in SQL
.PHONY: tools test format lint unit s3 s3-server doc bench bench-quick bench-rocksdb bench-nexmark bench-backends bench-sql crash crash-rocksdb crash-s3

CARGO ?= cargo
# Long random suites are short by default; STRANDLINE_CASES=20 makes them twenty times as long.
export STRANDLINE_CASES ?= 1

# What is built: everything, or all but RocksDB where `tools` found that it cannot be compiled here. One set of packages and
# features for all steps, so that no dependency is compiled twice.
WITHOUT_ROCKSDB := --workspace --exclude strandline-backend-rocksdb \
	--features strandline/s3,strandline/connectors,strandline/operators,strandline/testing,strandline/simulation,strandline/timely,strandline/reader,strandline/sql,strandline-checkpoint-storage/s3,strandline-runtime/s3,strandline-cli/s3,strandline-cli/sql,strandline-cli/timely,strandline-examples/sql
scope = $(if $(filter without-rocksdb,$(shell cat target/test-scope 2>/dev/null)),$(WITHOUT_ROCKSDB),--workspace --all-features)

test: tools format lint unit s3 doc
	@if [ "$$(cat target/test-scope)" != all ]; then \
		echo "passed, WITHOUT everything on RocksDB, which needs g++ and libclang"; fi

# Checks for every tool before anything is compiled, and reports what it installs before it does.
tools:
	@.ci/tools

format:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy $(scope) --all-targets -- -D warnings

unit:
	$(CARGO) nextest run $(scope)
	$(CARGO) test $(scope) --doc

# The tests of storages once more, and whole jobs, on a server of its own that speaks the protocol of S3. Left out where
# there is no Python.
S3_SERVER := target/s3-server
ON_S3 = $(S3_SERVER)/bin/python checkpoint-storage/tests/s3_server.py
s3:
	@if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "LEFT OUT: the tests on S3, which need python3 and python3-venv"; \
	else \
		$(MAKE) --no-print-directory s3-server && \
		$(ON_S3) $(CARGO) nextest run $(scope) --run-ignored all -E '$(S3_STORAGES) + $(S3_JOBS)'; \
	fi

s3-server:
	@if ! [ -e $(S3_SERVER)/ready ]; then \
		echo "installing moto, a server that speaks the protocol of S3, into $(S3_SERVER)"; \
		python3 -m venv --clear $(S3_SERVER) && $(S3_SERVER)/bin/pip install --quiet 'moto[s3,server]==5.2.5' && \
		touch $(S3_SERVER)/ready; \
	fi
# Those that open all storages, but for the longest.
S3_STORAGES := (package(strandline-checkpoint-storage) and binary(storage) and test(/^(basics|damage|sleeper|places::s3|faulty::(a_stale|sleepers))/))
# The program with a job file, a loop and a pipeline of users' own, all killed and resumed.
S3_JOBS := (package(/^strandline(-cli)?$$/) and test(/_on_s3$$/))

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(scope) --no-deps

# Kills one job 50 times and compares its result with an undisturbed run (about two minutes). Then the storm of the tests, as
# long as it takes for 300 kills and 100 stops of jobs on files, and their results. With RocksDB, and on S3 behind a proxy
# that refuses, hangs, loses and repeats.
STORM = $(CARGO) nextest run --release --profile storm --no-capture -p strandline-cli
crash:
	$(CARGO) run --release -- demo --kills 50
	STRANDLINE_CASES=10 $(STORM) -E 'test(=storm::a_storm_on_files)'

crash-rocksdb:
	$(CARGO) run --release --features rocksdb -- demo --kills 50 --backend rocksdb
	STRANDLINE_CASES=10 $(STORM) --features rocksdb -E 'test(=storm::a_storm_on_rocksdb)'

crash-s3: s3-server
	STRANDLINE_CASES=25 $(ON_S3) $(STORM) --features s3 --run-ignored all -E 'test(=storm::a_storm_on_s3)'

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

bench-nexmark:
	$(CARGO) run --release -p strandline-benches --features rocksdb -- nexmark --backend memory,rocksdb

# Scans and look-ups of checkpoints in SQL, and what live queries cost a job. Compiles DataFusion, which takes minutes.
bench-sql:
	$(CARGO) run --release -p strandline-benches --features rocksdb,sql --bin strandline-bench-sql
	$(CARGO) run --release -p strandline-benches --features rocksdb,sql --bin strandline-bench-sql -- --backend rocksdb

# Operation by operation, the backends beside each other and beside the plain map: target/criterion/report/index.html
bench-backends:
	$(CARGO) bench -p strandline-benches --features rocksdb,plots --bench backends
