#!/bin/sh
# Pushes the images that docker/build.sh built: docker/push.sh REGISTRY, where they become REGISTRY/untrigger/...
#
# ENGINE        docker, podman or buildah, as given to docker/build.sh; the first one that answers unless given
# PLAIN_HTTP    set to anything for a registry without TLS; docker wants it among its daemon's `insecure-registries`, too
# PUSH_OPTIONS  more options for the engine's push command
set -eu
cd "$(dirname "$0")/.."
[ -n "${1:-}" ] || { echo "error: no registry: give one, as in make push-images REGISTRY=registry.example.com/team" >&2; exit 1; }

engine=${ENGINE:-}
for candidate in docker podman buildah; do
    [ -n "$engine" ] || ! "$candidate" info >/dev/null 2>&1 || engine=$candidate
done
[ -n "$engine" ] || { echo "error: none of docker, podman and buildah answers: install one, or start its daemon" >&2; exit 1; }

images=$(cat pipelines/*.yaml k8s/base/*.yaml | sed -n 's/^ *image: \(untrigger\/.*\)/\1/p' | sort -u)
[ -n "$images" ] || { echo "error: no image is named in pipelines/ and k8s/base/" >&2; exit 1; }
# docker's push has no such option: its daemon knows.
options=${PUSH_OPTIONS:-}$([ -z "${PLAIN_HTTP:-}" ] || [ "$engine" = docker ] || echo " --tls-verify=false")
for image in $images; do
    echo "pushing $1/$image"
    $engine tag "docker.io/$image" "$1/$image"
    # shellcheck disable=SC2086
    $engine push $options "$1/$image"
done
