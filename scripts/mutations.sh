#!/usr/bin/env bash
# Breaks the core on purpose, in each of the ways of tests/mutations/*.patch, in a copy outside the tree, and runs the simulation
# until it notices.
#
#   scripts/mutations.sh             prints a table: which seed notices what, and what it says
#   scripts/mutations.sh --write     puts the table into tests/mutations/README.md, too
#   scripts/mutations.sh a.patch b.patch
#   scripts/mutations.sh --check     only whether every patch applies to the tree as it is; takes a second
#
# A directory given as SCRATCH, outside the tree, is kept, and with it what was built there.
# Fails if a patch does not apply, does not compile, or is not noticed within RUNS seeds of STEPS steps, from SEED on.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

SEED=${SEED:-1} STEPS=${STEPS:-3000} RUNS=${RUNS:-20000}
README=tests/mutations/README.md
WRITE="" CHECK="" PATCHES=() MISSED=()
for argument in "$@"; do
    case "$argument" in
        --write) WRITE=yes ;;
        --check) CHECK=yes ;;
        *) PATCHES+=("$argument") ;;
    esac
done
[ "${#PATCHES[@]}" -gt 0 ] || PATCHES=(tests/mutations/*.patch)

# Or git would take paths for those of a repository around the tree, and skip them.
export GIT_CEILING_DIRECTORIES
GIT_CEILING_DIRECTORIES=$(dirname "$ROOT")
STALE=()
for patch in "${PATCHES[@]}"; do
    git apply --check "$patch" || STALE+=("$patch")
done
[ "${#STALE[@]}" = 0 ] || die "do not apply, bring them up to date: ${STALE[*]}"
[ -z "$CHECK" ] || exit 0

if [ -z "${SCRATCH:-}" ]; then
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
    trap 'exit 1' INT TERM
fi
TREE="$SCRATCH/tree"
rm -rf "$TREE"
mkdir "$TREE"
git ls-files -z --cached --others --exclude-standard \
    | tar --create --null --files-from=- | tar --extract --directory="$TREE"
# A repository of its own, or git would look for the one around it.
git -C "$TREE" init --quiet

# Fast to build rather than fast.
export CARGO_TARGET_DIR="$SCRATCH/target" CARGO_INCREMENTAL=1
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256
export CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_OPT_LEVEL=1

# Prints the row of one patch.
try() {
    local patch="$1" name what said seed
    name=$(basename "$patch" .patch)
    what=$(head -n 1 "$patch")
    git -C "$TREE" apply "$ROOT/$patch"
    (cd "$TREE" && cargo build --release --locked --quiet --package slotway-tests --bin sim) >&2 \
        || die "$patch does not compile: bring it up to date"
    said=$("$CARGO_TARGET_DIR/release/sim" --seed "$SEED" --steps "$STEPS" --runs "$RUNS" --threads 1 2>/dev/null \
        | sed -n 's/^seed \([0-9]*: .*\)/\1/p' | head -n 1 | tr '|' ' ') || true
    git -C "$TREE" apply --reverse "$ROOT/$patch"
    seed=${said%%:*}
    printf '| %s | %s | %s | %.100s |\n' "$name" "$what" "${seed:-not noticed}" "${said#*: }"
    [ -n "$seed" ]
}

printf '%s\n' '| mutation | what is broken | caught by seed | violation |' '|---|---|---|---|' | tee "$SCRATCH/table"
for patch in "${PATCHES[@]}"; do
    try "$patch" >"$SCRATCH/row" || MISSED+=("$patch")
    tee -a "$SCRATCH/table" <"$SCRATCH/row"
done
if [ -n "$WRITE" ]; then
    sed -i '/^| mutation /,$d' "$README"
    cat "$SCRATCH/table" >>"$README"
fi
[ "${#MISSED[@]}" = 0 ] || die "not noticed: ${MISSED[*]}"
