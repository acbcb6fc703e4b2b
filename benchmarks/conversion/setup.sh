#!/usr/bin/env bash
# A separate environment with SpikingJelly for peer_spikingjelly.py, .venvs/conversion at the repository root; an argument
# names another folder, PYTHON another interpreter (SpikingJelly needs 3.11 or newer).
# torch comes first and pinned, so that no package replaces it by a build of several GB.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=${1:-$root/.venvs/conversion}
export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
cd "$root"
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install -q torch
"$venv/bin/python" -m pip install -q --no-deps -r benchmarks/conversion/requirements.txt
OMP_NUM_THREADS=1 "$venv/bin/python" -c "from spikingjelly.activation_based import ann2snn"
echo "ready: $venv/bin/python benchmarks/conversion/peer_spikingjelly.py"
