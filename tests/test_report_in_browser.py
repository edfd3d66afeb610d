"""The report in a real browser: it opens offline, without a complaint, and every picture is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.browser import browser as browser  # the fixture that starts Chromium
from tests.components.test_components import work as work  # the fixture that runs all stages

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def opened(browser: webdriver.Chrome, work: dict[str, Any]) -> webdriver.Chrome:
    browser.get((Path(work["report"].path) / "report.html").as_uri())
    return browser


def test_no_console_message_and_no_network_request(opened: webdriver.Chrome) -> None:
    assert opened.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked, "the log must at least hold the report itself"
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_every_picture_is_drawn(opened: webdriver.Chrome) -> None:
    widths = opened.execute_script("return [...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) == 7 and min(widths) > 100
    assert all(image.get_attribute("alt") for image in opened.find_elements(By.TAG_NAME, "img"))


def test_the_tables_show_every_method_and_every_stair(opened: webdriver.Chrome) -> None:
    methods = [cell.text for cell in opened.find_elements(By.CSS_SELECTOR, "#methods tbody td:first-child")]
    expected = ["none", "fine_tune", "single_trigger", "beta=0.9", "beta=0.5", "ensemble", "ideal"]
    assert methods == ["before", *expected]
    assert [c.text for c in opened.find_elements(By.CSS_SELECTOR, "#stairs tbody td:first-child")] == ["0.5", "0.9"]


def test_nothing_is_wider_than_the_window(opened: webdriver.Chrome) -> None:
    assert opened.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_printed_configuration_repeats_the_run(opened: webdriver.Chrome, work: dict[str, Any]) -> None:
    printed = json.loads(opened.find_element(By.ID, "config").text)
    assert printed == json.loads((Path(work["report"].path) / "results.json").read_text())["config"]
    assert "untrigger run --config config.json" in opened.find_element(By.ID, "command").text
