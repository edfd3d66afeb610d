"""A finished run with flows: what its stages hand on, the truth about its stairs, and triggers to be taken along."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from tests.support.configs import SMALL, tiny_config
from tests.support.results import finished, swept
from tests.support.stages import run_stages
from untrigger.artifacts import read_json, read_tensors
from untrigger.cli import main
from untrigger.errors import UserError
from untrigger.flows import FlowGenerator
from untrigger.reports.results import Results, RunTruth
from untrigger.reports.tables import truth_table
from untrigger.runs.finished import FinishedRun
from untrigger.runs.output_folder import OutputFolder
from untrigger.runs.samples import write_samples
from untrigger.runs.truths import add_truth
from untrigger.settings.methods import TruthSettings
from untrigger.staircase import load_staircase

BETA = 0.1
"""Low enough that a classifier which hardly learnt anything has such triggers."""

FLOW = {"steps": 12, "layers": 2, "hidden": 8, "samples": 32, "triggers": 8, "images_per_trigger": 4}

pytestmark = pytest.mark.slow

CONFIG = tiny_config(**{**SMALL, "betas": (BETA,)}, generator={"family": "flow", "fresh_samples": 12}, flow=FLOW)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The output folder of a run whose generators are flows."""
    path = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("UNTRIGGER_STAGES", str(path / "stages"))
        run_stages(tmp_path_factory.mktemp("artifacts"), CONFIG)
    OutputFolder(path).take_report("defense")
    return FinishedRun.of(path)


@pytest.fixture(scope="module")
def known(run: FinishedRun) -> RunTruth:
    return add_truth(run, TruthSettings(walkers=16, repeats=3), lambda line: None, samples=40)


def kept(run: FinishedRun, stage: str, output: str) -> Path:
    (folder,) = run.folder.stages.glob(f"{stage}-*")
    return folder / output


def test_the_curve_of_a_flow_has_a_point_per_ten_steps_and_one_at_the_end(run: FinishedRun) -> None:
    curve = read_json(kept(run, "staircase", "trigger_staircase") / "stair-0" / "curves.json")["generator"]
    assert [point["step"] for point in curve] == [10, 12]
    assert curve[0].keys() == {"step", "F", "valid_share", "entropy", "tau", "margin"}


def test_the_defence_gets_the_triggers_of_a_flow_that_passed(run: FinishedRun) -> None:
    folder = kept(run, "staircase", "trigger_staircase")
    (flow,), (handed,) = (load_staircase(folder, valid=valid).generators for valid in (False, True))
    assert isinstance(flow, FlowGenerator)
    triggers = handed.sample(30, torch.Generator().manual_seed(0))
    assert triggers.shape == (30, 3, 3, 3)
    assert bool((run.judge.strengths(triggers) >= BETA).all())
    passed = read_json(folder / "stair-0" / "measurement.json")["judged_valid_share"]
    assert len(triggers.unique(dim=0)) <= round(12 * passed)


def test_the_stairs_of_a_flow_have_an_exact_entropy_and_no_mutual_information(run: FinishedRun) -> None:
    (stair,) = Results.load(run.folder.path).stairs
    assert stair.judged_entropy is not None and stair.judged_entropy_estimator == "density"
    assert stair.judged_valid_share is not None and stair.judged_valid_share > 0
    assert stair.parts is not None and stair.parts >= 1
    assert "fresh_mutual_information" not in json.loads((run.folder.path / "results.json").read_text())["stairs"][0]


def test_the_truth_stands_in_the_report_beside_the_stairs(run: FinishedRun, known: RunTruth) -> None:
    (stair,) = known.stairs
    assert RunTruth.load(run.folder.path) == known
    assert stair.gap is not None and stair.forward_gap is not None and stair.coverage is not None
    assert stair.log_volume <= 0 and len(stair.log_volumes) == 3
    samples = read_tensors(run.folder.path / "truth.safetensors")[f"beta={BETA}"]
    assert samples.shape == (3 * 16 * 2, 3, 3, 3)
    assert bool((run.judge.strengths(samples) >= BETA - 1e-6).all())
    page = (run.folder.path / "report.html").read_text()
    assert "log-volume" in page and f"{stair.log_volume:.2f}" in page and "mutual information (nats)" not in page
    assert page.count("data:image/png;base64,") == 6
    assert truth_table(known).row_count == 1


def test_a_search_for_the_truth_is_not_done_twice(run: FinishedRun, known: RunTruth) -> None:
    lines: list[str] = []
    again = add_truth(run, TruthSettings(walkers=16, repeats=3), lines.append, samples=40)
    assert again == known
    assert not [line for line in lines if line.startswith("truth")]


def test_the_report_is_all_that_is_asked_wherever_it_comes_from(
    run: FinishedRun, known: RunTruth, tmp_path: Path
) -> None:
    report = tmp_path / "fetched"
    shutil.copytree(kept(run, "evaluation", "report"), report)
    fetched = FinishedRun.of(report)
    assert add_truth(fetched, TruthSettings(walkers=16, repeats=3), lambda line: None, samples=40) == known
    assert (report / "report.html").read_bytes() == (run.folder.path / "report.html").read_bytes()
    for found, output in ((run, "here"), (fetched, "there")):
        write_samples(found, BETA, 5, 0, tmp_path / output)
    here, there = (read_tensors(tmp_path / output / "triggers.safetensors") for output in ("here", "there"))
    assert all(torch.equal(there[name], tensor) for name, tensor in here.items())


def test_the_search_for_the_truth_of_a_sweeps_trigger_outlives_the_report(
    run: FinishedRun, known: RunTruth, tmp_path: Path
) -> None:
    swept(tmp_path, {"checkerboard": 0.1})
    for _ in range(2):
        shutil.rmtree(tmp_path / "triggers", ignore_errors=True)
        shutil.copytree(kept(run, "evaluation", "report"), tmp_path / "triggers" / "checkerboard")
        lines: list[str] = []
        one = FinishedRun.of(tmp_path / "triggers" / "checkerboard")
        assert add_truth(one, TruthSettings(walkers=16, repeats=3), lines.append, samples=40) == known
    assert not [line for line in lines if line.startswith("truth")]


def test_samples_to_take_along_are_valid_and_have_their_density(run: FinishedRun, tmp_path: Path) -> None:
    told = write_samples(run, BETA, 20, 0, tmp_path / "first")
    tensors = read_tensors(tmp_path / "first" / "triggers.safetensors")
    assert tensors["triggers"].shape == (20, 3, 3, 3) and bool((tensors["F"] >= BETA).all())
    (flow,) = run.staircase.generators
    assert isinstance(flow, FlowGenerator)
    assert torch.allclose(flow.log_density(tensors["triggers"]), tensors["log_density"], atol=1e-2)
    assert read_json(tmp_path / "first" / "samples.json")["valid_share"] == told.share > 0
    assert (tmp_path / "first" / "triggers.png").stat().st_size > 1000
    write_samples(run, BETA, 20, 1, tmp_path / "other")
    other = read_tensors(tmp_path / "other" / "triggers.safetensors")["triggers"]
    assert not torch.equal(other, tensors["triggers"])


def test_the_command_says_the_share_that_passed(run: FinishedRun, tmp_path: Path) -> None:
    told = run_command("sample", run.folder.path, "--beta", BETA, "--count", 4, "--output", tmp_path / "out")
    assert told.exit_code == 0, told.output
    assert f"4 triggers with F >= {BETA}; " in told.output and "% of all samples are" in told.output


def test_what_cannot_be_sampled_is_said_in_one_sentence(run: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"the staircase has no stair 0.7, only {BETA}"):
        write_samples(run, 0.7, 4, 0, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="holds something already"):
        write_samples(run, BETA, 4, 0, tmp_path)


def test_only_a_finished_run_of_one_trigger_can_be_asked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        FinishedRun.of(tmp_path)
    swept(tmp_path / "sweep", {"binary:1": 0.1})
    with pytest.raises(UserError, match=r"no run of one trigger but sweep.json: of a sweep, give triggers/NAME"):
        FinishedRun.of(tmp_path / "sweep")
    finished(tmp_path / "early", {"ensemble": [0.1]})
    with pytest.raises(UserError, match="does not hold the distribution of its triggers"):
        FinishedRun.of(tmp_path / "early")


def run_command(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])
