#!/usr/bin/env sh
# Make a virtual environment beside this file the first time, then open the studio. Arguments are the studio's.
set -eu
cd "$(dirname "$0")"
venv=.venv
if [ ! -x "$venv/bin/loratools" ]; then
  "${PYTHON:-python3}" -m venv "$venv"
  if command -v nvidia-smi >/dev/null 2>&1; then
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1 | cut -d. -f1)
    if [ "$driver" -ge 580 ]; then index=cu130; else index=cu126; fi
    "$venv/bin/python" -m pip install torch --index-url "https://download.pytorch.org/whl/$index"
  elif [ "$(uname -s)" = Linux ]; then
    "$venv/bin/python" -m pip install torch --index-url https://download.pytorch.org/whl/cpu
  fi
  "$venv/bin/python" -m pip install -e '.[studio]'
  "$venv/bin/loratools" doctor || true
fi
exec "$venv/bin/loratools" studio "$@"
