#!/usr/bin/env bash
# Sets up an environment of its own from the wheels that `python -m bench.gpu prepare` collected, then runs a command in it:
#   bench/gpu/run.sh run --quick --limit 500
# WHEELS (./wheels), VENV (.cache/gpu-venv), PYTHON (python3), CUDA (12): others. Without the folder an index is asked.
# LIBRARIES: a site-packages folder whose nvidia/*/lib hold CUDA's libraries, PyTorch's for example, if the wheels have none.
set -euo pipefail
cd "$(dirname "$0")/../.."
wheels=${WHEELS:-wheels} venv=${VENV:-.cache/gpu-venv} python=${PYTHON:-python3} cuda=${CUDA:-12}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' ||
  { echo "Python 3.11 or 3.12 is needed; PYTHON names another" >&2; exit 1; }
if [ ! -e "$venv/.done" ]; then
  "$python" -m venv --clear "$venv" || { echo "no venv for $python: install python3-venv, or name another PYTHON" >&2; exit 1; }
  "$venv/bin/python" -m bench.gpu install --wheels "$wheels" --cuda "$cuda"
  touch "$venv/.done"
fi
if [ -n "${LIBRARIES:-}" ]; then
  found=$(find "$LIBRARIES/nvidia" -maxdepth 3 -type d -name lib 2>/dev/null | paste -sd: || true)
  [ -n "$found" ] || { echo "there is no nvidia/*/lib in $LIBRARIES" >&2; exit 1; }
  export LD_LIBRARY_PATH="$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
exec "$venv/bin/python" -m bench.gpu "$@" --wheels "$wheels"
