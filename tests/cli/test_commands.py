"""The command line: help, and one clear sentence for each kind of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from tests.support.results import FOUND
from tests.support.timing import with_cpu_seconds
from untrigger.classifiers import Classifier, save_classifier
from untrigger.cli import main
from untrigger.cli.settings import read_config
from untrigger.settings.base import Settings
from untrigger.settings.runs import DefenseConfig


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"]])
def test_help_answers_in_under_half_a_second(words: list[str]) -> None:
    command = [str(Path(sys.executable).with_name("untrigger")), *words]
    assert min(with_cpu_seconds(command)[1] for _ in range(5)) < 0.5


def test_help_shows_every_setting_with_its_default() -> None:
    text = invoke("run", "--help").output
    for name, field in DefenseConfig.model_fields.items():
        if name == "attack":
            assert all(f"--{each}" in text for each in ("attack", "patch.place", "blended.ratio", "warped.strength"))
        elif isinstance(field.default, Settings):
            for inner in type(field.default).model_fields:
                assert f"--{name}.{inner}".replace("_", "-") in text
        else:
            assert f"--{name}".replace("_", "-") in text
    assert "0.5,0.8,0.9" in text


def test_datasets_are_listed() -> None:
    output = invoke("datasets").output
    assert all(name in output for name in ("digits", "cifar10", "cifar100", "parquet:PATH", "folder:PATH"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dataset", "parquet:nowhere"], "the dataset folder nowhere does not exist"),
        (["--dataset", "mnist"], "unknown dataset 'mnist'"),
        (["--betas", "0.5,1.5"], "beta must lie in (0, 1) or be top, got 1.5"),
        (["--betas", "0"], "beta must lie in (0, 1) or be top, got 0"),
        (["--betas", ""], "at least one beta is needed, got none"),
        (["--betas", "0.5,0.5"], "betas must differ from each other, got 0.5, 0.5"),
        (["--betas", "high"], "betas.0: input should be a valid number"),
        (["--gammas", "1,2"], "gammas must be one per beta (4), got 2"),
        (["--profile", "huge"], "unknown profile 'huge': choose one of demo, cpu, paper"),
        (["--seed", "-1"], "seed: input should be greater than or equal to 0, got '-1'"),
        (["--target-class", "-1"], "target_class: input should be greater than or equal to 0, got '-1'"),
        (
            ["--methods", "ensemble,prayer"],
            "method must be one of none, fine_tune, single_trigger, single_trigger_elsewhere, beta",
        ),
        (["--methods", "none"], "methods must include ensemble"),
        (["--trigger", "star"], "unknown trigger 'star'"),
        (["--weights", "nowhere"], "--weights needs --dataset: the data that the given classifier is for"),
        (["--weights", "nowhere", "--dataset", "digits"], "nowhere holds no classifier, classifier.json is missing"),
        (["--weights", "s3://bucket/models/short", "--dataset", "digits"], "is no model in a store"),
        (["--poisoning.epochs", "0"], "poisoning.epochs may be 0 only with --weights"),
        (["--retraining-seeds", "9"], "pixel_sgd.restarts must be at least retraining_seeds (9), got 5"),
        (["--generator.images-per-trigger", "7"], "images_per_trigger must divide batch_size 128, got 7"),
        (["--training.epochs", "0"], "training.epochs: input should be greater than or equal to 1, got '0'"),
        (["--retraining.stamped-share", "1.5"], "retraining.stamped_share: input should be less than or equal to 1"),
        (["--config", "missing.json"], "cannot read the configuration missing.json"),
        (["--attack", "magic"], "the attack must be one of blended, "),
        (
            ["--attack", "blended", "--blended.ratio", "2"],
            "the attack blended: ratio: input should be less than or equal",
        ),
        (
            ["--attack", "blended", "--warped.strength", "2"],
            "settings of the attack warped need --attack warped, got blended",
        ),
        (["--blended.ratio", "0.3"], "settings of the attack blended need --attack blended, got patch"),
        (["--patch.goal", "one_to_one"], "source_class goes with the goal one_to_one and no other, got None"),
        (["--patch.goal", "one_to_one", "--patch.source-class", "0"], "source_class must be another class than"),
        (
            ["--attack", "blended", "--blended.goal", "all_to_all"],
            "the search is for the triggers of one class, got the goal all_to_all",
        ),
        (
            ["--attack", "blended", "--methods", "single_trigger_elsewhere,ensemble"],
            "repeats the paper's attack, patch with its default settings, got {'name': 'blended'",
        ),
        (["--resume", "--overwrite"], "--resume and --overwrite exclude each other"),
    ],
)
def test_bad_input_gets_one_sentence_and_no_traceback(words: list[str], sentence: str, tmp_path: Path) -> None:
    result = invoke("run", "--output", str(tmp_path / "out"), *words)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--triggers", "binary:0-99"], "binary:K needs K from 0 to 50, got 51"),
        (["--triggers", ""], "at least one trigger is needed"),
        (["--triggers", "binary:1,binary:1"], "binary:1 more than once"),
        (["--triggers", "missing.txt"], "cannot read the list of triggers missing.txt"),
        (["--trigger", "binary:1"], "No such option"),
        (
            ["--attack", "warped"],
            "a sweep is over triggers, for which the attack warped has no use: take `untrigger run`",
        ),
    ],
)
def test_bad_lists_of_triggers_are_named_before_any_work(words: list[str], sentence: str, tmp_path: Path) -> None:
    result = invoke("sweep", "--profile", "tiny", "--output", str(tmp_path / "out"), *words)
    assert result.exit_code == 2 and sentence in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_sweep_has_one_name_and_answers_to_its_earlier_one() -> None:
    listed = invoke("--help").output
    assert "\n  sweep " in listed and "\n  paper " not in listed
    assert invoke("paper", "--help").output.partition("\n")[2] == invoke("sweep", "--help").output.partition("\n")[2]
    assert "runs/sweep-PROFILE" in invoke("sweep", "--help").output


def test_an_output_folder_of_fetch_is_named_once() -> None:
    result = invoke("fetch", "some-run", "here", "--output", "there")
    assert result.exit_code == 2 and "given twice, as here and as --output there" in result.stderr


def test_a_temporary_folder_that_is_not_there_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    result = invoke("run", "--profile", "tiny", "--output", str(tmp_path / "out"))
    assert result.exit_code == 2 and "TMPDIR names /no/such/folder" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_reader_that_goes_away_ends_a_command_without_a_word() -> None:
    untrigger = Path(sys.executable).with_name("untrigger")
    with subprocess.Popen([untrigger, "datasets"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_debug_shows_the_traceback() -> None:
    result = invoke("--debug", "run", "--profile", "huge")
    assert result.exit_code != 0
    assert result.exception is not None and "unknown profile" in str(result.exception)


def test_an_unknown_option_is_named() -> None:
    result = invoke("run", "--generator.epoch", "3")
    assert result.exit_code == 2
    assert "No such option" in result.stderr and "--generator.epoch" in result.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"generator": {"epoch": 3}}, "unknown setting generator.epoch"),
        ({"generator": {"epochs": "many"}}, "generator.epochs: input should be a valid integer"),
        ({"betas": [1.5]}, "betas: beta must lie in (0, 1) or be top, got 1.5"),
        ([], "must be a JSON object"),
    ],
)
def test_what_is_wrong_in_a_configuration_file_is_told_by_file_and_setting(
    tmp_path: Path, content: object, told: str
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(content))
    result = invoke("run", "--config", str(file), "--output", str(tmp_path / "out"))
    assert result.exit_code == 2 and f"the configuration {file}" in result.stderr and told in result.stderr


def test_settings_in_a_file_need_to_fit_only_with_what_is_laid_over_them(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"generator": {"images_per_trigger": 24}, "retraining_seeds": 99}), encoding="utf-8-sig")
    assert read_config(file)["retraining_seeds"] == 99


@pytest.mark.parametrize("name", ["run.json", "results.json"])
def test_a_runs_own_files_serve_as_its_configuration(tmp_path: Path, name: str) -> None:
    written = {"run.json": {"run_id": "1"}, "results.json": {"dataset": "digits", "classifier": "small_resnet"}}
    (tmp_path / name).write_text(json.dumps({"format": 1, **written[name], "config": {"seed": 7}}))
    assert read_config(tmp_path / name) == {"seed": 7}


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    FOUND[0].save(tmp_path)
    (tmp_path / "file").touch()
    result = invoke("compare", str(tmp_path), str(tmp_path), "--html", str(tmp_path / "file" / "page.html"))
    assert result.exit_code == 2 and f"error: {tmp_path / 'file'}" in result.stderr


def test_a_run_of_mlflow_without_its_server_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", 32 * "a")
    result = invoke("run", "--profile", "tiny", "--output", str(tmp_path / "out"))
    assert result.exit_code == 2 and f"MLFLOW_RUN_ID names '{32 * 'a'}'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_weights_that_are_of_no_use_are_refused_before_any_work(tmp_path: Path, tiny_classifier: Classifier) -> None:
    save_classifier(tiny_classifier, tmp_path / "model")
    tensors = load_file(tmp_path / "model" / "classifier.safetensors")
    save_file({**tensors, "std": torch.zeros(3)}, tmp_path / "model" / "classifier.safetensors")
    words = ("--weights", str(tmp_path / "model"), "--dataset", "digits", "--output", str(tmp_path / "out"))
    result = invoke("run", "--profile", "tiny", *words)
    assert result.exit_code == 2 and "mean and std must be those of pixels" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_unwritable_output_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = invoke("run", "--output", str(tmp_path / "file" / "out"))
    assert result.exit_code == 2
    assert "cannot write to the output folder" in result.stderr


def test_a_folder_with_results_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("precious")
    result = invoke("run", "--output", str(tmp_path))
    assert result.exit_code == 2 and "already holds results.json" in result.stderr
    assert (tmp_path / "results.json").read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["store", "ls", "bucket"], "give s3://bucket or s3://bucket/prefix"),
        (["store", "ls", "s3://bucket"], "must stand in AWS_ENDPOINT_URL"),
        (["store", "put", "parquet:nowhere", "s3://bucket"], "must stand in AWS_ENDPOINT_URL"),
        (["run", "--dataset", "s3://bucket/datasets/" + 32 * "a"], "must stand in AWS_ENDPOINT_URL"),
        (["run", "--dataset", "s3://bucket/datasets/.."], "is no dataset in a store"),
        (["run", "--runner", "docker", "--download"], "--download needs a network, which containers do not get"),
        (["run", "--store", "bucket"], "give s3://bucket or s3://bucket/prefix"),
        (["run", "--runner", "docker", "--gpus", "0"], "--gpus must be all or a number from 1"),
    ],
)
def test_a_store_or_an_engine_that_is_not_described_is_refused_in_one_sentence(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert told in result.stderr
    assert not (tmp_path / "runs").exists()


def test_stopping_servers_that_were_never_started_says_so(tmp_path: Path) -> None:
    result = invoke("store", "down", "--folder", str(tmp_path / "servers"))
    assert result.exit_code == 0 and result.output == "nothing was running\n"
