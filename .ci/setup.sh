#!/bin/bash
# Sets this machine up: setup.sh [auto|docker|qemu|all] [--browser] [--x86]
#
# Installs only what is missing, starts a Docker engine when none answers, makes .venv from requirements.lock and builds
# the reference guest's image; 'qemu' builds it as a virtual machine instead, and needs no engine; 'all' builds both, at
# the same time. 'auto' is docker where an engine answers or can be started, else qemu, and says so.
# With --x86 also the compiler and the image for 32-bit programs, which takes some minutes.
# A second run finds everything there. Exit codes: 0 ready, 2 wrong use, 5 something is missing that it may not install;
# then each missing piece is named with the command that installs it.
set -euo pipefail
cd "$(dirname "$0")/.."

cache="${XDG_CACHE_HOME:-$HOME/.cache}/hts-compat"
wants_browser=no
wants_x86=no
wants_docker=yes
wants_qemu=no
may_choose=yes
for word in "$@"; do
    case "$word" in
        auto) ;;
        docker) may_choose=no ;;
        qemu) wants_qemu=yes wants_docker=no may_choose=no ;;
        all) wants_qemu=yes may_choose=no ;;
        --browser) wants_browser=yes ;;
        --x86) wants_x86=yes ;;
        *)
            echo "setup: '$word' is not known; a provider is auto, docker, qemu or all, an option --browser or --x86." >&2
            exit 2
            ;;
    esac
done

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
has() { command -v "$1" > /dev/null 2>&1; }

give_up() {
    printf '%s\n' "$@" >&2
    exit 5
}

# --- who may install: root, or a user whose sudo asks nothing (or can ask, on a terminal)
may_install=no
as_root=()
if [ "$(id -u)" = 0 ]; then
    may_install=yes
elif has sudo && { sudo -n true 2> /dev/null || [ -t 0 ]; }; then
    may_install=yes
    as_root=(sudo)
fi

# --- what is missing: pairs of a Debian package and what it is for
missing=()
why=()
lacks() {
    missing+=("$1")
    why+=("$2")
}

install_missing() {
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$may_install" = no ] || ! has apt-get; then
        for at in "${!missing[@]}"; do
            echo "Missing: ${why[at]}. As root: apt-get install --no-install-recommends ${missing[at]}" >&2
        done
        exit 5
    fi
    say "installing ${missing[*]}"
    mkdir -p "$cache"
    {
        "${as_root[@]}" apt-get update -q
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
    } > "$cache/apt.log" 2>&1 || give_up "apt-get failed; its last lines:" "$(tail -n 15 "$cache/apt.log")"
    missing=()
    why=()
}

python=/usr/bin/python3
python_is_good() { "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }
engine_answers() { docker info > /dev/null 2>&1; }
# A client alone is no engine: it may be there without one.
has_engine() { has docker && { engine_answers || refused || has dockerd; }; }
refused() { [[ "$(docker info 2>&1 || true)" == *"permission denied"* ]]; }
registry_answers() { timeout 20 docker manifest inspect debian:bookworm-slim > /dev/null 2>&1; }
image_is_built() { .venv/bin/hts-compat image list 2> /dev/null | grep -q "^$1 .*content"; }

lacks_for_qemu() {
    has qemu-system-x86_64 || lacks qemu-system-x86 "QEMU, which runs the guests"
    has qemu-img || lacks qemu-utils "the tool that makes their disks"
    has mmdebstrap || lacks mmdebstrap "the maker of their root"
    has fakechroot || lacks fakechroot "what makes it without being root"
    has fakeroot || lacks fakeroot "what makes its files root's"
    [ -x /sbin/mke2fs ] || has mke2fs || lacks e2fsprogs "the maker of their file system"
}

# Where no engine can run, virtual machines alone carry everything.
take_qemu() {
    say "no Docker engine can run here ($1): guests will be virtual machines"
    wants_docker=no wants_qemu=yes may_choose=no
}

if [ "$may_choose" = yes ] && ! engine_answers; then
    if refused; then
        take_qemu "$(id -un) may not use it"
    elif [ "$may_install" = no ]; then
        take_qemu "none answers, and $(id -un) may not start one"
    fi
fi

[ -x .venv/bin/python ] || python_is_good || lacks python3-venv "Python 3.11 with its venv module"
[ "$wants_docker" = no ] || has_engine || lacks docker.io "a Docker engine"
[ "$wants_qemu" = no ] || lacks_for_qemu
has x86_64-w64-mingw32-gcc || lacks gcc-mingw-w64-x86-64 "the compiler for Windows programs"
has makensis || lacks nsis "the maker of Windows installers"
if [ "$wants_x86" = yes ]; then
    has i686-w64-mingw32-gcc || lacks gcc-mingw-w64-i686 "the compiler for 32-bit Windows programs"
fi
if [ "$wants_browser" = yes ] && ! has chromium && ! has google-chrome; then
    lacks chromium "the browser that the tests look at pages with"
fi
# Tests lead a way into the real ones. An ssh server listens once it is installed, so nobody's own PC gets one for a test.
if [ "$wants_browser" = yes ] && [ "${CI:-}" = true ]; then
    has sshd || [ -x /usr/sbin/sshd ] || lacks openssh-server "the ssh server that the tests talk to"
    has qemu-ga || [ -x /usr/sbin/qemu-ga ] || lacks qemu-guest-agent "QEMU's guest agent, which the tests talk to"
fi

install_missing

# --- a Docker engine that answers this user
start_engine() {
    say "starting the Docker engine"
    mkdir -p "$cache"
    if [ -d /run/systemd/system ]; then
        "${as_root[@]}" systemctl start docker
    else
        "${as_root[@]}" setsid dockerd > "$cache/dockerd.log" 2>&1 < /dev/null &
    fi
    for _ in $(seq 120); do
        "${as_root[@]}" docker info > /dev/null 2>&1 && return
        sleep 0.5
    done
    [ "$may_choose" = yes ] ||
        give_up "The Docker engine did not start within a minute." "$(tail -n 15 "$cache/dockerd.log" 2> /dev/null)"
    take_qemu "it was started and did not answer within a minute: $(tail -n 1 "$cache/dockerd.log" 2> /dev/null)"
    lacks_for_qemu
    install_missing
}

start_command="systemctl start docker"
[ -d /run/systemd/system ] || start_command="setsid dockerd > /var/log/dockerd.log 2>&1 &"

if [ "$wants_docker" = yes ] && ! engine_answers; then
    if ! refused; then
        [ "$may_install" = yes ] || give_up "The Docker engine is not running. As root: $start_command"
        start_engine
    fi
    [ "$wants_docker" = no ] || engine_answers || give_up \
        "$(id -un) may not use the Docker engine. As root: usermod -aG docker $(id -un)  (then log in again)"
fi

# --- Python's part
stamp="$(cat requirements.lock pyproject.toml | sha256sum)"
if [ "$(cat .venv/.stamp 2> /dev/null)" != "$stamp" ]; then
    say "making .venv from requirements.lock"
    mkdir -p "$cache"
    {
        [ -x .venv/bin/python ] || "$python" -m venv .venv
        .venv/bin/python -m pip install -q -r requirements.lock
        .venv/bin/python -m pip install -q --no-deps --no-build-isolation -e .
    } > "$cache/pip.log" 2>&1 || give_up "pip failed; its last lines:" "$(tail -n 15 "$cache/pip.log")"
    echo "$stamp" > .venv/.stamp
fi

# --- the reference guest; its base comes from a registry, or else from Debian's packages
images=()
[ "$wants_docker" = no ] || images+=(reference)
[ "$wants_qemu" = no ] || images+=(reference-vm)
[ "$wants_x86" = no ] || images+=(reference-32)
builds=()
for image in "${images[@]}"; do
    if [ "$image" != reference-vm ] && ! has mmdebstrap && ! image_is_built "$image" && ! registry_answers; then
        lacks mmdebstrap "the maker of the guest's base image, as no registry answers"
        install_missing
    fi
    # Both at the same time: the one waits for packages while the other boots.
    .venv/bin/hts-compat image build "$image" &
    builds+=($!)
done
failed=0
for build in "${builds[@]}"; do
    wait "$build" || failed=$?
done
[ "$failed" = 0 ] || exit "$failed"
say "set up"
