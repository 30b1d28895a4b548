#!/bin/sh
# Build the wheel, install it in an empty environment and run the main job outside the repository.
set -eu
repository=$(pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$BIN/python" -m build --wheel --outdir "$scratch" . >"$scratch/build.log" 2>&1 || { cat "$scratch/build.log"; exit 1; }
"$PYTHON" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet -c "$repository/constraints.txt" "$scratch"/fastent-*.whl
cd "$scratch"
venv/bin/fastent run --epochs 50 --out out
ls out
if venv/bin/python -c 'import kernels' 2>import.log; then echo 'a top-level kernels was installed'; exit 1; fi
tail -n 1 import.log
