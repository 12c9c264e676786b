#!/bin/sh
# Install the Debian packages named, those of them that are missing; where that is not possible, say so and go on: what
# needs them says what it lacks. Idempotent, and without a network when nothing is missing.
missing=""
for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "Not installed:$missing. Three-dimensional renders and the browser tests need them; install them with your system's package manager."
    exit 0
fi
echo "Installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null
