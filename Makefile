PYTHON ?= python3
OVERLAY ?= minio
VENV := .venv
READY := $(VENV)/.ready
# Set to anything for a REGISTRY without TLS; deploy asks no registry, so one line may have all three targets.
PLAIN_HTTP ?=
IN_VENV := . $(VENV)/bin/activate &&
# As many tests at a time as there are cores, each with one thread: threads that wait for each other cost both.
PARALLEL := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test test-unit test-browser test-containers test-kubernetes test-chaos sbom images push-images pin-images deploy k8s-secrets compose-env lint clean

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(READY)  ## Run the whole job on built-in data: a few minutes on two CPU cores
	$(IN_VENV) untrigger run --profile demo --output runs/demo --overwrite

test: $(READY) lint  ## Run all tests but those with a browser or containers
	$(IN_VENV) $(PARALLEL) -m "not browser and not container and not kubernetes"

test-unit: $(READY)  ## Run the quick tests only
	$(IN_VENV) $(PARALLEL) -m "not browser and not container and not kubernetes and not pipeline and not server and not slow"

test-browser: $(READY)  ## Open the report in headless Chromium (needs chromium and chromedriver)
	$(IN_VENV) pytest -m browser

test-chaos: $(READY)  ## Kill runs and stop servers at random moments: twenty minutes (JSON=FILE takes what was found)
	$(IN_VENV) python -m tests.chaos $(if $(JSON),--json $(JSON))

sbom: $(READY)  ## Write what each image holds (CycloneDX) and its licences into sbom/; fails where one is not allowed
	$(IN_VENV) python docker/sbom.py sbom

images:  ## Build all images with docker, podman or buildah (TORCH=cuda for GPUs; see docker/build.sh)
	docker/build.sh

test-containers: $(READY)  ## Run the pipeline in its images (needs them, an engine, and the servers' images)
	$(IN_VENV) pytest -m container

test-kubernetes: $(READY)  ## Check the Kubernetes manifests (needs kubectl, skopeo, docker-registry, postgresql; no cluster)
	$(IN_VENV) pytest -m kubernetes

ifneq (,$(filter push-images pin-images,$(MAKECMDGOALS)))
ifeq (,$(REGISTRY))
$(error no registry: give one, as in make $(MAKECMDGOALS) REGISTRY=registry.example.com/team)
endif
endif

push-images:  ## Push all images to REGISTRY (REGISTRY/untrigger/...), with the engine that built them
	PLAIN_HTTP=$(PLAIN_HTTP) docker/push.sh $(REGISTRY)

pin-images: $(READY)  ## Write the digests that REGISTRY and others have for all images to k8s/images.json (needs skopeo)
	$(IN_VENV) untrigger images pin --registry "$(REGISTRY)" $(if $(PLAIN_HTTP),--plain-http) k8s

deploy: $(READY) k8s-secrets  ## Apply OVERLAY to the cluster, images by digest (UNPINNED=1 allows tags)
	$(IN_VENV) k8s/deploy.sh $(OVERLAY)

k8s-secrets:  ## Write the secrets of OVERLAY (minio, seaweedfs, external): the cluster's own, or new ones
	@k8s/make_secrets.py $(OVERLAY)

compose-env: docker/.env  ## Write new credentials for docker/compose.yaml, unless there are some

docker/.env:
	@umask 077 && $(PYTHON) -c 'import secrets; print("AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s" % (secrets.token_hex(10), secrets.token_hex(20)))' > $@

lint: $(READY)  ## Check style and types
	$(IN_VENV) ruff check . && ruff format --check . && mypy

clean:  ## Remove the virtual environment (runs/ stays)
	rm -rf $(VENV) build *.egg-info

# torch goes first and alone: with a torch installed, torchvision takes no other.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(IN_VENV) pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(IN_VENV) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev,browser]'
	touch $@
