#!/usr/bin/env bash
# An environment with other readers of event files: tonic (GPL, so it stays outside of bitspike), dv-processing, aedat.
#     benchmarks/events/setup.sh [FOLDER]    FOLDER: .venvs/events; PYTHON names another interpreter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=${1:-.venvs/events}
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install -q -r benchmarks/events/requirements.txt
echo "ready: $venv"
