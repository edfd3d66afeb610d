#!/bin/sh
# Applies an overlay with every image pinned to its digest, and sees that its servers and its store work:
# k8s/deploy.sh OVERLAY
#
# The digests stand in k8s/images.json, which `make pin-images` writes. UNPINNED=1 lets images without one pass.
set -eu
cd "$(dirname "$0")/.."
name=$1
overlay=k8s/overlays/$name
fail() { echo "error: $*" >&2; exit 1; }
setting() { sed -n "s/^$1=//p" "$overlay/store.env"; }
agrees() {  # FILE LINE
    grep -qxF "$2" "$overlay/$1" || fail "$overlay/$1 and store.env do not agree: there is no line '$2'"
}
pinned() { untrigger images substitute $([ "${UNPINNED:-0}" = 0 ] || echo --allow-unpinned); }

# In a variable first: nothing is applied when anything before fails.
manifests=$(kubectl kustomize "$overlay")
case $manifests in
*example.com*) fail "put the store's own address into $overlay/store.env and providers.yaml" ;;
esac
endpoint=$(setting endpoint)
prefix=$(setting prefix)
agrees providers.yaml "    endpoint: ${endpoint#*://}"
agrees providers.yaml "    region: $(setting region)"
agrees providers.yaml "    disableSSL: $(case $endpoint in https:*) echo false ;; *) echo true ;; esac)"
agrees pipeline-root "s3://$(setting bucket)/${prefix:+$prefix/}pipelines"
# A server reads its settings when it starts: other settings, another pod.
settings=$(cat "$overlay/store.env" "$overlay"/secrets/*.env | sha256sum | cut -c1-16)
manifests=$(printf '%s\n' "$manifests" | sed "s/written-by-deploy/sha256-$settings/" | pinned)
checks=$(kubectl kustomize k8s/check | pinned)
kubectl get namespace kubeflow >/dev/null ||
    fail "there is no namespace kubeflow to be seen: install Kubeflow Pipelines first, or see that kubectl reaches the cluster; nothing was applied"

printf '%s\n' "$manifests" | kubectl apply -f -
left=$(kubectl -n untrigger get deployments,statefulsets,services,networkpolicies -l "untrigger.io/overlay!=$name" -o name)
[ -z "$left" ] || echo "note: left of an earlier overlay: $(echo $left); kubectl -n untrigger delete $(echo $left)" \
    "ends them, while volume claims and what is in them stay" >&2
left=$(kubectl -n kubeflow get networkpolicies -l "app.kubernetes.io/part-of=untrigger,untrigger.io/overlay!=$name" -o name)
[ -z "$left" ] || echo "note: left of an earlier overlay: kubectl -n kubeflow delete $(echo $left)" >&2

kubectl -n untrigger rollout status deployment/mlflow --timeout=6m || {
    kubectl -n untrigger logs deployment/mlflow --tail=20 >&2 || true
    fail "MLflow does not come up: kubectl -n untrigger describe pods -l app.kubernetes.io/name=mlflow"
}
printf '%s\n' "$checks" | kubectl delete --ignore-not-found -f -
printf '%s\n' "$checks" | kubectl apply -f -
for namespace in untrigger kubeflow; do
    while :; do
        case $(kubectl -n $namespace get job store-check -o 'jsonpath={.status.conditions[*].type}') in
        *Complete*) kubectl -n $namespace logs job/store-check; break ;;
        *Failed*)
            kubectl -n $namespace logs job/store-check >&2 || true
            fail "the store does not work in the namespace $namespace: kubectl -n $namespace describe pods -l job-name=store-check"
            ;;
        esac
        sleep 2
    done
done
