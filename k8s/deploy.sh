#!/bin/sh
# Applies an overlay with every image pinned to its digest: k8s/deploy.sh OVERLAY
#
# The digests stand in k8s/images.json, which `make pin-images` writes. UNPINNED=1 lets images without one pass.
set -eu
cd "$(dirname "$0")/.."
overlay=k8s/overlays/$1
setting() { sed -n "s/^$1=//p" "$overlay/store.env"; }
agrees() {  # FILE LINE
    grep -qxF "$2" "$overlay/$1" || { echo "error: $overlay/$1 and store.env do not agree: there is no line '$2'" >&2; exit 1; }
}
# In a variable first: nothing is applied when anything before fails.
manifests=$(kubectl kustomize "$overlay")
case $manifests in
*example.com*) echo "error: put the store's own address into $overlay/store.env and providers.yaml" >&2; exit 1 ;;
esac
endpoint=$(setting endpoint)
agrees providers.yaml "    endpoint: ${endpoint#*://}"
agrees providers.yaml "    region: $(setting region)"
agrees providers.yaml "    disableSSL: $(case $endpoint in https:*) echo false ;; *) echo true ;; esac)"
agrees pipeline-root "s3://$(setting bucket)/pipelines"
pinned=$(printf '%s\n' "$manifests" | untrigger images substitute $([ "${UNPINNED:-0}" = 0 ] || echo --allow-unpinned))
printf '%s\n' "$pinned" | kubectl apply -f -
