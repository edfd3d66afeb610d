"""What all tests of the manifests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_cluster_of_the_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads the secrets of a cluster, or of a store, that this machine happens to know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(tmp_path_factory.mktemp("no-cluster") / "config"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name, raising=False)
        yield
