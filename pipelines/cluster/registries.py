"""Whether the registries have the images of a pipeline, where they can be asked from here."""

from __future__ import annotations

from collections.abc import Iterable

import requests

from untrigger.errors import UserError

MANIFESTS = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2",
        "docker.distribution.manifest.v2",
    )
)
"""What a registry may call an image; it finds none that it may not send."""

SECONDS = 5
"""After which a registry counts as one that cannot be asked from here."""


def check_images(references: Iterable[str]) -> None:
    """UserError when a registry says that it has not got one of the images.

    Images without a registry in their name lie on the nodes; a registry that wants credentials, or is not reached from
    here, may still answer the cluster. Neither is an error.
    """
    silent: set[str] = set()
    for reference in references:
        registry, _, path = reference.partition("/")
        if registry in silent or not ("." in registry or ":" in registry):
            continue
        status = _status(registry, path)
        if status is None:
            silent.add(registry)
        if status == requests.codes.not_found:
            raise UserError(
                f"the registry {registry} has no image {reference}, and every stage of it would wait for ever: "
                "`make push-images` brings it, `make pin-images` names what there is (--skip-settings-check where the "
                "cluster gets it elsewhere)"
            )


def _status(registry: str, path: str) -> int | None:
    """What a registry answers to the question for an image, with TLS or without; None when it does not answer."""
    repository, mark, version = path.rpartition("@")
    if not mark:
        repository, _, version = path.rpartition(":")
    for scheme in ("https", "http"):
        try:
            address = f"{scheme}://{registry}/v2/{repository}/manifests/{version}"
            return requests.head(address, headers={"Accept": MANIFESTS}, timeout=SECONDS).status_code
        except requests.RequestException:
            continue
    return None
