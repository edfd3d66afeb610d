"""Whatever a file or the settings hold, reading them gives a result or a UserError, nothing else.

`pytest tests/fuzzing --hypothesis-profile=long` looks for hours; what it finds is to stand here as an `@example`.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from safetensors.torch import save

from tests.support.configs import tiny_config, tiny_sweep
from tests.support.damage import JSON_VALUES, altered, damaged
from tests.support.files import picture, write_shard
from tests.support.results import finished, swept
from untrigger.checkpoints.foreign import read_foreign
from untrigger.classifiers import Classifier, save_classifier
from untrigger.cli.settings import read_config
from untrigger.datasets.parquet import check_parquet, read_parquet
from untrigger.distributions import save_distribution
from untrigger.errors import UserError
from untrigger.flows import FlowGenerator
from untrigger.generators import TriggerGenerator, save_generator
from untrigger.judge import images_of_judge
from untrigger.networks.architectures import build_network
from untrigger.profiles import config_for
from untrigger.reports.comparison import write_comparison
from untrigger.reports.joining import join_sweeps
from untrigger.reports.tables import comparison_tables, final_tables
from untrigger.runs.finished import FinishedRun
from untrigger.runs.reading import read_results, read_runs
from untrigger.settings.methods import ClassifierSettings, DataSettings, FlowSettings, GeneratorSettings
from untrigger.settings.runs import CommonConfig, DefenseConfig, SweepConfig
from untrigger.staircase import gather_staircase, save_valid
from untrigger.triggers import read_trigger

FORMATS = ("json", "safetensors")
SMALL_NETWORK = ClassifierSettings(architecture="small_resnet", width=4)
CONFIGS = {DefenseConfig: tiny_config().record(), SweepConfig: tiny_sweep(triggers=("binary:3", "colour:0")).record()}


@contextmanager
def read_or_refused() -> Iterator[Path]:
    """A folder for the block, which does its work or ends with one sentence."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Path(folder)
        except UserError as error:
            assert str(error) and "Traceback" not in str(error)


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@cache
def made(write: Callable[[Path], object], name: str) -> bytes:
    """What `write` leaves in the file `name` of a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return (Path(folder) / name).read_bytes()


# Settings and files with settings.


@given(st.sampled_from(list(CONFIGS)).flatmap(lambda kind: st.tuples(st.just(kind), altered(CONFIGS[kind]))))
def test_settings(drawn: tuple[type[CommonConfig], Any]) -> None:
    kind, values = drawn
    with read_or_refused():
        config = kind.of(values if isinstance(values, dict) else {"seed": values})
        assert kind.of(config.record()) == config


def look_at_config(content: bytes) -> None:
    with read_or_refused() as folder:
        config_for("tiny", read_config(written(folder / "config.json", content)), DefenseConfig)


@given(
    damaged(json.dumps(CONFIGS[DefenseConfig]).encode())
    | altered({"config": CONFIGS[DefenseConfig]}).map(lambda value: json.dumps(value).encode())
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
)
def test_config_files(content: bytes) -> None:
    look_at_config(content)


# Results.


def write_results(folder: Path) -> None:
    finished(folder, {"ensemble": [0.10, 0.12], "ideal": [0.02, 0.04]})


def write_sweep(folder: Path) -> None:
    swept(folder, {"binary:3": 0.1, "colour:1": 0.2})


RESULTS: dict[str, Callable[[Path], object]] = {"results.json": write_results, "sweep.json": write_sweep}


def look_at_results(name: str, content: bytes) -> None:
    with read_or_refused() as folder:
        written(folder / "one" / name, content)
        written(folder / "other" / name, made(RESULTS[name], name))
        tables = final_tables(read_results(folder / "one"))
        runs = read_runs([str(folder / "one"), str(folder / "other")])
        console = Console(file=io.StringIO())
        for table in (*tables, *comparison_tables(runs)):
            console.print(table)
        write_comparison(folder / "page.html", runs)
        if name == "sweep.json":
            join_sweeps([folder / "one", folder / "other"], folder / "joined")


@pytest.mark.parametrize("name", RESULTS)
@given(data=st.data())
def test_results(name: str, data: st.DataObject) -> None:
    valid = made(RESULTS[name], name)
    look_at_results(
        name, data.draw(damaged(valid) | altered(json.loads(valid)).map(lambda value: json.dumps(value).encode()))
    )


# The distribution in a report.


def write_distribution(folder: Path) -> None:
    """The report of a run with a flow and a generator of the paper's, neither of them trained."""
    write_results(folder)
    classifier = Classifier(SMALL_NETWORK, 10, torch.zeros(3), torch.ones(3))
    save_classifier(classifier, folder / "suspect")
    flow = FlowGenerator(FlowSettings(layers=2, bins=2, hidden=4), (3, 3))
    mine = TriggerGenerator(GeneratorSettings(hidden=8, noise_dimension=4), (3, 3))
    save_generator(flow, 0.5, folder / "flow")
    save_generator(mine, 0.9, folder / "mine")
    save_valid(flow.sample(4, torch.Generator()), folder / "flow")
    gather_staircase([folder / "flow", folder / "mine"], None, folder / "staircase")
    images, positions = images_of_judge(0, torch.zeros(2, 3, 8, 8, dtype=torch.uint8), (3, 3))
    save_distribution(
        folder, suspect=folder / "suspect", staircase=folder / "staircase", images=images, positions=positions
    )


KEPT = (
    "results.json",
    "distribution/judged.safetensors",
    "distribution/suspect/classifier.json",
    "distribution/suspect/classifier.safetensors",
    "distribution/staircase/staircase.json",
    *(f"distribution/staircase/stair-{stair}/generator.{ending}" for stair in (0, 1) for ending in FORMATS),
)


def look_at_distribution(name: str, content: bytes) -> None:
    with read_or_refused() as folder:
        for other in KEPT:
            written(folder / other, content if other == name else made(write_distribution, other))
        run = FinishedRun.of(folder)
        triggers = run.staircase.sample(3, torch.Generator())
        assert bool(((run.judge.strengths(triggers) >= 0) & (run.judge.strengths(triggers) <= 1)).all())


@pytest.mark.parametrize("name", KEPT)
@given(data=st.data())
def test_distributions(name: str, data: st.DataObject) -> None:
    valid = made(write_distribution, name)
    other = altered(json.loads(valid)).map(lambda value: json.dumps(value).encode()) if name.endswith("json") else None
    look_at_distribution(name, data.draw(damaged(valid) | other if other is not None else damaged(valid)))


TENSORS = st.builds(
    lambda shape, dtype: torch.zeros(shape, dtype=dtype),
    st.sampled_from([(), (0, 2), (2, 2), (2, 3, 8, 8), (2, 3, 2, 8)]),
    st.sampled_from([torch.uint8, torch.int64, torch.float32]),
)


@given(st.dictionaries(st.sampled_from(["images", "positions", "others"]), TENSORS))
def test_judges_of_any_tensors(tensors: dict[str, torch.Tensor]) -> None:
    look_at_distribution("distribution/judged.safetensors", save(tensors))


# Shards.


def write_usual_shard(folder: Path) -> None:
    write_shard(folder / "a.parquet", [picture(40 * label) for label in range(6)], [0, 1, 2] * 2, class_names=[*"abc"])


def look_at_shard(content: bytes) -> None:
    with read_or_refused() as folder:
        shard = written(folder / "train-00000-of-00001.parquet", content)
        check_parquet(shard.parent, DataSettings())
        read_parquet(shard.parent, DataSettings(image_size=8), None)


@given(st.data())
def test_damaged_shards(data: st.DataObject) -> None:
    look_at_shard(data.draw(damaged(made(write_usual_shard, "a.parquet"))))


COLUMNS: list[st.SearchStrategy[Any]] = [
    st.none() | st.sampled_from([picture(9), b"", b"no picture"]),
    st.none() | st.fixed_dictionaries({"bytes": st.none() | st.just(picture(9))}),
    st.none() | st.integers(-2, 2**62),
    st.none() | st.floats(),
    st.none() | st.booleans(),
    st.none() | st.text(max_size=3),
    st.lists(st.integers(0, 3), max_size=2),
    st.dates(),
    st.decimals(0, 3, places=1),
]


@st.composite
def shards(draw: st.DrawFn) -> bytes:
    """A shard with columns of any kinds, and with any notes of Hugging Face's."""
    rows = draw(st.integers(0, 4))
    names = draw(st.lists(st.sampled_from(["image", "label", "img", "é"]), min_size=1, unique=True))
    kinds = [draw(st.sampled_from(COLUMNS)) for _ in names]
    columns = [draw(st.lists(kind, min_size=rows, max_size=rows)) for kind in kinds]
    table = pa.table(dict(zip(names, columns, strict=True)))
    notes = draw(JSON_VALUES | altered({"info": {"features": {"label": {"names": [*"abc"], "_type": "ClassLabel"}}}}))
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(notes)}), sink)
    return sink.getvalue()


@given(shards())
def test_shards_of_any_columns(content: bytes) -> None:
    look_at_shard(content)


# Triggers.


def encoded(mode: str, size: tuple[int, int], **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).convert(mode).save(stream, "PNG", **options)
    return stream.getvalue()


PNGS = [encoded(mode, (3, 3)) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "I;16")] + [
    encoded("P", (4, 2), transparency=0),
    encoded("RGB", (1, 1), transparency=(0, 0, 0)),
]


def look_at_trigger(content: bytes, name: str = "trigger.png") -> None:
    with read_or_refused() as folder:
        trigger = read_trigger(str(written(folder / name, content)))
        assert trigger.ndim == 3 and len(trigger) == 3 and bool(((trigger >= 0) & (trigger <= 1)).all())


@given(st.sampled_from(PNGS).flatmap(damaged))
def test_damaged_pictures_as_triggers(content: bytes) -> None:
    look_at_trigger(content)


@given(damaged(save({"trigger": torch.rand(3, 2, 2)})))
def test_damaged_tensors_as_triggers(content: bytes) -> None:
    look_at_trigger(content, "trigger.safetensors")


# Model files.


def a_state() -> dict[str, Any]:
    return build_network(SMALL_NETWORK, 3).state_dict()


MODELS: dict[str, Callable[[Path], object]] = {
    "model.safetensors": lambda folder: (folder / "model.safetensors").write_bytes(save(a_state())),
    "model.pth": lambda folder: torch.save({"state_dict": a_state(), "epoch": 3}, folder / "model.pth"),
    "model.pt": lambda folder: torch.save(a_state(), folder / "model.pt", _use_new_zipfile_serialization=False),
}


def look_at_model(content: bytes, name: str) -> None:
    with read_or_refused() as folder:
        read_foreign(written(folder / name, content), SMALL_NETWORK, 3).classifier(
            SMALL_NETWORK, torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        )


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_damaged_model_files(name: str, data: st.DataObject) -> None:
    look_at_model(data.draw(damaged(made(MODELS[name], name))), name)
