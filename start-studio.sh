#!/usr/bin/env sh
# Make a virtual environment beside this file the first time, then open the studio. Arguments are the studio's.
set -eu
cd "$(dirname "$0")"
venv=.venv
fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

if ! "$venv/bin/python" -c "$fits" 2>/dev/null; then # there is none, or the Python that it was made of is gone
  python=
  for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3.13 python3.11 python3 python; do
    if "$candidate" -c "$fits" 2>/dev/null; then python=$candidate; break; fi
  done
  if [ -z "$python" ]; then
    echo "Python 3.11 to 3.13 is needed, and none was found; name one: PYTHON=/path/to/python $0" >&2
    exit 1
  fi
  "$python" -m venv --clear "$venv"
fi
if [ ! -x "$venv/bin/loratools" ]; then
  index=$("$venv/bin/python" -m loratools.doctor) # torch's build for this machine: cu130, rocm6.4, cpu, or PyPI's
  if [ -n "$index" ]; then
    "$venv/bin/python" -m pip install torch --index-url "https://download.pytorch.org/whl/$index"
  else
    "$venv/bin/python" -m pip install torch
  fi
  "$venv/bin/python" -m pip install -e '.[studio]'
  "$venv/bin/loratools" doctor || true
fi
exec "$venv/bin/loratools" studio "$@"
