# make demo   build real engines for an RTX 3090, with or without a GPU
# make test   everything that must hold
# make lint   formatting and lints
# make bench  what we claim about speed, beside a peer
# make sweep  every model of an old opset, raised to newer ones, before and after in ONNX Runtime; and
#             every case of ONNX's own tests, written back and in FP16; and `init` on all real models
# make fuzz   any bytes, read and rewritten; any text as a manifest, and as a line of trtexec: FUZZ_SECONDS each (600); needs cargo-fuzz and a nightly toolchain
# make report pages of real projects, in headless Chromium (apt-get install chromium): speed, errors, pictures
# make soak   kills at any moment, flipped bits, failing disks, wrong clocks: SOAK_SECONDS (3600)

ENGINEWRIGHT = target/release/enginewright

# The binding's build writes headers while it runs, and asks to be run again when they are newer than its
# start: always, once. Make them old, so that the next build has nothing to do.
SETTLE = @find target -path '*/trtx_transformed_headers/*' -newermt 2001-01-01 -exec touch -d 2000-01-01 {} +

.PHONY: demo test lint bench sweep soak fuzz report setup build clean

build: setup
	cargo build --release --locked
	$(SETTLE)

demo: build
	@echo
	$(ENGINEWRIGHT) plan --fetch
	@echo
	$(ENGINEWRIGHT) apply
	@echo
	$(ENGINEWRIGHT) status
	@echo
	$(ENGINEWRIGHT) verify magika@rtx-3090
	@echo
	@echo "# The same in FP16 without any rules, in a copy of the project: it fails, and is not published."
	@rm -rf target/demo && mkdir -p target/demo && cp -r manifests testdata target/demo
	@sed -i 's/^precision = .*/precision = "fp16"\nrules = []/' target/demo/manifests/magika.toml
	$(ENGINEWRIGHT) -C target/demo --cache-dir cache apply; test $$? = 1
	@echo
	$(ENGINEWRIGHT) -C target/demo --cache-dir cache --quiet verify magika@rtx-3090; test $$? = 1

test: setup
	cargo test --locked --no-run
	$(SETTLE)
	cargo test --locked --no-fail-fast

lint: setup
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@# A workspace of its own, which nothing else here compiles.
	cargo check --locked --manifest-path fuzz/Cargo.toml --target-dir target
	$(SETTLE)

bench: build
	cargo build --release --locked --example bench-models --example bench-typed
	python3 benches/overhead.py
	python3 benches/precision.py
	python3 benches/casts.py
	python3 benches/verify.py
	cargo build --release --locked --example bench-fake --example bench-hash
	python3 benches/cache.py

sweep: setup
	OPSET_SWEEP=1 cargo test --locked --test it -- opset:: --nocapture
	NODE_CASES=all cargo test --locked --test it -- onnx_cases:: --nocapture
	ENGINEWRIGHT_SWEEP=1 cargo test --locked --test it -- init:: --nocapture

report: setup
	REPORT=target/report cargo test --locked --test it -- report::pages --nocapture
	python3 tools/report-in-browser.py target/report

# An hour; SOAK_SECONDS=600 for ten minutes.
SOAK_SECONDS ?= 3600
soak: setup
	SOAK=50 cargo test --locked --test it -- kill --nocapture
	SOAK_SECONDS=$(SOAK_SECONDS) cargo test --locked --test it -- soak --nocapture

FUZZ_SECONDS ?= 600
FUZZ = cargo +nightly fuzz
FUZZ_FLAGS = -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -rss_limit_mb=4096 -timeout=25 -artifact_prefix=target/fuzz/artifacts/

# The seeds are small cases of ONNX's own tests, which the test fetches.
fuzz: setup
	cargo test --locked --test it -- onnx_cases::types
	@for target in read rewrite; do \
		mkdir -p target/fuzz/corpus/$$target target/fuzz/artifacts && \
		find target/onnx-cases/cases -name '*.onnx' -size -8k -exec cp -n -t target/fuzz/corpus/$$target {} + ; \
	done
	$(FUZZ) run --target-dir target/fuzz read target/fuzz/corpus/read -- $(FUZZ_FLAGS)
	$(FUZZ) run --target-dir target/fuzz rewrite target/fuzz/corpus/rewrite -- $(FUZZ_FLAGS)
	@mkdir -p target/fuzz/corpus/manifest target/fuzz/corpus/import
	@cp -n manifests/*.toml examples/*/manifests/*.toml target/fuzz/corpus/manifest
	@grep -rhoE 'trtexec --[^`]*' docs README.md | split -l 1 -a 4 - target/fuzz/corpus/import/line
	$(FUZZ) run --target-dir target/fuzz manifest target/fuzz/corpus/manifest -- $(FUZZ_FLAGS)
	$(FUZZ) run --target-dir target/fuzz import target/fuzz/corpus/import -- $(FUZZ_FLAGS)

setup:
	@sh tools/setup.sh

clean:
	cargo clean
