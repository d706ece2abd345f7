"""A real browser for the tests of the report, and helpers to read a page."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
OPEN_ALL = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
DRAWN = "return document.body.dataset.drawn === 'yes'"
FIGURE = """const chart = document.querySelector(`[data-figure=${arguments[0]}] .chart`);
    const drawn = {data: chart.data, layout: chart.layout};
    return chart.hidden ? null : JSON.parse(JSON.stringify(drawn))"""
TABLE = """return [...document.querySelectorAll(`${arguments[0]} tbody tr`)].map(
    (line) => [...line.cells].map((cell) => cell.textContent))"""
HEADERS = """return [...document.querySelectorAll(`${arguments[0]} thead th`)].map(
    (cell) => cell.textContent)"""


@contextmanager
def started(profile: Path) -> Iterator[Any]:
    """Chromium under Selenium, closed afterwards; the test is skipped if it is not installed.

    Args:
        profile: folder for the browser's profile; downloads go to its folder ``downloads``.
    """
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        missing = "chromium and chromedriver are not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.set_script_timeout(120)
    downloads = {"behavior": "allow", "downloadPath": str(profile / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    try:
        yield browser
    finally:
        browser.quit()


def show(browser: Any, path: Path, width: int = 1200, scheme: str = "light") -> str:
    """Open a page anew, open every table, wait until all is drawn, and return the address."""
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    set_scheme(browser, scheme)
    browser.get(path.as_uri())
    browser.execute_script(OPEN_ALL)
    settle(browser)
    return path.as_uri()


def set_scheme(browser: Any, scheme: str) -> None:
    """Set the colour scheme, light or dark, as a reader's system would."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def settle(browser: Any) -> None:
    """Wait until every figure is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(DRAWN))


def requests(browser: Any) -> list[str]:
    """Addresses that the browser has requested since the page was opened."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [each["request"]["url"] for each in sent]


def figure(browser: Any, name: str) -> dict[str, Any] | None:
    """Data and layout of a figure as drawn; None if it is empty."""
    drawn: dict[str, Any] | None = browser.execute_script(FIGURE, name)
    return drawn


def table(browser: Any, where: str) -> list[dict[str, str]]:
    """The rows of the table under a CSS selector, by header."""
    headers = browser.execute_script(HEADERS, where)
    lines = browser.execute_script(TABLE, where)
    return [dict(zip(headers, line, strict=True)) for line in lines]


def choose(browser: Any, control: str, value: str) -> None:
    """Select an option of one of the page's controls, as with the keyboard."""
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", control)).select_by_value(value)
    settle(browser)


def tick(browser: Any, rung: str) -> None:
    """Tick or untick a rung with the space bar."""
    box = browser.find_element("css selector", f"[name=rung][value={rung}]")
    box.send_keys(" ")
    settle(browser)
