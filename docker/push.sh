#!/bin/sh
# Pushes the images that docker/build.sh built: docker/push.sh REGISTRY, where they become REGISTRY/untrigger/...
#
# ENGINE        docker or podman; the first one that answers unless given
# PUSH_OPTIONS  more options for the engine's push command, such as --tls-verify=false
set -eu
cd "$(dirname "$0")/.."
[ -n "${1:-}" ] || { echo "error: no registry: give one, as in make push-images REGISTRY=registry.example.com/team" >&2; exit 1; }

engine=${ENGINE:-}
for candidate in docker podman; do
    [ -n "$engine" ] || ! "$candidate" info >/dev/null 2>&1 || engine=$candidate
done
[ -n "$engine" ] || { echo "error: neither docker nor podman answers: install one, or start its daemon" >&2; exit 1; }

for image in $(cat pipelines/*.yaml k8s/base/*.yaml | sed -n 's/^ *image: \(untrigger\/.*\)/\1/p' | sort -u); do
    echo "pushing $1/$image"
    $engine tag "docker.io/$image" "$1/$image"
    # shellcheck disable=SC2086
    $engine push ${PUSH_OPTIONS:-} "$1/$image"
done
