# shellcheck shell=sh
# Brings the audit rules into the kernel: audit-load.sh AUDIT_RULES DIRECTORY...
# A rule for a directory that is missing is loaded as one for a file of that name, which sees nothing of what comes to lie in it. Therefore the rules are
# loaded again after a directory was made. The time of AUDIT_RULES, which augenrules keeps where nothing changed, is that of the last load.
set -eu
rules=$1
shift
stale=
case $(augenrules --check) in *'should be updated'*) stale=yes ;; esac
for directory; do
    if [ -d "$directory" ] && [ "$(stat -c %W "$directory")" -gt "$(stat -c %Y "$rules" 2>/dev/null || echo 0)" ]; then stale=yes; fi
done
[ -n "$stale" ] || exit 0
echo stale
augenrules --load
touch "$rules"
