#!/usr/bin/env bash
# Build wheel and sdist of the last commit into build/dist, and try the wheel as a user without a clone does: in a new
# environment, a new project, and the demo at the size of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -n "$(git status --porcelain)" ]; then
    echo "Commit your changes first: what is built is the last commit." >&2
    exit 1
fi
python=$(command -v "${PYTHON:-python3}")
dist=$PWD/build/dist
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone --quiet . "$folder/clone" # without what git ignores
rm -rf "$dist"
"${BUILDER:-.venv/bin/python}" -m build --outdir "$dist" "$folder/clone"
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c requirements.lock "$dist"/*.whl
cd "$folder"
export PATH=$folder/venv/bin:$PATH DO_NOT_TRACK=1
synapseclr --help
synapseclr new project
cd project
kedro run --env=test --pipeline=demo
test -s data/08_reporting/report.html
ls -l "$dist"
