# make demo   build real engines for an RTX 3090, with or without a GPU
# make test   everything that must hold
# make lint   formatting and lints
# make bench  what we claim about speed, beside a peer
# make soak   an hour of faults

ENGINEWRIGHT = target/release/enginewright

.PHONY: demo test lint bench soak setup build clean

build: setup
	cargo build --release --locked

demo: build
	@echo
	$(ENGINEWRIGHT) plan --fetch
	@echo
	$(ENGINEWRIGHT) apply
	@echo
	$(ENGINEWRIGHT) status

test: setup
	cargo test --locked --no-fail-fast

lint: setup
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings

bench: build
	cargo build --release --locked --example bench-models
	python3 benches/overhead.py

soak: build
	SOAK=50 cargo test --locked --test it -- kill --nocapture

setup:
	@sh tools/setup.sh

clean:
	cargo clean
