#!/bin/sh
# Makes the base images that these projects start from, under the names that a registry has them by,
# out of the Debian packages of the mirror that this machine is configured with. No registry is asked.
#   examples/bases.sh [NAME…]      debian, busybox, python, node, gcc, systemd, golang, rust; all but the last two
set -eu
wherry=${WHERRY:-wherry}
make() { # NAME PACKAGES TAG…
    echo "== $1" >&2
    "$wherry" image bootstrap debian:bookworm-slim --include "$2" ${QUIET:+-q} >&2
    shift 2
    for tag; do "$wherry" tag debian:bookworm-slim "$tag"; done
}
for name in ${*:-python node gcc systemd busybox debian}; do
    case $name in
    python) make python python3,python3-numpy python:3.11-slim ;;
    node) make node nodejs node:18-slim ;;
    gcc) make gcc gcc,libc6-dev,make gcc:12 ;;
    golang) make golang golang-go golang:1.19 ;;
    rust) make rust rustc,gcc,libc6-dev rust:1-slim ;;
    systemd) make systemd systemd,systemd-sysv,dbus debian-systemd:bookworm ;;
    busybox) "$wherry" image bootstrap busybox >&2 ;;
    debian) "$wherry" image bootstrap debian:bookworm-slim >&2 ;;
    *) echo "bases.sh: no base is called $name" >&2; exit 1 ;;
    esac
done
