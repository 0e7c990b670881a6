# Shortcuts for those who are used to make: every line of a target calls cargo.
.PHONY: setup install lint test example-setup start-api

# Downloads what the build and the coverage measurement need.
setup:
	cargo fetch --locked
	cargo install --locked cargo-tarpaulin@0.37.5

# Builds the server and puts `rookery` on the search path.
install:
	cargo install --locked --path rookery

# Formatting and lints; warnings are errors.
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Runs every test, then measures how much of the server its unit tests cover.
test:
	cargo xtask test
	cargo tarpaulin --engine ptrace --locked --skip-clean --lib --packages types log@0.1.0 directory history analytics blobs edge ingest

# Fills the running server with users, a chatroom, invitations and messages, and prints what to look at.
example-setup:
	cargo xtask example

# Builds the server and starts it on http://127.0.0.1:8080.
start-api:
	cargo run --release --locked
