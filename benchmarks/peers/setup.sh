#!/usr/bin/env bash
# A separate environment with the peers, .venv-peers at the repository root; an argument names another folder.
# torch comes first and pinned, so that no package replaces it by a build of several GB.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=${1:-$root/.venv-peers}
export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
cd "$root"
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install -q torch
"$venv/bin/python" -m pip install -q --no-deps -r benchmarks/peers/requirements.txt
OMP_NUM_THREADS=1 "$venv/bin/python" -c "import snntorch, spikingjelly.activation_based.neuron"
echo "ready: $venv/bin/python benchmarks/peers/dynamics.py"
