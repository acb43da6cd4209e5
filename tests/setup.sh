#!/usr/bin/env bash
# Installs the programs that tests use where that is possible (root on Debian or Ubuntu); says what is missing elsewhere.
set -u
packages=()
need() { command -v "$1" >/dev/null 2>&1 || packages+=("${@:2}"); }
need espeak-ng espeak-ng
need flite flite
need festival festival festvox-kallpc16k
need chromium chromium
need node nodejs npm
need faketime faketime
if [ ${#packages[@]} -eq 0 ]; then
  :
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "setting up: ${packages[*]}"
  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
else
  echo "Not installed: ${packages[*]}; the tests that need them are skipped. On Debian: sudo apt-get install ${packages[*]}"
fi

# The real clients of other services that tests/contract runs; where a registry is out of reach those tests are skipped.
cd "$(dirname "$0")/.."
if command -v npm >/dev/null 2>&1 && [ tests/contract/package-lock.json -nt tests/contract/node_modules/.package-lock.json ]; then
  echo "setting up: JavaScript clients"
  npm ci --prefix tests/contract --silent --no-audit --no-fund 2>/dev/null \
    && touch tests/contract/node_modules/.package-lock.json \
    || echo "npm could not install tests/contract/package-lock.json; the tests of JavaScript clients are skipped"
fi
V4=.cache/deepgram-v4
if [ tests/contract/deepgram-v4.txt -nt $V4/.installed ]; then
  echo "setting up: the older Python client"
  { .venv/bin/python -m venv $V4 && $V4/bin/pip install --quiet --disable-pip-version-check -r tests/contract/deepgram-v4.txt 2>/dev/null \
    && touch $V4/.installed; } \
    || { rm -rf $V4; echo "deepgram-sdk 4 could not be installed; its tests are skipped"; }
fi
