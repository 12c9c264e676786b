#!/usr/bin/env bash
# Renew requirements.lock: install the project and its extras into a new environment and freeze what came.
set -euo pipefail
# Debian 12 has Python 3.11.2. Newer releases of these two need 3.11.5, and a constraint on them would end `make setup`.
OLD_ENOUGH=('pymdown-extensions<13' 'soupsieve<3')
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
"${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check 'torch==2.13.0' "${OLD_ENOUGH[@]}" -e '.[dev]'
{
    echo "# Exact versions for 'pip install -c requirements.lock -e .'; renewed by 'make lock'."
    "$environment/bin/python" -m pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+cpu$/\1/' | grep -v ' @ '
} >requirements.lock
