#!/bin/sh
# make_venv.sh make PYTHON [named]   makes .venv with PYTHON, or keeps the one that is there
# make_venv.sh stale PYTHON          prints FORCE when .venv was made with another Python
# "named": the user chose the Python (make PYTHON=…). Without it a .venv that works is kept.
# Nothing is installed with a Python that is too old, and a .venv that is unfinished, broken or of another
# Python is made anew.
set -eu

command=$1
python=$2
named=${3:-}
minimum_minor=11

# "3.12.1" of a Python, whatever its age; nothing when it does not run.
version_of() {
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null || true
}

is_new_enough() {
    case $1 in
    3.*.*) minor=${1#3.} && [ "${minor%%.*}" -ge "$minimum_minor" ] ;;
    *) return 1 ;;
    esac
}

# The newest Python on the path that is new enough.
better_python() {
    for name in python3.14 python3.13 python3.12 python3.11; do
        if is_new_enough "$(version_of "$name")"; then
            echo "$name"
            return
        fi
    done
}

existing=""
if [ -f .venv/.installed ]; then
    existing=$(version_of .venv/bin/python)
fi
if [ "$command" = stale ]; then
    if [ "$(version_of "$python")" != "$existing" ]; then echo FORCE; fi
    exit 0
fi
if [ -z "$named" ] && is_new_enough "$existing"; then
    exit 0
fi

version=$(version_of "$python")
if ! is_new_enough "$version"; then
    if [ -n "$version" ]; then
        found="$python is $version"
    else
        found="$python was not found, or does not run"
    fi
    found_better=$(better_python)
    if [ -n "$found_better" ]; then
        advice="make PYTHON=$found_better setup"
    else
        advice="install one, then: make PYTHON=python3.12 setup"
    fi
    echo "statebacked needs Python 3.$minimum_minor or newer; $found. $advice" >&2
    exit 1
fi

if [ "$version" != "$existing" ]; then
    echo "setting up .venv with Python $version (about 40 seconds)"
    "$python" -m venv --clear .venv
fi
