# SPDX-License-Identifier: Apache-2.0
# Shell functions that the tools share. To be sourced by bash with "set -euo pipefail", from the project's directory.

# say TEXT...: tell whoever watches.
say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }

# die TEXT...: say why, and end.
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# as_root COMMAND...: run it as root, through sudo if need be.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -E "$@"
    else
        die "\"$1\" needs root: run this as root, or install sudo"
    fi
}

# show_progress: show the last line of the input, where a terminal shows it.
show_progress() {
    local line
    [ -t 2 ] || { cat >/dev/null; return; }
    while IFS= read -r line; do
        printf '\r\033[K    %.100s' "$line" >&2
    done
    printf '\r\033[K' >&2
}

# wanted_packages [PROFILE]: the names of the Debian packages that bindep.txt lists: all, or those that the service needs
# and those of a profile.
wanted_packages() {
    sed -e 's/#.*//' bindep.txt | awk -v profile="${1:-test}" '
        NF && (!/\[/ || /platform:dpkg/) && (!/dpkg [a-z]/ || $0 ~ "[ ]" profile "[] ]") {print $1}'
}

# missing_packages [PROFILE]: those of them that are not installed.
missing_packages() {
    local package
    for package in $(wanted_packages "$@"); do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

# install_packages [PROFILE]: install what bindep.txt lists and is missing. Services that come with it are not started
# where there is no systemd: the tests and the quickstart start their own.
install_packages() {
    command -v dpkg-query >/dev/null || die 'this needs Debian or Ubuntu: install what bindep.txt lists by hand'
    local missing quiet_services='' log status=0
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -n "${missing// /}" ] || return 0
    say "installing packages: $missing"
    log=$(mktemp)
    if [ ! -d /run/systemd/system ] && [ ! -e /usr/sbin/policy-rc.d ]; then
        quiet_services=1
        printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
        as_root chmod 755 /usr/sbin/policy-rc.d
    fi
    # shellcheck disable=SC2086
    { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $missing; } 2>&1 | tee "$log" | show_progress || status=$?
    [ -z "$quiet_services" ] || as_root rm -f /usr/sbin/policy-rc.d
    if [ "$status" != 0 ]; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install: $missing"
    fi
    rm -f "$log"
}

# find_python: the name of an interpreter that is new enough.
find_python() {
    local python
    for python in python3 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$python"
            return 0
        fi
    done
    die 'Python 3.11 or newer is needed'
}

# other_pythons: the names of the other interpreters that are new enough and here, each of another version than .venv's
# and than those before it. One that has no headers is none of them: libvirt-python could not be built for it.
other_pythons() {
    local python version seen
    seen=$(.venv/bin/python -c 'import sys; print(*sys.version_info[:2], sep=".")')
    for version in 3.11 3.12 3.13 3.14 3.15; do
        python=python$version
        [ "$version" != "$seen" ] || continue
        # it must run: a name may be no more than the promise of one
        [ "$("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null)" = "$version" ] || continue
        if "$python" -c 'import ensurepip, os, sysconfig
os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null; then
            echo "$python"
        else
            say "$python is left out: it has no venv (python$version-venv) or no headers (python$version-dev)"
        fi
    done
}

# extra_requirements: what the extras of setup.cfg need.
extra_requirements() {
    awk '/^\[/ {inside = /^\[extras\]/} inside && /^ / {print $1}' setup.cfg
}

# lowest_versions PYTHON: the lowest versions that requirements.txt and the extras admit, each with the newest of what it
# needs itself.
lowest_versions() {
    local bounds status=0
    bounds=$(mktemp)
    # it is built from the source, against the libvirt that is here: an older one knows nothing of what that has
    echo "libvirt-python>=$(pkg-config --modversion libvirt)" >"$bounds"
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-https://pypi.org/simple}} .venv/bin/uv pip compile -q \
        --no-header --no-annotate --resolution lowest-direct --python "$1" --constraint "$bounds" requirements.txt \
        <(extra_requirements) ||
        status=$?
    rm -f "$bounds"
    return "$status"
}

# install_requirements DIRECTORY OPTION...: install requirements and the project itself there, with these options of pip.
install_requirements() {
    local directory=$1
    shift
    "$directory/bin/pip" install --progress-bar off --disable-pip-version-check "$@" | show_progress || return 1
    # the version comes from git, which does not trust a directory of somebody else's unless it is told to
    GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=$PWD \
        "$directory/bin/pip" install -q --disable-pip-version-check --no-deps -e .
}

# stamp PYTHON [FILE...]: what an environment is made of: this interpreter, these files, and what all of them share.
stamp() {
    { "$1" --version; pwd; cat requirements.txt setup.cfg pyproject.toml "${@:2}"; } | sha256sum
}

# prepare_quickstart_venv: make .venv with what the quickstart needs, unless it has that already, or more.
prepare_quickstart_venv() {
    local python
    python=$(find_python)
    [ "$(cat .venv/stamp 2>/dev/null)" != "$(stamp "$python" {test-,doc/}requirements.txt)" ] || return 0
    prepare_base "$python" .venv -r sandbox/requirements.txt
}

# prepare_base PYTHON DIRECTORY OPTION...: make an environment with what the quickstart needs, unless it is there.
prepare_base() {
    local made_of
    made_of=$(stamp "$1" sandbox/requirements.txt)
    [ "$(cat "$2/base-stamp" 2>/dev/null)" != "$made_of" ] || return 0
    say "installing Python packages into $2"
    rm -rf "$2"
    "$1" -m venv "$2"
    install_or_die "${@:2}"
    echo "$made_of" >"$2/base-stamp"
}

# prepare_venv [PYTHON DIRECTORY [lowest]]: make a virtual environment, .venv by default, with the project and its tests'
# requirements in it, unless that was done already; what the quickstart has installed stays. With "lowest" the project's
# requirements are of the lowest versions that it admits, and .venv must be there.
prepare_venv() {
    local python=${1:-} directory=${2:-.venv} lowest=${3:-} made_of options=(-r requirements.txt -r test-requirements.txt)
    [ -n "$python" ] || python=$(find_python)
    made_of=$(stamp "$python" {test-,doc/}requirements.txt; [ -z "$lowest" ] || pkg-config --modversion libvirt)
    [ "$(cat "$directory/stamp" 2>/dev/null)" != "$made_of" ] || return 0
    say "installing Python packages into $directory"
    if [ -n "$lowest" ] || [ "$(cat "$directory/base-stamp" 2>/dev/null)" != "$(stamp "$python" sandbox/requirements.txt)" ]; then
        rm -rf "$directory"
        "$python" -m venv "$directory"
    fi
    if [ -n "$lowest" ]; then
        lowest_versions "$python" >"$directory/lowest.txt" || die 'uv found no versions that requirements.txt admits'
        options+=(--constraint "$directory/lowest.txt")
    fi
    install_or_die "$directory" "${options[@]}"
    echo "$made_of" >"$directory/stamp"
}

# install_or_die DIRECTORY OPTION...: as install_requirements, if need be without this machine's pip configuration.
install_or_die() {
    if ! install_requirements "$@"; then
        # such as a second index on a disk that is not there
        say "once more, without this machine's pip configuration"
        PIP_CONFIG_FILE=/dev/null install_requirements "$@" || die 'pip could not install what requirements.txt lists'
    fi
}

# pip_install VENV ARGUMENT...: as prepare_venv does it, once more without this machine's pip configuration.
pip_install() {
    local venv=$1
    shift
    "$venv/bin/pip" install -q --disable-pip-version-check "$@" ||
        PIP_CONFIG_FILE=/dev/null "$venv/bin/pip" install -q --disable-pip-version-check "$@"
}

# quick_install VENV ARGUMENT...: as pip_install, but by uv, which takes seconds; by pip where uv does not reach an index.
quick_install() {
    local venv=$1
    shift
    UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-https://pypi.org/simple}} \
        .venv/bin/uv pip install -q --python "$venv/bin/python" "$@" || pip_install "$venv" "$@"
}

# same_version PACKAGE: PACKAGE==VERSION as .venv has it.
same_version() {
    .venv/bin/python -c 'import importlib.metadata, sys; print(f"{sys.argv[1]}=={importlib.metadata.version(sys.argv[1])}")' "$1"
}

# prepare_nova: make nova-venv with Nova as it is published and what its own tests need, and with the same Python, lxml and
# libvirt-python as .venv, unless that was done.
prepare_nova() {
    local same
    same="$(same_version lxml) $(same_version libvirt-python)"
    # shellcheck disable=SC2086
    prepare_kept nova-venv .venv/bin/python benchmarks/nova-requirements.txt $same
}

# prepare_clouds: make clouds-venv with Keystone, Cinder and Neutron as they are published, unless that was done. Its Python
# is the distribution's: Ceph's modules come from the distribution, and are for no other.
prepare_clouds() {
    prepare_kept clouds-venv /usr/bin/python3 sandbox/clouds-requirements.txt
}

# prepare_kept NAME PYTHON FILE [REQUIREMENT...]: make a virtual environment with what FILE lists and these requirements,
# unless that was done. It is in the directory ALIASAGENT_TEST_VENVS, which several clones can share, or else in build.
prepare_kept() {
    local venv=${ALIASAGENT_TEST_VENVS:-build}/$1 python=$2 file=$3 stamp
    shift 3
    mkdir -p "$(dirname "$venv")"
    stamp=$({ "$python" --version; echo "$*"; realpath -m "$venv"; cat "$file"; } | sha256sum)
    (
        # one after the other: other clones may be at it
        flock 9
        [ "$(cat "$venv/stamp" 2>/dev/null)" != "$stamp" ] || exit 0
        say "installing what $file lists into $venv (once)"
        rm -rf "$venv"
        "$python" -m venv "$venv"
        quick_install "$venv" -r "$file" "$@" || die "pip could not install what $file lists"
        echo "$stamp" >"$venv/stamp"
    ) 9>"$venv.lock"
}

# bring_parts_up DIRECTORY [--clouds]: start a RabbitMQ, a libvirtd and what else the tests want, and say where they are.
bring_parts_up() {
    local variables
    parts_in=$1
    variables=$(as_root .venv/bin/python -m sandbox up "${@:2}" --directory "$1/parts") || return 1
    eval "$variables"
}

# bring_parts_down DIRECTORY: stop them, if they were started.
bring_parts_down() {
    [ "${parts_in:-}" = "$1" ] || return 0
    parts_in=''
    as_root .venv/bin/python -m sandbox down --directory "$1/parts"
}
