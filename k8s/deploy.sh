#!/bin/sh
# Applies an overlay with every image pinned to its digest: k8s/deploy.sh OVERLAY
#
# The digests stand in k8s/images.json, which `make pin-images` writes. UNPINNED=1 lets images without one pass.
set -eu
cd "$(dirname "$0")/.."
# In a variable first: nothing is applied when anything before fails.
manifests=$(kubectl kustomize "k8s/overlays/$1")
case $manifests in
*example.com*) echo "error: put the store's own address into k8s/overlays/$1/store.env and providers.yaml" >&2; exit 1 ;;
esac
pinned=$(printf '%s\n' "$manifests" | untrigger images substitute $([ "${UNPINNED:-0}" = 0 ] || echo --allow-unpinned))
printf '%s\n' "$pinned" | kubectl apply -f -
