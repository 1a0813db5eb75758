"""The report page of a real run, in a real browser: whole, silent on the console and on the network."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from completing import complete
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from spikemorph import convert_graph, load_graph
from spikemorph.choices.settings import AttackChoice, CertifyChoice
from spikemorph.convert.certificate import curve_steps
from spikemorph.energy.estimate import estimate_energy
from spikemorph.graph import Graph, InputError
from spikemorph.graph.grid import Grid
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import mask_hash, with_masks
from spikemorph.measures.activity import activity
from spikemorph.measures.certified import certify_robust
from spikemorph.measures.evaluation import evaluate
from spikemorph.measures.inspection import inspect_graph
from spikemorph.measures.robustness import attack_model
from spikemorph.provenance import provenance
from spikemorph.quant import Quantisation
from spikemorph.report.html import render_report, write_report
from spikemorph.report.index import Network, render_index
from spikemorph.report.record import Report, read_run
from spikemorph.report.sections import SECTIONS, sections_of
from spikemorph.sources.subjects import open_subject
from spikemorph.spiking import DenseEngine
from spikemorph.zoo import load_data

MOST_BYTES = 6_000_000
ATTACKS = AttackChoice(("8/255", "32/255"), "pgd=3,square=5", samples=12, gate_samples=0)
Open = Callable[..., webdriver.Chrome]

OWN = sections_of({}, SECTIONS)  # of converted networks


def weights(graph: Graph) -> dict[str, Any]:
    return {n.name: n.op.weight for n in graph.nodes if isinstance(n.op, Convolution | Linear)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every part of a run: the digits network, its smaller weights pruned."""
    folder = tmp_path_factory.mktemp("run")
    model, test = load_graph("zoo:digits_mlp"), load_data("digits:test:60")
    kept = {name: w.abs() >= w.abs().median() for name, w in weights(model.graph).items()}
    pruned, x = with_masks(model.graph, kept), test.values()
    calibration = load_data("digits:train").values()
    found = convert_graph(pruned, calibration, grid=Grid.of(0, 1), quantisation=Quantisation())
    network, steps = found.network, curve_steps(found.certificate)
    engine = DenseEngine(network)
    layers = [
        {"node": name, "weights": w.numel(), "nonzero": int((w != 0).sum()),
         "mask_hash": mask_hash(kept[name])}
        for name, w in weights(network.graph).items()
    ]  # fmt: skip
    measured = evaluate(network, engine, found.certificate, x, test.y, steps=steps,
                        names=(model.name, test.name), float_graph=found.float_graph)  # fmt: skip
    compared = [{"name": "sparse", "accuracy": 90.0, "synops": 10}, {"name": "dense", "accuracy": 95.0,
                "synops": 100, "energy": {"step": 0.5}}]  # fmt: skip
    energy = estimate_energy(network, x[:8], steps[-1], model=model.name, data=test.name)
    parts = {
        "model": inspect_graph(model.name, pruned).to_dict(),
        "certificate": found.certificate.to_dict(),
        "evaluation": measured.to_dict(),
        "activity": activity(network, engine, x, steps[-1]).to_dict(),
        "energy": energy.to_dict(),
        "sparsity": complete("sparsity", {"layers": layers, "method": "magnitude"}),
        "comparison": complete("comparison", {"data": test.name, "networks": compared}),
        "robustness": attack_model(open_subject("zoo:digits_mlp"), test, ATTACKS, 0).to_dict(),
        "certified": certify_robust(
            model.name,
            network,
            found.certificate,
            test,
            CertifyChoice(("2/255", "8/255"), samples=12),
        ).to_dict(),
        "reproduce": provenance("spikemorph demo", {"all": 0}, {}).to_dict(),
    }
    for name, part in parts.items():
        (folder / f"{name}.json").write_text(json.dumps(part))
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Path:
    path = run.parent / "page" / "report.html"
    path.parent.mkdir()
    write_report(read_run(run), path)
    return path


@pytest.fixture
def shown(browser: webdriver.Chrome) -> Open:
    """Opens a file as a device of that width, light or dark, would."""

    def show(path: Path, width: int = 1200, scheme: str = "light") -> webdriver.Chrome:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for name in ("browser", "performance"):
            log(browser, name)
        browser.get(path.as_uri())
        return browser

    return show


def log(browser: webdriver.Chrome, name: str) -> list[dict[str, Any]]:
    """What the browser noted since it was last asked: its console, or its work."""
    return browser.get_log(name)  # type: ignore[no-untyped-call]


def requests(browser: webdriver.Chrome) -> list[str]:
    """The addresses of everything that was asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in log(browser, "performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


def bring(browser: webdriver.Chrome, item: WebElement) -> None:
    """Scroll to the item, and wait until the page has been drawn there."""
    browser.execute_async_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'});"
        "requestAnimationFrame(() => requestAnimationFrame(arguments[1]))",
        item,
    )


def colour(browser: webdriver.Chrome, css: str, name: str) -> list[int]:
    text = browser.find_element(By.CSS_SELECTOR, css).value_of_css_property(name)
    return [int(float(part)) for part in text[text.index("(") + 1 : -1].split(",")[:3]]


def test_the_console_is_silent_and_nothing_is_fetched(shown: Open, page: Path) -> None:
    chrome = shown(page)
    assert log(chrome, "browser") == []
    assert [url for url in requests(chrome) if not url.startswith("data:")] == [page.as_uri()]
    assert chrome.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_the_test_hears_errors_and_requests(shown: Open, page: Path, tmp_path: Path) -> None:
    """The two checks above can fail: a page with a foreign picture and script sets both off."""
    spoilt = tmp_path / "spoilt.html"
    text = page.read_text().replace("</main>", "<img src='x.png'><script>f()</script></main>")
    spoilt.write_text(text)
    chrome = shown(spoilt)
    assert len(log(chrome, "browser")) >= 2  # refused by the page's own policy
    start = text.index('<meta http-equiv="Content-Security-Policy"')
    spoilt.write_text(text[:start] + text[text.index(">", start) + 1 :])
    assert any(url.endswith("x.png") for url in requests(shown(spoilt)))


def test_every_section_is_there_and_reachable_from_the_contents(shown: Open, page: Path) -> None:
    chrome = shown(page)
    headings = [item.text for item in chrome.find_elements(By.CSS_SELECTOR, "section h2")]
    assert [text.split(maxsplit=1)[-1].strip() for text in headings] == [s.title for s in OWN]
    assert chrome.find_elements(By.CSS_SELECTOR, "#missing, .absent") == []
    for link in chrome.find_elements(By.CSS_SELECTOR, "nav a, .strip a"):
        target = str(link.get_attribute("href")).partition("#")[2]
        assert chrome.find_element(By.ID, target).tag_name == "section"
    for section in OWN:
        body = chrome.find_element(By.ID, section.key)
        assert body.find_elements(By.CSS_SELECTOR, "table, dl, svg"), section.key


def test_pointing_at_a_mark_shows_its_value(shown: Open, page: Path) -> None:
    chrome = shown(page)
    tip = chrome.find_element(By.ID, "tip")
    assert not tip.is_displayed()
    mark = chrome.find_elements(By.CSS_SELECTOR, "#accuracy .mark:has(.sign)")[-1]
    bring(chrome, mark)
    ActionChains(chrome).move_to_element(mark).perform()
    assert tip.is_displayed() and tip.text.startswith("after step")
    assert "0 of 600" in tip.text
    ActionChains(chrome).move_by_offset(0, -400).perform()
    assert not tip.is_displayed()


def test_arrow_keys_go_from_mark_to_mark(shown: Open, page: Path) -> None:
    chrome = shown(page)
    plot = chrome.find_element(By.CSS_SELECTOR, "#spikes svg.plot")
    bring(chrome, plot)
    chrome.execute_script("arguments[0].focus({preventScroll: true})", plot)
    said = []
    for _ in range(3):
        ActionChains(chrome).send_keys(Keys.ARROW_RIGHT).perform()
        said.append(chrome.find_element(By.ID, "tip").text)
    assert [text.partition(",")[2].partition(":")[0] for text in said] == [
        " step 1", " step 2", " step 3"
    ]  # fmt: skip
    ActionChains(chrome).send_keys(Keys.ESCAPE).perform()
    assert not chrome.find_element(By.ID, "tip").is_displayed()


def test_light_and_dark(shown: Open, page: Path) -> None:
    assert min(colour(shown(page), "body", "background-color")) > 240
    assert max(colour(shown(page), "body", "color")) < 60
    assert max(colour(shown(page, scheme="dark"), "body", "background-color")) < 40
    assert min(colour(shown(page, scheme="dark"), "body", "color")) > 200


@pytest.mark.parametrize("width", [390, 700, 1200])
def test_nothing_sticks_out_sideways(shown: Open, page: Path, width: int) -> None:
    chrome = shown(page, width)
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    drawings = chrome.execute_script(
        "return [...document.querySelectorAll('.drawn')].filter(d => d.offsetParent)"
        ".map(d => [d.scrollWidth, d.clientWidth])"
    )
    assert drawings and all(inner <= outer for inner, outer in drawings)


def test_verdicts_are_seen_on_a_phone_without_scrolling(
    shown: Open, page: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index.html"
    index.write_text(render_index("run", (Network("digits", read_run(page.with_suffix(".json"))),)))
    ends = (
        "const near = t => t.closest('.scroll').getBoundingClientRect();"
        "return [...document.querySelectorAll('td.good, td.bad, td.warn')]"
        ".filter(t => /^(lower|higher|model-dependent)$/.test(t.textContent.trim()))"
        ".map(t => [t.getBoundingClientRect().right, near(t).right])"
    )
    for path in (page, index):
        seen = shown(path, 390).execute_script(ends)
        assert seen and all(right <= edge for right, edge in seen), path.name


def test_a_table_ends_with_its_foot_on_paper_too(shown: Open, page: Path) -> None:
    """Browsers repeat a foot on every sheet, where it reads as the sum of what stands above."""
    chrome = shown(page)
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    feet = chrome.find_elements(By.TAG_NAME, "tfoot")
    assert feet and {f.value_of_css_property("display") for f in feet} == {"table-row-group"}
    heads = chrome.find_elements(By.TAG_NAME, "thead")
    assert {h.value_of_css_property("display") for h in heads} == {"table-header-group"}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_bars_in_a_table_begin_on_one_line(shown: Open, page: Path) -> None:
    starts = shown(page).execute_script(
        "return [...document.querySelectorAll('#spikes tbody .small')]"
        ".map(s => s.getBoundingClientRect().left)"
    )
    assert len(starts) > 1 and max(starts) - min(starts) < 0.5


def test_the_raster_has_a_key_in_the_colours_of_its_spikes(shown: Open, page: Path) -> None:
    chrome = shown(page)
    key = chrome.find_element(By.CSS_SELECTOR, "#raster .keys")
    assert key.text.split() == ["spike", "up", "spike", "down"]
    for sign in ("up", "down"):
        colours = {
            item.value_of_css_property("fill")
            for item in chrome.find_elements(By.CSS_SELECTOR, f"#raster rect.spike.{sign}")
        }
        assert len(colours) == 1, sign


def test_letters_in_plots_stay_readable_on_a_phone(shown: Open, page: Path) -> None:
    shrunk = shown(page, 390).execute_script(
        "return [...document.querySelectorAll('.picture:not(.quarter *) svg.plot')]"
        ".filter(s => s.getBoundingClientRect().width)"
        ".map(s => s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
    )
    assert shrunk and min(shrunk) > 0.9


def test_paper_shows_what_is_folded(shown: Open, page: Path) -> None:
    chrome = shown(page)
    seen = "return [...document.querySelectorAll('details table')].map(t => t.checkVisibility())"
    assert chrome.execute_script(seen) and not any(chrome.execute_script(seen))
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert all(chrome.execute_script(seen))
    assert not chrome.find_element(By.TAG_NAME, "nav").is_displayed()
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_its_script_the_browser_itself_shows_values(page: Path) -> None:
    text = page.read_text()
    assert text.count('<g class="mark"><title>') == text.count('<g class="mark">') > 100


def test_the_file_is_small_and_names_no_other(page: Path) -> None:
    text = page.read_text()
    assert len(text.encode()) < MOST_BYTES
    for needle in (' src="', "url(", "@import", '<link rel="stylesheet', "http://", "https://"):
        assert needle not in text, needle


def test_a_part_that_is_missing_is_named_with_its_command(
    shown: Open, run: Path, tmp_path: Path
) -> None:
    whole = read_run(run)
    path = tmp_path / "report.html"
    for part in whole.parts:
        rest = {name: value for name, value in whole.parts.items() if name != part}
        write_report(Report(rest), path)
        chrome = shown(path)
        assert log(chrome, "browser") == []
        gone = {section.key for section in OWN if section.part == part}
        found = chrome.find_elements(By.CSS_SELECTOR, "#missing [id]:not(h2)")
        assert {row.get_attribute("id") for row in found} == gone
        assert all(f"{part}.json" in row.text and "spikemorph" in row.text for row in found)
        shown_at_all = chrome.find_elements(By.CSS_SELECTOR, "section")
        assert gone.isdisjoint(section.get_attribute("id") for section in shown_at_all)


def spoil(value: Any, draw: random.Random) -> Any:
    """The value with one thing in it changed: a key gone, an entry gone, another type, a zero."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        if draw.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: spoil(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        index = draw.randrange(len(value))
        changed = [] if draw.random() < 0.3 else [spoil(value[index], draw)]
        return [*value[:index], *changed, *value[index + 1 :]]
    return draw.choice([None, 0, -1, 10**30, 1e-300, "", "<b>", [], {}, True])


def test_a_spoilt_run_is_refused_or_rendered_never_a_crash(run: Path) -> None:
    draw, whole = random.Random(0), read_run(run).parts
    rendered = 0
    for part in whole:
        for _ in range(15):
            changed = {**whole, part: spoil(whole[part], draw)}
            try:
                report = Report(changed)
            except InputError as error:
                assert str(error).startswith(f"{part}.json")
                continue
            assert "</html>" in render_report(report)
            rendered += 1
    assert rendered > 15
