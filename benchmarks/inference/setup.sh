#!/usr/bin/env bash
# A separate environment with all peers for benchmarks/inference, .venvs/inference at the repository root; an argument
# names another folder, PYTHON another interpreter (SpikingJelly needs 3.11 or newer).
# torch comes first and pinned, so that no package replaces it by a build of several GB.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venv=${1:-$root/.venvs/inference}
cd "$root"
export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install -q torch
"$venv/bin/python" -m pip install -q --no-deps -r benchmarks/inference/requirements.txt
OMP_NUM_THREADS=1 "$venv/bin/python" - <<'CHECK'
import executorch.runtime, nncf, onnx, onnxruntime, openvino, snntorch, torchao
from spikingjelly.activation_based import neuron
CHECK
echo "ready: $venv/bin/python"
