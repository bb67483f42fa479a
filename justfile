# The commands of CONTRIBUTING.md by short names; https://just.systems. Each recipe is plain shell.

export CARGO_TERM_COLOR := "never"

# List the recipes
default:
    @just --list --unsorted

# Build the program
build:
    cargo build --release

# Run every check that must hold before a change lands
check:
    .ci/run

# Run all tests
test:
    cargo test --release

# Run the integration tests whose path contains NAME, with their output: just one resume::
one NAME:
    cargo test --release --test it -- --nocapture {{NAME}}

# Run the unit tests whose path contains NAME: just unit train::
unit NAME:
    cargo test --release --lib -- {{NAME}}

# Run the commands in the documents and compare their tables with the code
docs:
    cargo test --release --test it -- docs:: reference:: formats::
    cargo test --release --lib -- ui::keymap

# Renew the recorded pictures of the screen, then show what changed
screens:
    INSTA_UPDATE=always cargo test --release --test it -- screen::
    git diff --stat -- tests

# Format the source
format:
    cargo fmt

# Lint each combination of the features, as .ci/run does
lint:
    cargo clippy --release --all-targets -- -D warnings
    cargo clippy --release --no-default-features -- -D warnings
    cargo clippy --release --no-default-features --features tui -- -D warnings
    cargo clippy --release --no-default-features --features cuda -- -D warnings

# Give hostile files to every command that reads some, MINUTES for each kind
fuzz MINUTES="10":
    SIMMIM_FUZZ_SECONDS=$(({{MINUTES}} * 60)) cargo test --release --test it -- --nocapture --test-threads 2 fuzz::

# Let each file operation of a run fail in turn, and cut the power after each, however long it takes
faults:
    SIMMIM_FAULTS=all SIMMIM_POWER_CUTS=all cargo test --release --test it -- --nocapture fault_loop:: power_cut::

# Write anew what --licenses prints
notices:
    python3 tools/notices.py

# Check advisories, licences, duplicates and sources of the dependencies
deny:
    cargo deny check

# Record where the training step spends its time, and show it
profile *BENCH:
    cargo build --profile profiling
    perf record -o target/perf.data target/profiling/simmim-tui bench --device cpu {{BENCH}}
    perf report -i target/perf.data

# Open the documentation of the source
doc:
    cargo doc --release --no-deps --open
