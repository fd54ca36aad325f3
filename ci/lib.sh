# Sourced by every script of ci/: strict mode, and the repository's root as working directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# step TEXT COMMAND...: says what runs and how long it took.
step() {
    local text=$1 start=$SECONDS
    shift
    printf '==> %s\n' "$text"
    "$@"
    printf '    %s: %d s\n' "$text" $((SECONDS - start))
}

# need COMMAND: fails with the way out if a tool is missing.
need() {
    command -v "$1" >/dev/null || { printf 'ci: %s is missing: run ci/setup\n' "$1" >&2; exit 1; }
}
