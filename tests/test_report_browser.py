"""The report in a real browser: drawn, quiet, offline, dark, narrow, and inert to hostile names."""

import json
import os
import shutil

import pytest

from gspn2bench.report import write

from .report_fixtures import HOSTILE, hostile_run, real_run, simulated_run

pytestmark = pytest.mark.browser

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
UNDRAWN = """return [...document.querySelectorAll('.chart')]
    .filter((chart) => !chart.querySelector('svg.main-svg .bars path')).length"""
TOO_WIDE = """const width = document.documentElement.clientWidth;
    return [...document.querySelectorAll('body *')].filter((each) =>
        !each.closest('.scroll, svg, .hidden, .skip')
        && each.getBoundingClientRect().right > width + 1)
        .map((each) => each.outerHTML.slice(0, 99))"""
CUT_OFF = """return [...document.querySelectorAll('.chart')].flatMap((chart) => {
    const edge = chart.getBoundingClientRect();
    return [...chart.querySelectorAll('.main-svg text')].filter((text) => {
        const box = text.getBoundingClientRect();
        return box.width && (box.left < edge.left - 1 || box.right > edge.right + 1
            || box.top < edge.top - 1 || box.bottom > edge.bottom + 1);
    }).map((text) => text.textContent)})"""
COLOURS = """return [getComputedStyle(document.body).backgroundColor,
    document.querySelector('.chart .bars path').style.fill,
    document.querySelector('.chart .xtick text').style.fill]"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
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
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    runs = {"real": real_run(), "simulated": simulated_run(), "hostile": hostile_run()}
    for name, run in runs.items():
        write([run], folder / f"{name}.html")
    return folder


def show(browser, path, width=1200, scheme="light"):
    """Open a page from nothing, with every details element open; returns its address."""
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    set_scheme(browser, scheme)
    browser.get(path.as_uri())
    browser.execute_script(OPEN_ALL)
    wait(browser, lambda: browser.execute_script(UNDRAWN) == 0)
    return path.as_uri()


def set_scheme(browser, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda _: condition())


def requests(browser):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [each["request"]["url"] for each in sent]


@pytest.mark.parametrize("name", ["real", "simulated", "hostile"])
def test_every_chart_is_drawn_without_error_or_request(browser, pages, name):
    address = show(browser, pages / f"{name}.html")
    assert browser.execute_script("return document.querySelectorAll('.chart').length") > 1
    assert browser.get_log("browser") == []
    seen = requests(browser)
    assert address in seen
    assert [url for url in seen if url != address and not url.startswith("data:")] == []


@pytest.mark.parametrize("name", ["real", "simulated", "hostile"])
@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_or_is_cut_off(browser, pages, name, width, scheme):
    show(browser, pages / f"{name}.html", width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(TOO_WIDE) == []
    assert browser.execute_script(CUT_OFF) == []


def test_charts_follow_the_scheme(browser, pages):
    show(browser, pages / "real.html", scheme="dark")
    dark = browser.execute_script(COLOURS)
    set_scheme(browser, "light")
    wait(browser, lambda: browser.execute_script(COLOURS)[1] != dark[1])
    light = browser.execute_script(COLOURS)
    assert all(here != there for here, there in zip(light, dark, strict=True))


def test_hostile_names_are_text(browser, pages):
    show(browser, pages / "hostile.html")
    assert browser.execute_script("return document.images.length") == 0
    assert browser.execute_script("return document.querySelectorAll('.chart svg a').length") == 0
    headings = browser.execute_script(
        "return [...document.querySelectorAll('.chart .annotation-text')].map((t) => t.textContent)"
    )
    assert headings
    assert all(heading.startswith(HOSTILE) for heading in headings)
