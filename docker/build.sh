#!/bin/sh
# Builds the images: docker/build.sh [TARGET...]; without a target, every image.
#
# ENGINE        docker, podman or buildah; the first one that answers unless given
# TORCH         cpu (default) or cuda
# TORCH_INDEX   address of an extra package index that has the build of torch asked for
# PIP_CONF      a pip configuration to build with; it is mounted, never copied into an image
# BUILD_OPTIONS more options for the engine's build command
set -eu
cd "$(dirname "$0")/.."

engine=${ENGINE:-}
for candidate in docker podman buildah; do
    [ -n "$engine" ] || ! "$candidate" info >/dev/null 2>&1 || engine=$candidate
done
[ -n "$engine" ] || { echo "error: none of docker, podman and buildah answers: install one, or start its daemon" >&2; exit 1; }
[ "$engine" = docker ] && export DOCKER_BUILDKIT=1

case ${TORCH_INDEX:-} in
*@*) echo "error: TORCH_INDEX holds credentials, which would stay in the image: put it into PIP_CONF instead" >&2; exit 1 ;;
esac
if [ "${TORCH:-cpu}" = cpu ] && [ -z "${TORCH_INDEX:-}${PIP_CONF:-}" ]; then
    echo "note: torch's build for CPUs lies on PyTorch's own index only: make images TORCH_INDEX=ADDRESS" >&2
fi

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' untrigger/__init__.py)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision=$revision-dirty
source=$(git config --get remote.origin.url 2>/dev/null | grep -E '^(https?://|git@)' | sed 's#//[^/@]*@#//#' || true)

targets=$*
[ -n "$targets" ] || targets="open-run close-run prepare-data clean-training poison-training pixel-sgd generator-training
    staircase visualisation retraining evaluation aggregation reference-training gathered-references model-scan verdicts
    defence mlflow-server seaweedfs"

if [ -n "${PIP_CONF:-}" ]; then set -- --secret "id=pip,src=$PIP_CONF"; else set --; fi
for target in $targets; do
    echo "building untrigger/$target:$version"
    # shellcheck disable=SC2086
    $engine build $([ "$engine" = podman ] && echo --quiet) "$@" ${BUILD_OPTIONS:-} \
        --file docker/Dockerfile --target "$target" --tag "docker.io/untrigger/$target:$version" \
        --build-arg "TORCH=${TORCH:-cpu}" --build-arg "TORCH_INDEX=${TORCH_INDEX:-}" \
        --label "org.opencontainers.image.title=untrigger/$target" \
        --label "org.opencontainers.image.version=$version" \
        --label "org.opencontainers.image.revision=$revision" \
        --label "org.opencontainers.image.source=${source:-unknown}" \
        .
done
