#!/bin/sh
# Installs packages of the operating system, if any is missing: those that bindep.txt lists for the given profiles, or the named ones.
# usage: tools/setup.sh PROFILE...
#        tools/setup.sh --packages PACKAGE...
set -eu
root=$(dirname "$0")/..
if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is no Debian; install what bindep.txt lists for your system" >&2
    exit 0
fi
# What an earlier run that was killed left behind.
policy=/usr/sbin/policy-rc.d
mark='# set for a moment by tools/setup.sh'
engine_units=$root/.cache/.engine-units-to-disable
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if grep -qsxF "$mark" "$policy"; then $as_root rm -f "$policy"; fi

is_installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# An engine that came by us must not run a daemon from the next boot on.
disable_engine() {
    [ -e "$engine_units" ] || return 0
    if command -v systemctl >/dev/null; then
        # shellcheck disable=SC2046 # a list of unit names
        $as_root systemctl --quiet disable $(cat "$engine_units")
    fi
    rm "$engine_units"
}

wanted=
if [ "$1" = --packages ]; then
    shift
    wanted=$*
else
    for profile in "$@"; do
        # shellcheck disable=SC2013 # one name a line, no spaces in it
        for package in $(sed -n "s/^\([a-z0-9.+-]*\) \[platform:dpkg $profile\]\$/\1/p" "$root/bindep.txt"); do
            # Another engine, such as Docker's own packages, serves as well and would be replaced.
            if [ "$package" = docker.io ] && { command -v dockerd || command -v podman; } >/dev/null; then continue; fi
            wanted="$wanted $package"
        done
    done
fi
missing=
for package in $wanted; do
    is_installed "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
    disable_engine
    exit 0
fi
echo "setup: installing$missing"
if [ -n "$as_root" ] && ! command -v sudo >/dev/null; then
    echo "setup: run as root: apt-get install$missing" >&2
    exit 1
fi
case "$missing " in
*" docker.io "*)
    mkdir -p "$root/.cache"
    # After a kill the list is there already, and containerd may be, too.
    if [ ! -e "$engine_units" ]; then
        units='docker.service docker.socket'
        is_installed containerd || units="$units containerd.service"
        echo "$units" >"$engine_units.new"
        mv "$engine_units.new" "$engine_units"
    fi
    ;;
esac
# A package that starts a daemon on the controller would be a surprise: docker.io is needed for its program alone.
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    trap 'exit 143' HUP INT TERM
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
$as_root apt-get update -q
# shellcheck disable=SC2086 # a list of package names
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove $missing
disable_engine
