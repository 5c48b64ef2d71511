# Finds and installs the Debian packages that deploy/packages lists. Sourced by deploy/quickstart and tests/run.
# shellcheck shell=bash

# Services that come with packages of ours and that nobody asked for: never started, never enabled by us.
unasked_services=(caddy haproxy nginx prometheus redis-server webdis)

# packages_for LIST PURPOSE...: the packages of these purposes, one a line, without those whose command is there already.
packages_for() {
  local list=$1 package purpose command wanted
  shift
  while read -r package purpose command; do
    [[ $package == '' || $package == '#'* ]] && continue
    if [[ $command ]] && command -v "$command" >/dev/null; then continue; fi
    for wanted in "$@"; do
      if [[ $purpose == "$wanted" ]]; then echo "$package"; fi
    done
  done <"$list"
}

# missing_packages PACKAGE...: those of them that are not installed, one a line.
missing_packages() {
  local package state installed=' '
  while read -r package state; do
    if [[ $state == installed ]]; then installed+="$package "; fi
  done < <(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
  for package in "$@"; do
    if [[ $installed != *" $package "* ]]; then echo "$package"; fi
  done
}

# install_packages PACKAGE...: apt-get, as root or with sudo, without what is only recommended. A service that comes with a package
# is neither started nor enabled; one that was there before is left as it is.
install_packages() {
  local -a as_root=() quiet=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "${0##*/}: not root and no sudo; as root run: apt-get install --no-install-recommends $*" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  local service
  for service in "${unasked_services[@]}"; do
    if [[ -n $(missing_packages "$service") ]]; then quiet+=("$service"); fi
  done
  local guard=/usr/sbin/policy-rc.d placed=0
  if [[ ! -e $guard ]]; then
    # Nothing new is started; a service that runs may still be restarted when it is upgraded.
    # shellcheck disable=SC2016 # "$*" is for the script that is written
    printf '#!/bin/sh\n# Placed by %s while it installs packages; removed right after.\ncase "$*" in *restart*) exit 104 ;; *start*) exit 101 ;; *) exit 104 ;; esac\n' \
      "${0##*/}" | "${as_root[@]}" tee "$guard" >/dev/null
    "${as_root[@]}" chmod 755 "$guard"
    placed=1
  fi
  # What was placed goes again however apt ends; Ctrl-C reaches apt too, and its end is ours.
  local rc=0
  trap : INT TERM
  # shellcheck disable=SC2016 # the inner shell expands it
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c '
    options="-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 -qq"
    apt-get $options update || echo "apt-get update failed: going on with the package lists that are there" >&2
    exec apt-get $options install -y --no-install-recommends "$@"' sh "$@" </dev/null || rc=$?
  trap - INT TERM
  if ((placed)); then "${as_root[@]}" rm -f "$guard"; fi
  for service in "${quiet[@]}"; do
    if [[ -z $(missing_packages "$service") ]]; then
      "${as_root[@]}" update-rc.d "$service" disable >/dev/null 2>&1 || true
      if command -v systemctl >/dev/null; then "${as_root[@]}" systemctl disable --quiet "$service" 2>/dev/null || true; fi
    fi
  done
  return "$rc"
}

# require_packages MAY_INSTALL LIST PURPOSE...: nothing where all are there; else installs them, or (MAY_INSTALL is 0) says what is
# missing and fails.
require_packages() {
  local may_install=$1
  shift
  local -a wanted missing
  mapfile -t wanted < <(packages_for "$@")
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  ((${#missing[@]})) || return 0
  if ((!may_install)); then
    echo "${0##*/}: these packages are missing: ${missing[*]}" >&2
    echo "  leave out --no-install, or as root run: apt-get install --no-install-recommends ${missing[*]}" >&2
    return 1
  fi
  echo "installing ${#missing[@]} packages: ${missing[*]}"
  install_packages "${missing[@]}"
}
