# Sourced by every script of ci/: strict mode, and the repository's root as working directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# What could be compiled again in parts costs as much disk as the programs; a run compiles each part once.
export CARGO_INCREMENTAL=0

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

# is_installed DIRECTORY PACKAGE...: the same versions were installed there, completely.
is_installed() {
    [[ $(cat "$1/complete" 2>/dev/null) == "${*:2}" ]]
}

# install_python VENV MODULE PACKAGE...: packages from PyPI, of which MODULE can then be imported.
install_python() {
    local venv=$1 module=$2
    shift 2
    # The environment belongs to the Python that made it.
    is_installed "$venv" "$@" && "$venv/bin/python" -c "import $module" 2>/dev/null && return
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
    echo "$*" >"$venv/complete"
}

# install_node PREFIX PACKAGE...: packages from npm.
install_node() {
    local prefix=$1
    shift
    is_installed "$prefix" "$@" && return
    rm -rf "$prefix"
    mkdir -p "$prefix"
    npm install --prefix "$prefix" --silent --no-audit --no-fund --ignore-scripts "$@"
    echo "$*" >"$prefix/complete"
}

# What the core is built for without std: Cortex-M0, M3, M4F, M33 and RISC-V.
# shellcheck disable=SC2034 # The scripts that source this use it.
DEVICE_TARGETS=(
    thumbv6m-none-eabi
    thumbv7m-none-eabi
    thumbv7em-none-eabihf
    thumbv8m.main-none-eabihf
    riscv32imac-unknown-none-elf
)

# sysroot_tool NAME: a tool of the compiler's own LLVM, such as llvm-objdump.
sysroot_tool() {
    local tool
    tool=$(rustc --print sysroot)/lib/rustlib/$(rustc --print host-tuple)/bin/$1
    [[ -x $tool ]] || { printf 'ci: %s is missing: run ci/setup\n' "$1" >&2; exit 1; }
    printf '%s\n' "$tool"
}

# bench_build TARGET BIN [CARGO ARGUMENTS...]: builds a program of ci/firmware-bench and prints its path.
bench_build() {
    local target=$1 bin=$2
    shift 2
    cargo build --quiet --release --manifest-path ci/firmware-bench/Cargo.toml --target-dir target/firmware-bench \
        --target "$target" --bin "$bin" "$@" >&2 || return
    printf 'target/firmware-bench/%s/release/%s\n' "$target" "$bin"
}

# emulate TARGET ELF [QEMU ARGUMENTS...]: runs a program of ci/firmware-bench one instruction a block and a nanosecond of
# the machine's time, so that it does the same each time and an interrupt can come between any two of them.
emulate() {
    local target=$1 elf=$2 machine
    shift 2
    case $target in
        thumbv6m-*) machine=(qemu-system-arm -machine microbit) ;;
        thumb*) machine=(qemu-system-arm -machine mps2-an386) ;;
        riscv32*) machine=(qemu-system-riscv32 -machine virt -bios none) ;;
    esac
    need "${machine[0]}"
    # What it is called depends on QEMU's age.
    local one=(-singlestep)
    [[ $("${machine[0]}" --version) =~ version\ ([0-9]+) ]]
    ((BASH_REMATCH[1] < 9)) || one=(-accel "tcg,one-insn-per-tb=on")
    timeout 300 "${machine[@]}" -nographic -monitor none -serial none -semihosting-config enable=on,target=native \
        -icount shift=0 "${one[@]}" "$@" -kernel "$elf"
}
