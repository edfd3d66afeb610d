"""MLflow's own pages in a real browser, on a run that was tracked by a real server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import browser as browser  # the fixture that starts Chromium
from tests.pipelines.test_served_run import Finished, tracked
from tests.pipelines.test_served_run import config as config
from tests.pipelines.test_served_run import finished as finished
from tests.pipelines.test_served_run import running as running
from tests.servers import RunningServers

pytestmark = pytest.mark.browser

SCREENSHOT = "UNTRIGGER_SCREENSHOT"
"""Environment variable: where to keep a picture of the comparison page, as for the README."""


@pytest.fixture
def compared(browser: webdriver.Chrome, running: RunningServers, finished: Finished) -> Iterator[webdriver.Chrome]:
    """The comparison page of two methods of retraining."""
    runs = tracked(running, finished.run_id)
    chosen = [runs[f"retraining method={method} seed=0"].info for method in ("ensemble", "ideal")]
    identifiers, experiments = json.dumps([run.run_id for run in chosen]), json.dumps([chosen[0].experiment_id])
    address = running.environment["MLFLOW_TRACKING_URI"]
    browser.get(f"{address}/#/compare-runs?runs={identifiers}&experiments={experiments}")
    yield browser


def test_the_comparison_page_shows_the_metrics_of_both_methods(
    compared: webdriver.Chrome, running: RunningServers, finished: Finished
) -> None:
    rates = ("attack_success_rate", "clean_accuracy", "robust_accuracy")
    wait = WebDriverWait(compared, 60)
    wait.until(lambda driver: all(rate in text_of(driver) for rate in rates))
    shown = text_of(compared)
    for method in ("ensemble", "ideal"):
        assert f"retraining method={method} seed=0" in shown
        metrics = tracked(running, finished.run_id)[f"retraining method={method} seed=0"].data.metrics
        for rate in rates:
            assert f"{metrics[rate]:.3f}".rstrip("0").rstrip(".") in shown, (method, rate)
    if path := os.environ.get(SCREENSHOT):
        compared.set_window_size(1500, 900)
        metric = compared.find_element(By.XPATH, "//*[text()='attack_success_rate']")
        compared.execute_script("arguments[0].scrollIntoView({block: 'center'})", metric)
        compared.save_screenshot(str(Path(path)))


def text_of(driver: webdriver.Chrome) -> str:
    return driver.find_element(By.TAG_NAME, "body").text
