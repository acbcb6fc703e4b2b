#!/usr/bin/env bash
# One environment a peer under .venvs at the repository root: setup.sh [PEER ...]. VENVS names another folder,
# PYTHON another interpreter (SpikingJelly needs 3.11 or newer).
# torch comes first and pinned, so that no package replaces it by a build of several GB.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=benchmarks/training
venvs=${VENVS:-$root/.venvs}
declare -A module=(
  [spikingjelly]=spikingjelly.activation_based.neuron [snntorch]=snntorch [norse]=norse.torch [sinabs]=sinabs.layers
)
cd "$root"
export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
for peer in "${@:-spikingjelly snntorch norse sinabs}"; do
  for name in $peer; do
    "${PYTHON:-python3}" -m venv --clear "$venvs/$name"
    "$venvs/$name/bin/python" -m pip install -q torch
    "$venvs/$name/bin/python" -m pip install -q --no-deps -r "$here/requirements/$name.txt"
    OMP_NUM_THREADS=1 "$venvs/$name/bin/python" -c "import ${module[$name]}"
    echo "ready: $venvs/$name"
  done
done
