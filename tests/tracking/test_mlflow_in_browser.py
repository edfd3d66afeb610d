"""MLflow's own pages in a real browser, on a run that was tracked by a real server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.browser import browser as browser  # the fixture that starts Chromium
from tests.support.served import Finished, tracked
from tests.support.served import config as config
from tests.support.served import finished as finished
from tests.support.served import running as running
from tests.support.servers import RunningServers

pytestmark = pytest.mark.browser

SCREENSHOT = "UNTRIGGER_SCREENSHOT"
"""Environment variable: where to keep a picture of the comparison page, as for the README."""


SCROLL = """
for (const table of document.querySelectorAll('[role=grid]')) {
    const end = table.scrollTop + table.clientHeight >= table.scrollHeight;
    table.scrollTop = end ? 0 : table.scrollTop + table.clientHeight / 2;
}
"""
"""JavaScript: move every table on by half of what is in view, from its end back to its beginning."""


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
    expected = []
    for method in ("ensemble", "ideal"):
        run = tracked(running, finished.run_id)[f"retraining method={method} seed=0"]
        expected.append(run.info.run_name)
        for rate in ("attack_success_rate", "clean_accuracy", "robust_accuracy"):
            expected += [rate, f"{run.data.metrics[rate]:.3f}".rstrip("0").rstrip(".")]
    wait_until_shown(compared, expected)
    if path := os.environ.get(SCREENSHOT):
        wait_until_shown(compared, ["attack_success_rate"])
        compared.set_window_size(1500, 900)
        metric = compared.find_element(By.XPATH, "//*[text()='attack_success_rate']")
        compared.execute_script("arguments[0].scrollIntoView({block: 'center'})", metric)
        compared.save_screenshot(str(Path(path)))


def wait_until_shown(driver: webdriver.Chrome, expected: Sequence[str]) -> None:
    """Scroll over the page's tables, of which MLflow draws only the rows in view, until all of `expected` was seen."""
    missing = set(expected)

    def seen(driver: webdriver.Chrome) -> bool:
        text = driver.find_element(By.TAG_NAME, "body").text
        missing.difference_update([word for word in missing if word in text])
        if missing:
            driver.execute_script(SCROLL)
        return not missing

    try:
        WebDriverWait(driver, 60).until(seen)
    except TimeoutException:
        pytest.fail(f"the page does not show {', '.join(sorted(missing))}")
