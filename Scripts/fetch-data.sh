#!/usr/bin/env bash
# Makes Fashion-MNIST and the movie reviews available where Apus looks for them.
#
# Fashion-MNIST comes as a package on Debian and its relatives, the reviews with vaderSentiment's source distribution on PyPI.
# Where neither apt-get nor pip is at hand this does nothing: Apus downloads what it needs from the usual mirrors when it is first
# needed. Never fails: Apus itself says what is missing.
set -u
cache="${APUS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/apus}"

fashion_mnist() {
  local package=dataset-fashion-mnist first=train-images-idx3-ubyte.gz folder work
  for folder in "${APUS_DATA:-/nonexistent}/fashion-mnist" /usr/share/datasets/fashion-mnist "$cache/fashion-mnist"; do
    [ -e "$folder/$first" ] && return
  done
  command -v apt-get >/dev/null 2>&1 || return
  root() { if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo "$@"; else return 1; fi; }
  if ! apt-cache show $package >/dev/null 2>&1; then root apt-get update -qq >/dev/null 2>&1; fi
  if root apt-get install -y -qq $package >/dev/null 2>&1; then return; fi
  # Without the right to install: unpack the package into the cache.
  work=$(mktemp -d)
  if (cd "$work" && apt-get download -qq $package >/dev/null 2>&1 && dpkg -x $package*.deb tree); then
    mkdir -p "$cache/fashion-mnist" && cp "$work"/tree/usr/share/datasets/fashion-mnist/*.gz "$cache/fashion-mnist/"
  fi
  rm -rf "$work"
}

reviews() {
  local file=movieReviewSnippets_GroundTruth.txt folder work
  for folder in "${APUS_DATA:-/nonexistent}/reviews" "$cache/reviews"; do [ -e "$folder/$file" ] && return; done
  python3 -m pip --version >/dev/null 2>&1 || return
  work=$(mktemp -d)
  if (
    cd "$work" &&
      python3 -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: vaderSentiment==3.3.2 >/dev/null 2>&1 &&
      tar xzf vaderSentiment-3.3.2.tar.gz && tar xzf vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz
  ) 2>/dev/null; then
    # Under its name only when complete.
    mkdir -p "$cache/reviews" && cp "$work/hutto_ICWSM_2014/$file" "$cache/reviews/$file.part" &&
      mv "$cache/reviews/$file.part" "$cache/reviews/$file"
  fi
  rm -rf "$work"
}

fashion_mnist
reviews
exit 0
