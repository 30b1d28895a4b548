#!/bin/sh
# Build the wheel with kernels for common processors, install it in an empty environment, and run the main job outside the
# repository, with nothing left to compile.
set -eu
repository=$(pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$BIN/python" -m fastent.kernels.prebuilt "$scratch/prebuilt"
FASTENT_PREBUILT="$scratch/prebuilt" "$BIN/python" -m build --wheel --outdir dist . >"$scratch/build.log" 2>&1 || { cat "$scratch/build.log"; exit 1; }
wheel=$(ls -t dist/fastent-*.whl | head -n 1)
ls -l "$wheel"
"$PYTHON" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet -c "$repository/constraints.txt" "$repository/$wheel"
cp tests/check_first_calls.py "$scratch"
cd "$scratch"
export HOME="$scratch/home" XDG_CACHE_HOME= FASTENT_CACHE_DIR=
mkdir home
venv/bin/fastent run --epochs 50 --out out
ls out
for call in neighbors-float32 neighbors-float64 measure train; do venv/bin/python check_first_calls.py "$call"; done
if [ -e home/.cache/fastent/kernels ]; then echo 'kernels were compiled:'; ls home/.cache/fastent/kernels/*; exit 1; fi
if venv/bin/python -c 'import kernels' 2>import.log; then echo 'a top-level kernels was installed'; exit 1; fi
tail -n 1 import.log
