#!/usr/bin/env bash
# A separate environment with what reads exported files, .venvs/exchange at the repository root; an argument names
# another folder, PYTHON another interpreter. Nothing of ours and no torch goes in: files are exchanged.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=${1:-$root/.venvs/exchange}
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install -q -r "$root/benchmarks/exchange/requirements.txt"
echo "ready: $venv/bin/python"
