#!/usr/bin/env bash
# The servers that tests marked `services` run against: `scripts/services.sh install` (Debian, Ubuntu; root or sudo).
# Where nothing is missing it does nothing. Tests start servers of their own.
set -euo pipefail

packages=(prometheus chromium)
programs=(prometheus promtool chromium)

missing() {
  local program
  for program in "${programs[@]}"; do
    command -v "$program" >/dev/null || return 0
  done
  return 1
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

install() {
  missing || return 0
  command -v apt-get >/dev/null || { echo "no apt-get here: install ${packages[*]} by hand" >&2; return 1; }
  local log
  log=$(mktemp)
  if ! {
    as_root apt-get update -qq &&
      as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${packages[@]}"
  } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
  ! missing || { echo "installed, but not on PATH: ${programs[*]}" >&2; return 1; }
}

case "${1:-}" in
  install) install ;;
  *) echo "usage: scripts/services.sh install" >&2; exit 2 ;;
esac
