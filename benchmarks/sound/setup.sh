#!/usr/bin/env bash
# An environment with librosa, whose spectra in mel bands are held against bitspike's.
#     benchmarks/sound/setup.sh [FOLDER]    FOLDER: .venvs/sound; PYTHON names another interpreter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=${1:-.venvs/sound}
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/python" -m pip install -q -r benchmarks/sound/requirements.txt
echo "ready: $venv"
