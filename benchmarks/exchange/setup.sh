#!/usr/bin/env bash
# Environments with readers of NIR, one a folder under .venv-exchange at the repository root; an argument names another.
# torch comes first and pinned. Norse also asks for torchvision, Sinabs for packages of its chips: neither is needed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
venvs=${1:-$root/.venv-exchange}
export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
cd "$root"
for reader in snntorch norse sinabs; do
    "${PYTHON:-python3}" -m venv "$venvs/$reader"
    pip="$venvs/$reader/bin/python -m pip install -q"
    $pip torch
    $pip -r benchmarks/exchange/requirements.txt
    case $reader in
    snntorch) $pip --no-deps snntorch==1.0.0 ;;
    norse) $pip --no-deps norse==1.1.0 ;;
    sinabs) $pip --no-deps sinabs==3.1.3 && $pip matplotlib pbr ;;
    esac
done
echo "ready: python benchmarks/exchange/nir_readers.py --venvs $venvs"
