#!/bin/sh
# Builds the committed eBPF objects from their sources.
#
#   ebpf/build.sh           builds and replaces the objects
#   ebpf/build.sh --check   builds and compares byte for byte; fails on any difference
#
# eBPF in Rust needs a second toolchain, because `core` for the target and a linker with the same
# LLVM are not part of the usual one. Debian packages it; what is missing is installed (root, apt,
# crates.io). Users of Hawser never need any of this: the objects are committed.
#
# The objects carry neither paths nor debug information, so they do not depend on where or when
# they are built. They do depend on the compiler: TOOLCHAIN below is the one they were built with,
# and another one may make other, equally good code.
set -eu

TOOLCHAIN='rustc 1.96'
LLVM=22
LLVM_RELEASE=22.1
LINKER=0.13.0

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
mode=build
case "${1:-}" in
    '') ;;
    --check) mode=check ;;
    *) echo "usage: $0 [--check]" >&2; exit 2 ;;
esac

"$root/scripts/setup" ebpf
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
if [ "$(bpf-linker --version 2>/dev/null)" != "bpf-linker $LINKER" ]; then
    echo "installing bpf-linker $LINKER (about two minutes)" >&2
    LLVM_PREFIX=/usr/lib/llvm-$LLVM cargo install bpf-linker --version "$LINKER" --force \
        --no-default-features --features "llvm-$LLVM" >&2
fi

RUSTC=/usr/bin/rustc
version=$($RUSTC --version)
llvm=$(/usr/lib/llvm-$LLVM/bin/llvm-config --version)
case "$version/$llvm" in
    "$TOOLCHAIN".*/"$LLVM_RELEASE".*) ;;
    *) echo "note: built with $version, LLVM $llvm; the committed objects with" \
            "$TOOLCHAIN, LLVM $LLVM_RELEASE" >&2 ;;
esac

# An outer RUSTFLAGS would replace the flags of program/.cargo/config.toml, and the usual
# toolchain's own variables would mix the two.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET CARGO_BUILD_RUSTFLAGS RUSTUP_TOOLCHAIN
export RUSTC RUSTC_BOOTSTRAP=1
scratch=${EBPF_TARGET_DIR:-$root/target/ebpf}
failed=0

# build SOURCE BINARY OBJECT
build() {
    (cd "$1" && /usr/bin/cargo build --quiet --release --locked --target-dir "$scratch")
    made=$scratch/bpfel-unknown-none/release/$2
    # Nothing of the machine it was built on may be in it.
    if grep -aqF -e "$root" -e "${CARGO_HOME:-$HOME/.cargo}" "$made"; then
        echo "$3: the object contains a path of this machine" >&2
        failed=1
    fi
    if [ $mode = check ]; then
        if cmp "$made" "$3"; then
            echo "$3: as committed"
        else
            echo "$3: differs from what its source makes" >&2
            failed=1
        fi
    else
        cp "$made" "$3.new" && mv "$3.new" "$3"
        echo "$3: $(wc -c <"$3") bytes"
    fi
}

cd "$root"
build ebpf/program hawser ebpf/hawser.bpf.o
build perf-lab/program lab perf-lab/lab.bpf.o
exit $failed
