#!/usr/bin/env bash
# Pack benchmarks/gpu.py for a machine without a network: sources, parameters, and the packages that it lacks as wheels.
#
#   scripts/gpu_bundle.sh FOLDER [PIP_LIST]         here, where pip has an index
#   FOLDER/run.sh [OPTIONS OF benchmarks/gpu.py]    there; the result is FOLDER/gpu.json
#
# PIP_LIST is the output of `python3 -m pip list --format=freeze` there. Without it the machine is taken to have torch,
# lightning and the scientific packages named in PRESENT. Wheels are for Linux on x86-64 and CPython PYTHON_VERSION
# (3.12). Versions are those of requirements.lock; installed ones of another version are used as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 1 ]; then
    echo "Name the folder to pack into: scripts/gpu_bundle.sh FOLDER [PIP_LIST]" >&2
    exit 2
fi
folder=$1
present_file=${2:-}
python=${PYTHON:-.venv/bin/python}
python_version=${PYTHON_VERSION:-3.12}
limit_mb=64

# What benchmarks/gpu.py imports, and what that needs.
NEEDED="annotated-types connected-components-3d crc32c donfig fsspec google-crc32c joblib lightning lightning-utilities
llvmlite markdown-it-py mdurl monai numba numcodecs numpy packaging pandas pydantic pydantic-core pygments
python-dateutil pytz pyyaml rich safetensors scikit-learn scipy six threadpoolctl torchmetrics tqdm typing-extensions
typing-inspection tzdata zarr zstandard"
PRESENT="fsspec joblib lightning lightning-utilities llvmlite numba numpy packaging pandas python-dateutil pytz pyyaml
safetensors scikit-learn scipy six threadpoolctl torchmetrics tqdm typing-extensions tzdata"

if [ -n "$present_file" ]; then
    PRESENT=$(sed 's/[=@ ].*//' "$present_file" | tr 'A-Z_.' 'a-z--')
fi
missing=()
for name in $NEEDED; do
    if ! grep -qx "$name" <<<"$(tr ' ' '\n' <<<"$PRESENT")"; then
        version=$(grep -i "^${name//-/[-_.]}==" requirements.lock | sed 's/.*==//')
        if [ -z "$version" ]; then
            echo "requirements.lock has no version of $name, which benchmarks/gpu.py needs: renew it by 'make lock'." >&2
            exit 1
        fi
        missing+=("$name==$version")
    fi
done

mkdir -p "$folder"
rm -rf "$folder"/{wheels,src,benchmarks,run.sh}
mkdir -p "$folder/wheels" "$folder/benchmarks"
if [ ${#missing[@]} -gt 0 ]; then
    platforms=()
    for platform in manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_24_x86_64 manylinux_2_17_x86_64 \
        manylinux2014_x86_64 manylinux_2_12_x86_64 manylinux2010_x86_64 manylinux_2_5_x86_64 manylinux1_x86_64; do
        platforms+=("--platform=$platform")
    done
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --implementation=cp --python-version="$python_version" "${platforms[@]}" --dest="$folder/wheels" "${missing[@]}"
fi
cp -r src "$folder/src"
find "$folder/src" -name __pycache__ -type d -prune -exec rm -rf {} +
rm -rf "$folder"/src/*.egg-info
cp benchmarks/{gpu,throughput,chunk_reading}.py "$folder/benchmarks/"
PYTHONPATH=src:benchmarks "$python" -c '
import json, sys
from throughput import parameters_of
json.dump(parameters_of("microns"), open(sys.argv[1], "w"), indent=2)' "$folder/benchmarks/parameters_microns.json"

cat >"$folder/run.sh" <<'RUN'
#!/usr/bin/env bash
# Install the wheels beside this script, touching nothing else, and run the benchmark.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if ls "$here"/wheels/*.whl >/dev/null 2>&1; then
    python3 -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-cache-dir --target="$site" \
        "$here"/wheels/*.whl
fi
PYTHONPATH="$here/src:$site" PYTHONUNBUFFERED=1 python3 "$here/benchmarks/gpu.py" --result="$here/gpu.json" "$@"
RUN
chmod +x "$folder/run.sh"

size_mb=$(du -sm "$folder" | cut -f1)
echo "$folder: $size_mb MB, ${#missing[@]} wheels: ${missing[*]}"
if [ "$size_mb" -gt $limit_mb ]; then
    echo "That is above $limit_mb MB: give the list of what the machine has as second argument." >&2
    exit 1
fi
