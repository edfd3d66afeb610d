"""The report in a real browser: it opens offline, without a complaint, and every picture is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.support.browser import browser as browser  # the fixture that starts Chromium
from tests.support.stages import work as work  # the fixture that runs all stages

pytestmark = pytest.mark.browser


def page_of(work: dict[str, Any], name: str) -> str:
    return (Path(work[name].path) / "report.html").as_uri()


@pytest.fixture
def opened(browser: webdriver.Chrome, work: dict[str, Any]) -> webdriver.Chrome:
    browser.get(page_of(work, "report"))
    return browser


@pytest.mark.parametrize(("report", "pictures"), [("report", 7), ("together", 2)])
def test_a_report_opens_offline_whole_and_fits_the_window(
    browser: webdriver.Chrome, work: dict[str, Any], report: str, pictures: int
) -> None:
    browser.get(page_of(work, report))
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked, "the log must at least hold the report itself"
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    widths = browser.execute_script("return [...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) == pictures and min(widths) > 100
    assert all(image.get_attribute("alt") for image in browser.find_elements(By.TAG_NAME, "img"))
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_tables_show_every_method_and_every_stair(opened: webdriver.Chrome) -> None:
    methods = [cell.text for cell in opened.find_elements(By.CSS_SELECTOR, "#methods tbody td:first-child")]
    expected = ["none", "fine_tune", "single_trigger", "beta=0.9", "beta=0.5", "ensemble", "ideal"]
    assert methods == ["before", *expected]
    assert [c.text for c in opened.find_elements(By.CSS_SELECTOR, "#stairs tbody td:first-child")] == ["0.5", "0.9"]


def test_the_report_of_a_sweep_leads_to_that_of_each_trigger(browser: webdriver.Chrome, work: dict[str, Any]) -> None:
    browser.get(page_of(work, "together"))
    browser.find_element(By.LINK_TEXT, "checkerboard").click()
    assert "trigger checkerboard" in browser.find_element(By.CLASS_NAME, "lead").text


def test_the_printed_configuration_repeats_the_run(opened: webdriver.Chrome, work: dict[str, Any]) -> None:
    printed = json.loads(opened.find_element(By.ID, "config").text)
    assert printed == json.loads((Path(work["report"].path) / "results.json").read_text())["config"]
    assert "untrigger run --config config.json" in opened.find_element(By.ID, "command").text
