"""Every component, called as KFP calls it: through its function, with artifacts that have paths."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from tests.support.configs import tiny_config, tiny_sweep
from tests.support.stages import ARGUMENTS, artifact, final_status
from tests.support.stages import work as work  # the fixture that runs all stages
from untrigger.cli import main
from untrigger.components.aggregation.component import aggregation
from untrigger.components.clean_training.component import clean_training
from untrigger.components.close_run.component import close_run
from untrigger.components.evaluation.component import evaluation
from untrigger.components.ideal_retraining.component import ideal_retraining
from untrigger.components.open_run.component import open_run
from untrigger.components.poison_training.component import poison_training
from untrigger.components.prepare_data.component import prepare_data
from untrigger.components.retraining.component import retraining
from untrigger.components.visualisation.component import visualisation
from untrigger.datasets.images import load_images, save_images
from untrigger.pipelines.arguments import pipeline_arguments
from untrigger.stages.retraining_runs import folders_of

pytestmark = pytest.mark.slow


def content(artifact: Any, name: str) -> Any:
    return json.loads((Path(artifact.path) / name).read_text())


def test_prepare_data_writes_the_three_parts(work: dict[str, Any]) -> None:
    counts = [content(work[f"{part}_data"], "images.json")["count"] for part in ("training", "defender", "evaluation")]
    assert counts == [1258, 269, 270]


def clean_training_with(data: Any, output: Any, weights: Path) -> None:
    task = {**ARGUMENTS["clean_training_task"], "weights": str(weights)}
    clean_training.python_func(training_data=data, clean_classifier=output, task=task)


def poison_task(**changes: Any) -> dict[str, Any]:
    task = ARGUMENTS["poison_training_task"]
    return {**task, "poisoning": {**task["poisoning"], **changes}}


def test_a_ready_made_classifier_with_its_backdoor_is_taken_as_it_is(work: dict[str, Any], tmp_path: Path) -> None:
    clean, backdoored = artifact(tmp_path, "clean"), artifact(tmp_path, "backdoored")
    clean_training_with(work["training_data"], clean, Path(work["backdoored"].path))
    poison_training.python_func(
        training_data=work["training_data"],
        evaluation_data=work["evaluation_data"],
        clean_classifier=clean,
        backdoored_classifier=backdoored,
        true_trigger=artifact(tmp_path, "true_trigger"),
        trigger=ARGUMENTS["trigger"],
        task=poison_task(epochs=0),
    )
    weights = [load_file(Path(made.path) / "classifier.safetensors") for made in (work["backdoored"], backdoored)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert content(backdoored, "curves.json")["clean"] == content(backdoored, "curves.json")["poisoned"] == []


def test_a_ready_made_classifier_for_other_classes_is_refused(
    work: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = load_images(Path(work["training_data"].path))
    save_images(replace(images, class_names=(*images.class_names, "another")), tmp_path / "data")
    with pytest.raises(SystemExit):
        clean_training_with(artifact(tmp_path, "data"), artifact(tmp_path, "clean"), Path(work["clean"].path))
    assert "has 10 classes, the dataset has 11" in capsys.readouterr().out


def test_poison_training_writes_the_classifier_its_curves_and_the_trigger(work: dict[str, Any]) -> None:
    curves = content(work["backdoored"], "curves.json")
    assert len(curves["clean"]) == 1 and len(curves["poisoned"]) == 2
    assert {"loss", "clean_accuracy", "attack_success_rate"} <= curves["poisoned"][0].keys()
    assert load_file(Path(work["true_trigger"].path) / "triggers.safetensors")["triggers"].shape == (1, 3, 3, 3)


def test_a_trigger_that_is_hardly_planted_is_said_to_be(
    work: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poison_training.python_func(
        training_data=work["training_data"],
        evaluation_data=work["evaluation_data"],
        clean_classifier=work["clean"],
        backdoored_classifier=artifact(tmp_path, "backdoored"),
        true_trigger=artifact(tmp_path, "true_trigger"),
        trigger=ARGUMENTS["trigger"],
        task=poison_task(epochs=1, poisoned_share=0.0),
    )
    told = capsys.readouterr().out
    assert "warning checkerboard is hardly planted, it succeeds in" in told and "--poisoning.poisoned-share" in told


def test_pixel_sgd_writes_one_trigger_per_restart_and_its_strength(work: dict[str, Any]) -> None:
    measured = content(work["reversed"], "measurement.json")
    assert len(measured["F"]) == len(measured["attack_success_rate"]) == len(measured["losses"]) == 2
    assert load_file(Path(work["reversed"].path) / "triggers.safetensors")["triggers"].shape == (2, 3, 3, 3)


def test_generator_training_measures_its_stair(work: dict[str, Any]) -> None:
    measured = content(work["generators-0.9,0.5"], "beta-0.9/measurement.json")
    assert len(measured["F"]) == 10
    assert measured["fresh_F"] == pytest.approx(sum(measured["F"]) / 10)
    assert {"F", "entropy", "valid_share"} <= content(work["generators-0.9,0.5"], "beta-0.9/curves.json")["generator"][
        0
    ].keys()


def test_the_staircase_orders_its_stairs_by_beta(work: dict[str, Any]) -> None:
    assert content(work["staircase"], "staircase.json")["betas"] == [0.5, 0.9]
    assert content(work["staircase"], "stair-1/measurement.json") == content(
        work["generators-0.9,0.5"], "beta-0.9/measurement.json"
    )


def test_visualisation_lays_out_every_group(work: dict[str, Any]) -> None:
    tensors = load_file(Path(work["embedding"].path) / "embedding.safetensors")
    assert tensors["group"].unique().tolist() == [-2, -1, 0, 1]
    assert tensors["places"].shape == (10 + 10 + 2 + 1, 2)
    assert (Path(work["embedding"].path) / "tsne.png").stat().st_size > 1000


def test_retraining_keeps_the_classifier_with_none_and_changes_it_with_every_other_method(
    work: dict[str, Any],
) -> None:
    def weights(name: str, folder: str) -> Any:
        return load_file(Path(work[name].path) / folder / "classifier.safetensors")["network.fc.weight"].tolist()

    original = weights("backdoored", ".")
    assert weights("retrained-none", "seed-0") == original
    variants = [
        weights(name, f"seed-{seed}")
        for name in (
            "retrained-fine_tune",
            "retrained-single_trigger",
            "retrained-ensemble",
            "retrained-beta=0.5",
            "ideal",
        )
        for seed in (0, 1)
    ]
    assert all(variants[i] != variants[j] for i in range(len(variants)) for j in range(i))
    assert original not in variants


@pytest.fixture(scope="module")
def controls(work: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both controls, and the report on them and on one defence."""
    folder = tmp_path_factory.mktemp("controls")
    methods = ("single_trigger_elsewhere", "ensemble")
    arguments = pipeline_arguments(tiny_config(methods=methods, elsewhere={"chain": ("binary:5", "colour:1")}))
    suspect = {"backdoored_classifier": work["backdoored"], "defender_data": work["defender_data"]}
    made = {"retrained": artifact(folder, "retrained"), "report": artifact(folder, "report")}
    ideal_retraining.python_func(
        training_data=work["training_data"],
        clean_classifier=work["clean"],
        **suspect,
        true_trigger=work["true_trigger"],
        retrained=made["retrained"],
        task=arguments["ideal_retraining_task"],
    )
    evaluation.python_func(
        evaluation_data=work["evaluation_data"],
        **suspect,
        true_trigger=work["true_trigger"],
        trigger_staircase=work["staircase"],
        embedding=work["embedding"],
        retrained=[work["retrained-ensemble"]],
        ideal=made["retrained"],
        report=made["report"],
        trigger=arguments["trigger"],
        config=arguments["config"],
    )
    return made


def test_the_control_from_elsewhere_stands_beside_the_ideal_one_and_changes_nothing_of_it(
    work: dict[str, Any], controls: dict[str, Any]
) -> None:
    folder, alone = Path(controls["retrained"].path), Path(work["ideal"].path)
    assert folders_of(folder) == [folder / "ideal", folder / "single_trigger_elsewhere"]
    for file in ("seed-1/classifier.safetensors", "retraining.json"):
        assert (folder / "ideal" / file).read_bytes() == (alone / file).read_bytes()
    weights = [
        (part / f"seed-{seed}" / "classifier.safetensors").read_bytes()
        for part in (*folders_of(folder), Path(work["retrained-single_trigger"].path))
        for seed in (0, 1)
    ]
    assert len(set(weights)) == len(weights)


def test_the_report_tells_the_control_from_elsewhere_and_what_was_planted_there(controls: dict[str, Any]) -> None:
    found = content(controls["report"], "results.json")
    assert [line["method"] for line in found["summary"]] == ["single_trigger_elsewhere", "ensemble", "ideal"]
    page = (Path(controls["report"].path) / "report.html").read_text()
    assert "<b>single_trigger_elsewhere</b>" in page and "binary:5, colour:1 were planted" in page


def test_evaluation_writes_what_a_reader_gets(work: dict[str, Any]) -> None:
    found = content(work["report"], "results.json")
    assert found["format"] == 1
    assert found["dataset"] == "digits" and found["classifier"] == "small_resnet"
    assert found["trigger"]["name"] == "checkerboard"
    assert set(found["before"]) == {"clean_accuracy", "attack_success_rate", "robust_accuracy", "clean_target_rate"}
    methods = ["none", "fine_tune", "single_trigger", "beta=0.9", "beta=0.5", "ensemble", "ideal"]
    assert [line["method"] for line in found["summary"]] == methods
    assert [(row["method"], row["seed"]) for row in found["defenses"]] == [(m, s) for m in methods for s in (0, 1)]
    assert all(0 <= value <= 1 for row in found["defenses"] for k, value in row.items() if k not in ("method", "seed"))
    searched = [(row["method"], row["seed"]) for row in found["defenses"] if "strongest_left" in row]
    assert searched == [(method, 0) for method in methods], "the first seed of each method"
    assert "strongest_F" not in found["defenses"][0] and "strongest_left_std" not in found["summary"][0]
    assert found["config"]["generator"]["hidden"] == 16
    report = Path(work["report"].path)
    page = (report / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 7 and "elsewhere</b>" not in page
    assert (report / "classifier" / "classifier.safetensors").exists()
    page = (report / "report.html").read_text()
    assert "strongest left %" in page and "a bound by search, not a proof" in page and 'id="rounds"' not in page


def test_aggregation_sets_the_reports_of_a_sweep_side_by_side(work: dict[str, Any]) -> None:
    (row,) = content(work["together"], "sweep.json")["triggers"]
    assert row["name"] == "checkerboard" and row["group"] == "black-and-white"
    single = content(work["report"], "results.json")["reversed_attack_success_rates"]
    assert row["reversed_attack_success_rates"] == single and len(single) == 2
    assert (Path(work["together"].path) / "triggers" / "checkerboard" / "report.html").exists()
    (line,) = (line for line in content(work["together"], "sweep.json")["summary"] if line["method"] == "ensemble")
    left = row["rates"]["ensemble"]["strongest_left"]
    assert line["strongest_left"] == line["worst_strongest_left"] == left
    assert "(in brackets: strongest left)" in (Path(work["together"].path) / "report.html").read_text()


def aggregated(reports: list[Any], folder: Path, *triggers: str, **changes: Any) -> Path:
    """The finished sweep over `triggers` in `folder`."""
    config = pipeline_arguments(tiny_sweep(betas_per_task=2, triggers=triggers, **changes))["config"]
    together = artifact(folder.parent, folder.name)
    aggregation.python_func(reports=reports, report=together, config=config)
    return Path(together.path)


@pytest.fixture(scope="module")
def two_reports(work: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The reports of two triggers, which differ in their name only."""
    folder = tmp_path_factory.mktemp("reports")
    shutil.copytree(work["report"].path, folder / "other")
    found = content(work["report"], "results.json")
    found["trigger"]["name"] = "binary:9"
    (folder / "other" / "results.json").write_text(json.dumps(found))
    return [work["report"], artifact(folder, "other")]


def join(*words: object) -> Result:
    return CliRunner().invoke(main, ["join", *map(str, words)])


def test_a_sweep_in_parts_is_joined_to_what_the_whole_sweep_gives(two_reports: list[Any], tmp_path: Path) -> None:
    parts = [
        aggregated([report], tmp_path / name, trigger)
        for report, name, trigger in zip(two_reports, ("a", "b"), ("checkerboard", "binary:9"), strict=True)
    ]
    whole = aggregated(two_reports, tmp_path / "whole", "checkerboard", "binary:9")
    joined = join(*parts, "--output", tmp_path / "joined")
    assert joined.exit_code == 0, joined.stderr
    assert "2 black-and-white triggers" in joined.output
    files, expected = (
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "joined", whole)
    )
    assert files == expected
    assert (tmp_path / "joined" / "sweep.json").read_bytes() == (whole / "sweep.json").read_bytes()


def test_sweeps_that_do_not_belong_together_are_not_joined(two_reports: list[Any], tmp_path: Path) -> None:
    first, second = two_reports
    sweep = aggregated([first], tmp_path / "a", "checkerboard")
    other = aggregated([second], tmp_path / "b", "binary:9", seed=1)
    for words, told in (
        ((sweep, other), f"seed is 0 in {sweep}, 1 in {other}"),
        ((sweep, sweep), "got checkerboard more than once"),
        ((sweep, tmp_path), f"{tmp_path} holds no sweep.json"),
    ):
        refused = join(*words, "--output", tmp_path / "joined")
        assert refused.exit_code == 2 and told in refused.stderr and not (tmp_path / "joined").exists()
    (other / "triggers" / "binary-9" / "embedding.safetensors").unlink()
    refused = join(other, "--output", tmp_path / "joined")
    assert refused.exit_code == 2 and "binary-9 is not whole: fetch that sweep again" in refused.stderr
    refused = join(sweep, "--output", other)
    assert refused.exit_code == 2 and f"{other} holds something already" in refused.stderr


def test_undefended_rates_with_seed_0_are_the_rates_before(work: dict[str, Any]) -> None:
    found = content(work["report"], "results.json")
    none = found["defenses"][0]
    assert {name: none[name] for name in found["before"]} == found["before"]
    assert none["defense_effectiveness_rating"] == 0.5


def test_single_trigger_with_a_seed_beyond_the_restarts_is_refused(
    work: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        retraining.python_func(
            backdoored_classifier=work["backdoored"],
            defender_data=work["defender_data"],
            trigger_staircase=work["staircase"],
            reversed_triggers=work["reversed"],
            retrained=artifact(tmp_path, "retrained"),
            method="single_trigger",
            seeds="5",
            task=ARGUMENTS["retraining_task"],
        )
    assert exit.value.code == 2
    assert "needs at least 6 restarts, got 2" in capsys.readouterr().out


def test_packed_methods_give_what_each_gives_alone(work: dict[str, Any], tmp_path: Path) -> None:
    given = {
        "backdoored_classifier": work["backdoored"],
        "defender_data": work["defender_data"],
        "trigger_staircase": work["staircase"],
        "reversed_triggers": work["reversed"],
        "seeds": "0,1",
        "task": ARGUMENTS["retraining_task"],
    }
    for name, method in (("packed", "fine_tune,ensemble"), ("alone", "ensemble")):
        retraining.python_func(**given, retrained=artifact(tmp_path, name), method=method)
    together, alone = tmp_path / "packed", tmp_path / "alone"
    assert folders_of(together) == [together / "ensemble", together / "fine_tune"] and folders_of(alone) == [alone]
    for file in ("seed-1/classifier.safetensors", "retraining.json"):
        assert (together / "ensemble" / file).read_bytes() == (alone / file).read_bytes()


def test_retraining_in_rounds_reports_what_was_found_after_each(work: dict[str, Any], tmp_path: Path) -> None:
    config = tiny_config(
        betas_per_task=2, gammas=(2.0, 1.0), retraining={"rounds": 2, "round_level": 0.0}, strongest_left={"seeds": 0}
    )
    arguments = pipeline_arguments(config)
    given = {"backdoored_classifier": work["backdoored"], "defender_data": work["defender_data"]}
    methods = [item["method"] for item in arguments["retraining_plan"]]
    retrained = {method: work[f"retrained-{method}"] for method in methods}
    for method in ("none", "fine_tune", "ensemble"):
        retrained[method] = artifact(tmp_path, method)
        retraining.python_func(
            **given,
            trigger_staircase=work["staircase"],
            reversed_triggers=work["reversed"],
            retrained=retrained[method],
            method=method,
            seeds="0,1",
            task=arguments["retraining_task"],
        )
    report = artifact(tmp_path, "report")
    evaluation.python_func(
        evaluation_data=work["evaluation_data"],
        **given,
        true_trigger=work["true_trigger"],
        trigger_staircase=work["staircase"],
        embedding=work["embedding"],
        retrained=list(retrained.values()),
        ideal=work["ideal"],
        report=report,
        trigger=arguments["trigger"],
        config=arguments["config"],
    )
    found = content(retrained["ensemble"], "retraining.json")
    assert [len(found["strongest_F"][seed]) for seed in "01"] == [2, 2]
    assert [len(found["curves"][seed]) for seed in "01"] == [2, 2], "an epoch in each round"
    for method in ("none", "fine_tune"):
        assert "strongest_F" not in content(retrained[method], "retraining.json"), "nothing is stamped"
    rows = {row["seed"]: row for row in content(report, "results.json")["defenses"] if row["method"] == "ensemble"}
    assert [rows[seed]["strongest_F"] for seed in (0, 1)] == [found["strongest_F"][seed] for seed in "01"]
    assert "strongest_left" not in rows[0]
    page = (Path(report.path) / "report.html").read_text()
    assert page.count("rounds used up, triggers above the level left") == 2 and "strongest left %" not in page


def test_a_stage_that_is_told_something_wrong_says_what_and_computes_nothing(
    work: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for change, told in (
        ({"seed": "x"}, "seed: input should be a valid integer"),
        ({"visualisation": {"perplexity": 0.5}}, "visualisation.perplexity: input should be greater than 1, got 0.5"),
    ):
        with pytest.raises(SystemExit) as exit:
            visualisation.python_func(
                trigger_staircase=work["staircase"],
                reversed_triggers=work["reversed"],
                true_trigger=work["true_trigger"],
                embedding=artifact(tmp_path, "embedding"),
                task={**ARGUMENTS["visualisation_task"], **change},
            )
        assert exit.value.code == 2
        assert f"t-SNE visualisation: failed {told}" in capsys.readouterr().out
    assert not (tmp_path / "embedding").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"generator_batch_size": 100_000}, "generator.batch_size 100000 is larger than the defender's part"),
        ({"target_class": 10}, "target_class must be below the number of classes"),
        ({"patch_sizes": [[33, 3]]}, "a trigger of 33x3 pixels is larger than the images"),
    ],
)
def test_what_does_not_fit_the_data_is_told_as_they_are_prepared(
    change: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {name: artifact(tmp_path, name) for name in ("training_data", "defender_data", "evaluation_data")}
    with pytest.raises(SystemExit):
        prepare_data.python_func(**parts, task={**ARGUMENTS["prepare_data_task"], **change})
    assert f"prepare data: failed {told}" in capsys.readouterr().out


def test_the_tracking_components_do_nothing_without_a_server() -> None:
    open_run.python_func(pipeline="defense", config=ARGUMENTS["config"], tracking={})
    close_run.python_func(status=final_status("SUCCEEDED"))
