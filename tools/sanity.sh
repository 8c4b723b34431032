#!/bin/sh
# ansible-test sanity on a copy of the tree: it wants a path that ends in ansible_collections/NAMESPACE/NAME
# and would follow the checkout's own link to itself.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
copy=$top/.cache/sanity/ansible_collections/hybridlab/platform
rm -rf "$copy"
mkdir -p "$copy"
cd "$top"
git ls-files -z --cached --others --exclude-standard | grep -zv '^collections/' | tar --create --null --files-from=- | tar --extract --directory="$copy"

# ansible-test makes its environments with a pip that it downloads. Python carries one: give it that.
ANSIBLE_HOME=$top/.cache/ansible-home
export ANSIBLE_HOME HOME="$ANSIBLE_HOME"
mkdir -p "$HOME/.ansible/test/cache" "$HOME/.config/pip"
cp "$top/tools/get_pip.py" "$HOME/.ansible/test/cache/get_pip_24_2.py"
# It drops PIP_* variables; what they say has to stand in a file.
{
    echo "[global]"
    env | sed -n 's/^PIP_\([A-Z_]*\)=\(.*\)/\1=\2/p' | while IFS='=' read -r name value; do
        printf '%s = %s\n' "$(printf %s "$name" | tr 'A-Z_' 'a-z-')" "$value"
    done
} >"$HOME/.config/pip/pip.conf"

# ansible-test asks git for the files; inside this checkout git would say that the copy is ignored.
cd "$copy"
git init --quiet
git add --all
exec ansible-test sanity --color no --python 3.11 "$@"
