#!/usr/bin/env bash
# Environments with what reads exported files, one a folder: onnx (OpenVINO, QONNX, hls4ml; no torch), snntorch, norse, sinabs.
#     benchmarks/exchange/setup.sh [FOLDER [NAME ...]]    FOLDER: .venvs/exchange; PYTHON names another interpreter
# torch comes first and pinned. Norse also asks for torchvision, Sinabs for packages of its chips: neither is needed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
venvs=${1:-$root/.venvs/exchange}
names=("${@:2}")
[ ${#names[@]} -gt 0 ] || names=(onnx snntorch norse sinabs)
for name in "${names[@]}"; do
    "${PYTHON:-python3}" -m venv "$venvs/$name"
    pip="$venvs/$name/bin/python -m pip install -q"
    if [ "$name" = onnx ]; then
        $pip -r benchmarks/exchange/requirements_onnx.txt
        continue
    fi
    export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
    $pip torch
    $pip -r benchmarks/exchange/requirements.txt
    case $name in
    snntorch) $pip --no-deps snntorch==1.0.0 ;;
    norse) $pip --no-deps norse==1.1.0 ;;
    sinabs) $pip --no-deps sinabs==3.1.3 && $pip matplotlib pbr ;;
    *) echo "unknown: $name" && exit 1 ;;
    esac
    unset PIP_CONSTRAINT PIP_BUILD_CONSTRAINT
done
echo "ready: $venvs"
