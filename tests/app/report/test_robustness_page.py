"""The robustness section of a real evaluation in a real browser: nothing overlooked, nothing cut off."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from spikemorph.choices.settings import AttackChoice
from spikemorph.measures.robustness import attack_model
from spikemorph.report.html import write_report
from spikemorph.report.page.robustness.section import TWIN
from spikemorph.report.record import Report, read_run
from spikemorph.sources.subjects import open_subject
from spikemorph.zoo import load_data

Open = Callable[..., webdriver.Chrome]
ATTACKS = AttackChoice(
    ("4/255", "32/255"), "fgsm,pgd=3,square=5", samples=16, gate_samples=4, corruptions=True
)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """A real evaluation: a digits network with attacks so few that gates raise red flags."""
    return attack_model(
        open_subject("zoo:digits_cnn"), load_data("digits:test"), ATTACKS, 0
    ).to_dict()


@pytest.fixture(scope="module")
def page(found: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that holds the evaluation, and the same for the float twin."""
    run = tmp_path_factory.mktemp("attacked")
    for name in ("robustness", TWIN):
        (run / f"{name}.json").write_text(json.dumps(found))
    write_report(read_run(run), run / "report.html")
    return run / "report.html"


@pytest.fixture
def shown(browser: webdriver.Chrome, page: Path) -> Open:
    """Opens the page as a device of that width, light or dark, would."""

    def show(width: int = 1200, scheme: str = "light", file: Path = page) -> webdriver.Chrome:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get_log("browser")  # type: ignore[no-untyped-call]
        browser.get(file.as_uri())
        return browser

    return show


def test_the_console_is_silent_and_every_picture_is_drawn(
    shown: Open, found: dict[str, Any]
) -> None:
    chrome = shown()
    assert chrome.get_log("browser") == []  # type: ignore[no-untyped-call]
    sizes = chrome.execute_async_script(
        "const done = arguments[0], all = [...document.querySelectorAll('#robustness image')];"
        "Promise.all(all.map(i => { const p = new Image(); p.src = i.getAttribute('href');"
        "return p.decode().then(() => [p.naturalWidth, p.naturalHeight]); })).then(done)"
    )
    assert len(found["examples"]) > 0
    assert sizes == [[8, 8]] * 3 * len(found["examples"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_red_flags_are_the_first_thing_in_the_section_and_red(
    shown: Open, found: dict[str, Any], width: int, scheme: str
) -> None:
    flags = [gate["title"] for gate in found["gates"] if gate["passed"] is False]
    assert flags
    chrome = shown(width, scheme)
    box = chrome.find_element(By.CSS_SELECTOR, "#robustness > h2 + .call.bad")
    assert box.is_displayed()
    assert [item.text for item in box.find_elements(By.CLASS_NAME, "what")] == flags
    head = box.find_element(By.CLASS_NAME, "headline")
    assert (
        str(len(flags)) in head.text and float(head.value_of_css_property("font-size")[:-2]) >= 20
    )
    colour = head.value_of_css_property("color")
    red, green, blue = (int(part) for part in colour[colour.index("(") + 1 :].split(",")[:3])
    assert red > green + 60 and red > blue + 60
    strip = chrome.find_element(By.CSS_SELECTOR, ".strip").text
    assert f"{len(flags)} red flag" in strip


@pytest.mark.parametrize("width", [390, 700, 1200])
def test_nothing_sticks_out_sideways(shown: Open, width: int) -> None:
    chrome = shown(width)
    chrome.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    out = chrome.execute_script(
        "const right = document.documentElement.clientWidth;"
        "return [...document.querySelectorAll('#robustness *')]"
        ".filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > right + 1)"
        ".map(e => e.outerHTML.slice(0, 80))"
    )
    assert out == []


def test_pointing_at_the_worst_case_shows_its_interval(shown: Open, found: dict[str, Any]) -> None:
    chrome = shown()
    mark = chrome.find_elements(By.CSS_SELECTOR, "#robustness .drawn.wide .mark:has(.sign)")
    worst = next(
        m for m in reversed(mark) if m.find_element(By.XPATH, "../..").get_attribute("class")
        and "Accuracy against eps" in m.find_element(By.XPATH, "..").get_attribute("aria-label")
    )  # fmt: skip
    chrome.execute_async_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'});"
        "requestAnimationFrame(() => requestAnimationFrame(arguments[1]))",
        worst,
    )
    ActionChains(chrome).move_to_element(worst).perform()
    row = found["eps"][-1]
    said = chrome.find_element(By.ID, "tip").text
    assert said.startswith("worst case, eps 32/255") and f"{row['worst_case']:.2f} %" in said
    assert f"({row['ci95'][0]:.1f} to {row['ci95'][1]:.1f})" in said


def test_paper_has_the_flags_the_members_and_the_pictures(shown: Open) -> None:
    chrome = shown()
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    seen = "return [...document.querySelectorAll(arguments[0])].map(e => e.checkVisibility())"
    for css in ("#robustness .call", "#robustness details table", "#robustness image"):
        visible = chrome.execute_script(seen, css)
        assert visible and all(visible), css


def test_a_clean_bill_is_no_alarm(shown: Open, found: dict[str, Any], tmp_path: Path) -> None:
    gates = [{**gate, "passed": True} for gate in found["gates"]]
    write_report(Report({"robustness": {**found, "gates": gates}}), tmp_path / "report.html")
    chrome = shown(file=tmp_path / "report.html")
    assert not chrome.find_elements(By.CSS_SELECTOR, ".call.bad, .state.bad")
    assert (
        chrome.find_element(By.CSS_SELECTOR, "#robustness .call.good .headline").text
        == "No red flag"
    )
