#!/usr/bin/env bash
# Installs the programs that tests use where that is possible (root on Debian or Ubuntu); says what is missing elsewhere.
set -u
packages=()
need() { command -v "$1" >/dev/null 2>&1 || packages+=("${@:2}"); }
need espeak-ng espeak-ng
need flite flite
need chromium chromium
[ ${#packages[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "setting up: ${packages[*]}"
  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
else
  echo "Not installed: ${packages[*]}; the tests that need them are skipped. On Debian: sudo apt-get install ${packages[*]}"
fi
