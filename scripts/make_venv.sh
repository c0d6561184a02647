#!/bin/sh
# make_venv.sh FOLDER - a virtual environment with pip, from whichever Python >= 3.11 this machine has.
#
# Set PYTHON to choose one. Where Python comes without `ensurepip` (Debian and Ubuntu split it off), virtualenv
# makes the environment; it comes from the package registry, through pip if there is one, else by
# scripts/fetch_pip.py.
set -eu

venv=$1
here=$(dirname "$0")

new_enough() { # runs it, because a name on PATH may be a shim with nothing behind it
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

usable() {
    [ -x "$venv/bin/python" ] && new_enough "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

if usable; then exit 0; fi

# Versions by name first: a plain `python3` may be newer than what the dependencies have wheels for.
candidates="${PYTHON:-python3.13 python3.12 python3.11 python3.14 python3 python
    /usr/local/bin/python3 /usr/bin/python3 /usr/bin/python3.14 /usr/bin/python3.13 /usr/bin/python3.12
    /usr/bin/python3.11 /opt/homebrew/bin/python3}"
found=""
for python in $candidates; do
    if new_enough "$python"; then found="$found $python"; fi
done
if [ -z "$found" ]; then
    echo "no Python 3.11 or newer found (tried: $(echo $candidates)); install one, or set PYTHON to it" >&2
    exit 1
fi

for python in $found; do
    if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        rm -rf "$venv"
        if "$python" -m venv "$venv" >/dev/null 2>&1 && usable; then exit 0; fi
    fi
done

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
for python in $found; do
    rm -rf "$venv"
    if "$python" -m virtualenv -q "$venv" >/dev/null 2>&1 && usable; then exit 0; fi
    if ! "$python" -m pip --version >/dev/null 2>&1; then
        "$python" "$here/fetch_pip.py" "$tools/pip.whl" || continue
        pip="$tools/pip.whl/pip"
    else
        pip="-m pip"
    fi
    # shellcheck disable=SC2086 # `-m pip` is two words on purpose
    "$python" $pip install -qq --no-input --target "$tools/site" virtualenv || continue
    if PYTHONPATH="$tools/site" "$python" -m virtualenv -q "$venv" && usable; then exit 0; fi
done

rm -rf "$venv"
echo "cannot make a virtual environment with any of:$found" >&2
echo "hint: install its venv module (Debian, Ubuntu: apt install python3-venv) and run this again" >&2
exit 1
