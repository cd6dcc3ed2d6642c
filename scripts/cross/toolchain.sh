# shellcheck shell=bash
# Sourced, under `set -e`, by the scripts beside it: finds, or makes, what compiles for another target.
#
#   cross_prepare TARGET    for bare metal: exports RUSTC, RUSTFLAGS and CARGO_TARGET_DIR; then
#                           `"$CROSS_CARGO" … --target TARGET` works
#   cross_prepare_std TARGET    the same for a Linux target, with its standard library
#
# The target's `core` comes from the `rustc` on PATH, where rustup can fetch it, otherwise from Debian: its compiler
# `rustc-web` and its `rust-web-src`, from which `core` is built once. CROSS_TOOLCHAIN=path or =debian forces one.
#
# Either way the compiler is given a sysroot that holds `core` and `compiler_builtins` and nothing more. A crate that
# asks for `alloc` or `std`, at any depth of the dependency graph, then does not compile. Procedural macros and build
# scripts run on the host and keep the host's own libraries, since cargo applies RUSTFLAGS to the `--target` alone.

cross_repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

cross_prepare() {
    local target=$1 road=${CROSS_TOOLCHAIN:-} sysroot
    CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$cross_repository/target}")
    export CARGO_TARGET_DIR
    if [[ $road != debian ]] && add_with_rustup "$target"; then
        export RUSTC=rustc
        CROSS_CARGO=cargo
    elif [[ $road != path ]] && install_debian_toolchain; then
        export RUSTC=/usr/bin/rustc
        CROSS_CARGO=/usr/bin/cargo
    else
        echo "no toolchain for $target: run \`rustup target add $target\`, or install Debian's" \
            "rustc-web, cargo-web and rust-web-src" >&2
        return 1
    fi

    sysroot=$CARGO_TARGET_DIR/cross/$(compiler_id)
    if [[ ! -d $sysroot/lib/rustlib/$target ]]; then
        fill_sysroot "$sysroot" "$target"
    fi
    export RUSTFLAGS="--sysroot=$sysroot"
}

cross_prepare_std() {
    local target=$1 road=${CROSS_TOOLCHAIN:-} sysroot
    CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$cross_repository/target}")
    export CARGO_TARGET_DIR
    if [[ $road != debian ]] && add_with_rustup "$target"; then
        export RUSTC=rustc
        CROSS_CARGO=cargo
        return
    fi
    if [[ $road == path ]] || ! install_debian_toolchain; then
        echo "no standard library for $target: run \`rustup target add $target\`, or install Debian's rustc-web" >&2
        return 1
    fi
    export RUSTC=/usr/bin/rustc
    CROSS_CARGO=/usr/bin/cargo
    sysroot=$CARGO_TARGET_DIR/cross/$(compiler_id)-std
    if [[ ! -d $sysroot/lib/rustlib/$target ]]; then
        fill_std_sysroot "$sysroot" "$target" || return 1
    fi
    # Build scripts and procedural macros keep the host's own libraries: with `--target`, cargo gives this to the target.
    export RUSTFLAGS="--sysroot=$sysroot"
}

# Whether the compiler has this target's `core`: COMPILER TARGET.
has_core() {
    local libraries
    libraries=$("$1" --print target-libdir --target "$2" 2>/dev/null) && compgen -G "$libraries/libcore-*.rlib" >/dev/null
}

add_with_rustup() {
    has_core rustc "$1" && return
    command -v rustup >/dev/null || return
    # Behind some proxies a download neither comes nor fails.
    timeout 300 rustup --quiet target add "$1" >&2 && has_core rustc "$1"
}

install_debian_toolchain() {
    local packages=(rustc-web cargo-web rust-web-src)
    if dpkg --status "${packages[@]}" >/dev/null 2>&1; then
        return 0
    fi
    command -v apt-get >/dev/null || return 1
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

# A directory name that changes with the compiler, whose libraries no other compiler can read.
compiler_id() {
    "$RUSTC" --version --verbose | sha256sum | cut -c1-16
}

# Puts `core` and `compiler_builtins` into a sysroot, complete or not at all: SYSROOT TARGET.
fill_sysroot() (
    set -euo pipefail
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    if has_core "$RUSTC" "$2"; then
        libraries=$("$RUSTC" --print target-libdir --target "$2")
    else
        build_core "$work" "$2"
        libraries=$work/target/$2/release/deps
    fi
    mkdir -p "$work/ready/lib" "$1/lib/rustlib"
    cp "$libraries"/libcore-*.r* "$libraries"/libcompiler_builtins-*.r* "$work/ready/lib/"
    mv -T "$work/ready" "$1/lib/rustlib/$2"
)

# Builds the target's `core` from the compiler's own sources: DIRECTORY TARGET.
build_core() (
    set -euo pipefail
    mkdir -p "$1/src"
    echo '#![no_std]' >"$1/src/lib.rs"
    printf '%s\n' '[package]' 'name = "sysroot"' 'edition = "2024"' '[workspace]' \
        '[profile.release]' 'panic = "abort"' >"$1/Cargo.toml"
    cd "$1"
    # Building `core` is unstable cargo, which a stable compiler allows under this variable. The feature `mem`, which
    # gives a bare-metal program its memcpy, belongs to `alloc`. Bitcode lets what links against `core` ask for LTO.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes "$CROSS_CARGO" build --quiet --release --target "$2" \
        --target-dir "$1/target" -Zbuild-std=core,alloc -Zbuild-std-features=compiler-builtins-mem >&2
)

# Puts a standard library into a sysroot, complete or not at all: SYSROOT TARGET.
fill_std_sysroot() (
    set -euo pipefail
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    debian_std "$work" "$2"
    mkdir -p "$work/ready/lib" "$1/lib/rustlib"
    cp "$work/usr/lib/rustlib/$2/lib"/lib*.r* "$work/ready/lib/"
    mv -T "$work/ready" "$1/lib/rustlib/$2"
)

# The standard library out of another architecture's package, of the very version of the compiler: DIRECTORY TARGET. apt
# keeps its knowledge of that architecture in the directory, so that the system's own is left alone.
debian_std() {
    local work=$1 architecture version settings
    case $2 in
        aarch64-*) architecture=arm64 ;;
        *) return 1 ;;
    esac
    version=$(dpkg-query -W -f='${Version}' rustc-web) || return 1
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    chmod 755 "$work"
    settings=(-o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root
        -o APT::Architectures="$(dpkg --print-architecture),$architecture")
    (
        cd "$work" && apt-get "${settings[@]}" update -qq &&
            apt-get "${settings[@]}" download -qq "libstd-rust-web-dev:$architecture=$version" &&
            dpkg-deb -x libstd-rust-web-dev_*.deb .
    ) >&2
}
