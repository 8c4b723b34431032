# shellcheck shell=sh
# postfix-local.sh check|close
# Takes the listener away from a postfix that nobody reaches but this host: its own programs hand mail in by sendmail, and a published port 25 needs
# that of loopback too. Says "closed" when it did, or would do, so.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
if ! command -v postconf >/dev/null; then
    # A check run, before the package is there.
    [ "$1" != check ] || echo closed
    exit 0
fi
case $(postconf -h inet_interfaces) in
    localhost | loopback-only | 127.0.0.1) ;;
    *) exit 0 ;;
esac
[ -n "$(postconf -M smtp/inet 2>/dev/null)" ] || exit 0
[ "$1" = check ] || postconf -M# smtp/inet
echo closed
