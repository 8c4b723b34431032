#!/bin/sh
# Installs the operating system's packages that bindep.txt lists for the given profiles, if any is missing.
# usage: tools/setup.sh PROFILE...
set -eu
list=$(dirname "$0")/../bindep.txt
if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is no Debian; install what bindep.txt lists for your system" >&2
    exit 0
fi
missing=
for profile in "$@"; do
    for package in $(sed -n "s/^\([a-z0-9.+-]*\) \[platform:dpkg $profile\]\$/\1/p" "$list"); do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
    done
done
[ -n "$missing" ] || exit 0
echo "setup: installing$missing"
as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "setup: run as root: apt-get install$missing" >&2; exit 1; }
    as_root=sudo
fi
# A package that starts a daemon on the controller would be a surprise: docker.io is needed for its program alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
$as_root apt-get update -q
# shellcheck disable=SC2086 # a list of package names
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
