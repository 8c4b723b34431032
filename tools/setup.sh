#!/bin/sh
# Installs the operating system's packages that bindep.txt lists for the given profiles, if any is missing.
# usage: tools/setup.sh PROFILE...
set -eu
list=$(dirname "$0")/../bindep.txt
if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is no Debian; install what bindep.txt lists for your system" >&2
    exit 0
fi
# What an earlier run that was killed left behind.
policy=/usr/sbin/policy-rc.d
mark='# set for a moment by tools/setup.sh'
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if grep -qsxF "$mark" "$policy"; then $as_root rm -f "$policy"; fi

missing=
for profile in "$@"; do
    # shellcheck disable=SC2013 # one name a line, no spaces in it
    for package in $(sed -n "s/^\([a-z0-9.+-]*\) \[platform:dpkg $profile\]\$/\1/p" "$list"); do
        # Another engine, such as Docker's own packages, serves as well and would be replaced.
        if [ "$package" = docker.io ] && { command -v dockerd || command -v podman; } >/dev/null; then continue; fi
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0
echo "setup: installing$missing"
if [ -n "$as_root" ] && ! command -v sudo >/dev/null; then
    echo "setup: run as root: apt-get install$missing" >&2
    exit 1
fi
# A package that starts a daemon on the controller would be a surprise: docker.io is needed for its program alone.
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
$as_root apt-get update -q
# shellcheck disable=SC2086 # a list of package names
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove $missing
