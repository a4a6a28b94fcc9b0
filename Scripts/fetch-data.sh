#!/usr/bin/env bash
# Makes the Fashion-MNIST files available where Apus looks for them.
#
# On Debian and its relatives they come as a package; elsewhere this does nothing, and Apus downloads them
# from their usual mirrors when they are first needed. Never fails: Apus itself says what is missing.
set -u
package=dataset-fashion-mnist
cache="${APUS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/apus}/fashion-mnist"
first=train-images-idx3-ubyte.gz
for folder in "${APUS_DATA:-/nonexistent}/fashion-mnist" /usr/share/datasets/fashion-mnist "$cache"; do
  [ -e "$folder/$first" ] && exit 0
done
command -v apt-get >/dev/null 2>&1 || exit 0
root() { if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo "$@"; else return 1; fi; }
if ! apt-cache show $package >/dev/null 2>&1; then root apt-get update -qq >/dev/null 2>&1; fi
if root apt-get install -y -qq $package >/dev/null 2>&1; then exit 0; fi
# Without the right to install: unpack the package into the cache.
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
if (cd "$work" && apt-get download -qq $package >/dev/null 2>&1 && dpkg -x $package*.deb tree); then
  mkdir -p "$cache" && cp "$work"/tree/usr/share/datasets/fashion-mnist/*.gz "$cache/"
fi
exit 0
