"""The loops as the paper's authors wrote them, rebuilt from a description: what the speed of ours is compared with.

fp32, contiguous NCHW, single images through a torchvision transform and a DataLoader with workers, gradients into the
classifier's weights, one place per batch, never in the last row or column, the statistics network stepped with the
generator in its graph, the loss read in every step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from untrigger.classifiers import Classifier
from untrigger.generators import TriggerGenerator
from untrigger.mutual_information import ADAM_BETAS, StatisticsNetwork, donsker_varadhan
from untrigger.networks.initialisation import initialise
from untrigger.networks.torchvision_import import transforms
from untrigger.settings.methods import GeneratorSettings

TARGET, BETA, ALPHA, NOISE = 0, 0.8, 0.1, 0.1

Step = Callable[[], int]
"""Does one step and returns the number of its images."""


class PicturedImages(Dataset[tuple[Tensor, int]]):
    """Each image becomes a picture, a tensor, and is normalised, as torchvision's datasets do it."""

    def __init__(self, images: Tensor, labels: Tensor, mean: Tensor, std: Tensor) -> None:
        self.images, self.labels = images.permute(0, 2, 3, 1).numpy(), labels.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean.tolist(), std.tolist())])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class ReferenceLoops:
    """One step function per stage, all on the same classifier and data."""

    def __init__(self, classifier: Classifier, images: Tensor, labels: Tensor, batch: int, workers: int) -> None:
        self.device = classifier.mean.device
        self.network = classifier.network.to(memory_format=torch.contiguous_format).requires_grad_()  # type: ignore[call-overload]
        self.mean, self.std = classifier.mean[:, None, None], classifier.std[:, None, None]
        self.rng = torch.Generator().manual_seed(0)
        data = PicturedImages(images.cpu(), labels.cpu(), classifier.mean.cpu(), classifier.std.cpu())
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        # One epoch that never ends, so that no measurement pays for the start of the workers.
        sampler = RandomSampler(data, replacement=True, num_samples=1 << 40, generator=self.rng)
        self.batches = iter(DataLoader(data, batch, sampler=sampler, num_workers=workers))
        self.trigger = self._uniform(3, 3, 3)

    def step_of(self, stage: str) -> Step:
        """The step of `stage`: clean training, poison training, retraining, generator, pixel SGD or evaluation."""
        if stage == "evaluation":
            return self._evaluation()
        if stage == "pixel SGD":
            return self._pixel_sgd()
        if stage == "generator":
            return self._generator()
        return self._training(stamped=0.0 if stage == "clean training" else 0.01, relabel=stage == "poison training")

    def _next(self) -> tuple[Tensor, Tensor]:
        images, labels = next(self.batches)
        return images.to(self.device), labels.to(self.device)

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.rng).to(self.device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.rng).to(self.device)

    def _stamp(self, images: Tensor, triggers: Tensor) -> Tensor:
        top, left = (int(torch.randint(side - 3, (), generator=self.rng)) for side in images.shape[2:])
        images = images.clone()
        images[:, :, top : top + 3, left : left + 3] = (triggers - self.mean) / self.std
        return images

    def _training(self, stamped: float, relabel: bool) -> Step:
        self.network.train()
        optimiser = torch.optim.SGD(self.network.parameters(), lr=1e-3, momentum=0.9)
        cross_entropy = nn.CrossEntropyLoss()

        def step() -> int:
            images, labels = self._next()
            chosen = self._uniform(len(images)) < stamped
            images = torch.where(chosen[:, None, None, None], self._stamp(images, self.trigger), images)
            if relabel:
                labels = torch.where(chosen, TARGET, labels)
            optimiser.zero_grad()
            loss = cross_entropy(self.network(images), labels)
            loss.backward()
            optimiser.step()
            loss.item()
            return len(images)

        return step

    def _generator(self) -> Step:
        self.network.eval()
        settings = GeneratorSettings()
        generator = TriggerGenerator(settings, (3, 3)).train()
        initialise(generator, self.rng)
        generator.to(self.device)
        statistics = StatisticsNetwork(64, 27, settings.hidden, self.rng).to(self.device)
        of_generator = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=ADAM_BETAS)
        of_statistics = torch.optim.Adam(statistics.parameters(), lr=2e-4, betas=ADAM_BETAS)

        def step() -> int:
            images, _ = self._next()
            z = self._uniform(len(images), 64)
            triggers = generator(z)
            stamped = self._stamp(images, triggers + NOISE * self._normal(*triggers.shape))
            probabilities = self.network(stamped).softmax(1)[:, TARGET]
            information = donsker_varadhan(*statistics(z, triggers.flatten(1)))
            loss = (BETA - probabilities).clamp_min(0).mean() - ALPHA * information
            of_generator.zero_grad()
            loss.backward()
            of_generator.step()

            bound = -donsker_varadhan(*statistics(z, generator(z).flatten(1)))
            of_statistics.zero_grad()
            bound.backward()
            of_statistics.step()
            loss.item()
            return len(images)

        return step

    def _pixel_sgd(self) -> Step:
        self.network.eval()
        trigger = self.trigger.clone().requires_grad_()
        optimiser = torch.optim.SGD([trigger], lr=0.1, momentum=0.9)
        cross_entropy = nn.CrossEntropyLoss()

        def step() -> int:
            images, labels = self._next()
            loss = cross_entropy(self.network(self._stamp(images, trigger)), torch.full_like(labels, TARGET))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                trigger.clamp_(0, 1)
            loss.item()
            return len(images)

        return step

    def _evaluation(self) -> Step:
        self.network.eval()

        @torch.no_grad()
        def step() -> int:
            images, _ = self._next()
            answers = self.network(self._stamp(images, self.trigger)).argmax(1)
            (answers == TARGET).sum().item()
            return len(images)

        return step
