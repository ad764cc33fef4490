"""The page in a real browser: it sorts, filters and opens, complains of nothing and asks the network for nothing."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from sersearch.report.folder import read_report
from sersearch.report.page import page
from sersearch.report.text import comma_separated
from sersearch.run.run import open_run
from sersearch.store.reader import Store
from tests.generated import generate_run

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
STUDY = """
name = "<b>study</b> & sons"
spaces = [
    { name = "s", model = "S-CLDNN", h1 = "4:9", h2 = "3:4" },
    { name = "t", model = "T-CLDNN", w1 = "3:8", w2 = 2, features = ["log-mels", "mfccs"] },
    { name = "fst", model = "FST-CLDNN", w1 = "3:8", learning_rate = [0.001, 0.01], w2 = "2:3" },
    { name = "sweep", model = "S-CLDNN", h1 = "4:30", h2 = 3 },
]
[partition]
train = 34
validation = 33
test = 33
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver here: the page is not tested in a browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def file(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "study.toml").write_text(STUDY)
    run = generate_run(folder / "it's a run", folder / "study.toml", tiny_store)
    (folder / "report.html").write_text(page(read_report(run)))
    return folder / "report.html"


@pytest.fixture
def opened(browser: webdriver.Chrome, file: Path) -> webdriver.Chrome:
    resize(browser, 1280)
    browser.get(file.as_uri())
    return browser


def resize(browser: webdriver.Chrome, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def all_of(browser: webdriver.Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def column(browser: webdriver.Chrome, label: str) -> list[str]:
    cells = all_of(browser, f'.board:not([hidden]) .entry td[data-column="{label}"]')
    return [cell.text.split()[0] for cell in cells if cell.is_displayed()]


def heading(browser: webdriver.Chrome, label: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, f'.board:not([hidden]) thead th[data-column="{label}"] button')


def choose(browser: webdriver.Chrome, selector: str, words: str) -> None:
    Select(browser.find_element(By.CSS_SELECTOR, selector)).select_by_visible_text(words)


def test_nothing_is_asked_of_the_network_and_nothing_complained_of(opened: webdriver.Chrome, file: Path) -> None:
    for button in all_of(opened, "#wide .toggle button"):
        button.click()
    told = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [each["params"] for each in told if each["method"] == "Network.requestWillBeSent"]
    urls = {each["request"]["url"] for each in asked if each["documentURL"] == file.as_uri()}
    assert file.as_uri() in urls
    assert all(url == file.as_uri() or url.startswith("data:") for url in urls), urls
    assert opened.get_log("browser") == []
    assert opened.title == "<b>study</b> & sons: leaderboard"


def test_it_sorts_by_numbers_and_by_names(opened: webdriver.Chrome) -> None:
    for label in ("test UA, clean", "test UA, noisy", "noisy copies alone"):
        heading(opened, label).click()
        values = [float(value.replace(",", "")) for value in column(opened, label)]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)
        heading(opened, label).click()
        assert [float(v.replace(",", "")) for v in column(opened, label)] == sorted(values)
        assert len(all_of(opened, '#wide th[aria-sort="ascending"]')) == 1
    heading(opened, "model").click()
    assert column(opened, "model") == sorted(column(opened, "model"))
    choose(opened, "#form", "one per model and condition")
    assert len(column(opened, "model")) == 10
    heading(opened, "place").click()
    assert column(opened, "place") == sorted(column(opened, "place"))


def test_it_filters_and_searches(opened: webdriver.Chrome) -> None:
    assert len(column(opened, "model")) == 5
    choose(opened, "select[name=features]", "mfccs")
    assert column(opened, "model") == ["T-CLDNN"]
    assert opened.find_element(By.ID, "count").text == "1 of 5 rows"
    choose(opened, "select[name=model]", "S-CLDNN")
    assert column(opened, "model") == []
    for name in ("features", "model"):
        choose(opened, f"select[name={name}]", "all")
    search = opened.find_element(By.NAME, "search")
    search.send_keys("SWEEP s-cldnn")
    assert column(opened, "space") == ["sweep"]
    choose(opened, "#form", "one per model and condition")
    assert column(opened, "condition") == ["clean", "noisy"]
    assert opened.find_element(By.ID, "count").text == "2 of 10 rows"


def test_columns_can_be_chosen(opened: webdriver.Chrome) -> None:
    assert column(opened, "configuration, clean") == []
    opened.find_element(By.CSS_SELECTOR, ".columns summary").click()
    boxes = {label.text: label for label in all_of(opened, "#columns label")}
    boxes["configuration, clean"].click()
    assert len(column(opened, "configuration, clean")) == 5
    boxes["parameters"].click()
    assert column(opened, "parameters") == []
    boxes["clean: paper (%)"].click()
    assert len(column(opened, "paper, clean")) == 5, "on request, on any corpus"


def test_the_csv_is_that_of_the_leaderboard(opened: webdriver.Chrome, file: Path, tmp_path: Path) -> None:
    opened.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    opened.find_element(By.ID, "download").click()
    saved = tmp_path / "leaderboard.csv"
    WebDriverWait(opened, 10).until(lambda _: saved.exists())
    facts = read_report(open_run(file.parent / "it's a run"))
    assert saved.read_text() == comma_separated(facts)


def test_the_head_says_the_result_the_date_and_what_this_is(opened: webdriver.Chrome, file: Path) -> None:
    facts = read_report(open_run(file.parent / "it's a run"))
    words = opened.find_element(By.CLASS_NAME, "headline").text
    for condition in ("clean", "noisy"):
        row = facts.ranked(condition)[0]
        assert row.test
        assert f"{row.winner.title}, test UA {row.test.overall.ua:.2f} %" in words
    assert f"Guessing gives {100 / len(facts.run.store.emotions):.2f} %" in words
    about = opened.find_element(By.CLASS_NAME, "about").text
    last = max(result.finished for result in facts.run.ledger.results().values())
    assert f"finished on {last[:16].replace('T', ' ')} UTC" in about
    assert "3 copies per utterance" in about
    assert opened.find_element(By.CSS_SELECTOR, "#glossary dl").is_displayed()


def test_a_row_opens_with_the_keyboard(opened: webdriver.Chrome) -> None:
    button = all_of(opened, "#wide .toggle button")[0]
    opened.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-expanded") == "true"
    details = all_of(opened, "#wide .details")[0]
    assert details.is_displayed()
    assert "sersearch rerun '" in details.text
    assert re.search(r"validation UA \d+\.\d\d, test UA \d+\.\d\d, test opened 2026", details.text)
    for word in ("learning_rate", "git commit", "seed 0", "test opened", "Confusions", "By SNR", "By kind of noise"):
        assert word in details.text
    assert len(details.find_elements(By.CSS_SELECTOR, ".detail")) == 2, "one per condition"
    assert len(details.find_elements(By.CSS_SELECTOR, ".row-curves .chart")) == 4
    button.send_keys(Keys.SPACE)
    assert not details.is_displayed()


def test_details_move_with_the_form_of_the_table(opened: webdriver.Chrome) -> None:
    all_of(opened, "#wide .toggle button")[1].click()
    choose(opened, "#form", "one per model and condition")
    assert all_of(opened, ".details:not([hidden])") == []
    all_of(opened, "#long .toggle button")[0].click()
    (details,) = all_of(opened, "#long .details:not([hidden])")
    assert len(details.find_elements(By.CSS_SELECTOR, ".detail")) == 1
    choose(opened, "#form", "one per model")
    for button in all_of(opened, "#wide .toggle button"):
        button.click()
    assert len(all_of(opened, "#wide .detail")) == 10


def test_charts_show_the_values_under_the_pointer(opened: webdriver.Chrome) -> None:
    choose(opened, "#curves-group", "FST-CLDNN (log-mels), fst")
    choose(opened, "#curves-figure", "validation UA, clean")
    path = opened.find_element(By.CSS_SELECTOR, "#curves-chart path.series")
    opened.execute_script("arguments[0].scrollIntoView({ block: 'center' })", path)
    point = opened.execute_script(
        "const p = arguments[0].getPointAtLength(0).matrixTransform(arguments[0].getScreenCTM()); return [p.x, p.y]",
        path,
    )
    builder = ActionBuilder(opened)
    builder.pointer_action.move_to_location(*map(round, point))
    builder.perform()
    tip = opened.find_element(By.CSS_SELECTOR, "#curves-chart .tip")
    assert tip.is_displayed()
    assert re.fullmatch(r"best, .*: [\d.]+ at epoch 1", tip.text)


def test_the_pareto_front_has_no_better_and_cheaper_configuration(opened: webdriver.Chrome) -> None:
    points = "data.groups.flatMap((g) => g.configurations.map((c) => [c[0], c[2][0]]))"
    points, front = opened.execute_script(f"const p = {points}; return [p, paretoFront(p)]")
    dominated = [p for p in points if any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)]
    assert sorted(front) == sorted(p for p in points if p not in dominated)


def test_labels_of_axes_do_not_cover_each_other(opened: webdriver.Chrome) -> None:
    overlaps = """
        const apart = (a, b, c, d) => b - c <= 1 || d - a <= 1;
        const beside = (p, q) => apart(p.left, p.right, q.left, q.right);
        const covers = (p, q) => !beside(p, q) && !apart(p.top, p.bottom - 2, q.top, q.bottom - 2);
        const charts = document.querySelectorAll("section > [id$=-chart] svg.chart, #sweeps-charts svg.chart");
        return [...charts].flatMap((svg) => {
            const texts = [...svg.querySelectorAll("text")];
            const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
            return boxes.flatMap(([a, p], i) => boxes.slice(i + 1)
                .filter(([, q]) => covers(p, q))
                .map(([b]) => `${svg.getAttribute("aria-label")}: ${a} / ${b}`));
        });
    """
    for width in (1400, 390):
        resize(opened, width)
        assert opened.execute_script(overlaps) == []


def test_a_row_on_a_phone_is_low(opened: webdriver.Chrome) -> None:
    resize(opened, 390)
    heights = [row.rect["height"] for row in all_of(opened, "#wide .entry")]
    assert max(heights) < 120


def test_charts_follow_their_selects(opened: webdriver.Chrome) -> None:
    def drawn(chart: str) -> Any:
        return opened.find_element(By.CSS_SELECTOR, f"{chart} svg").get_attribute("aria-label")

    for select, chart in (("#curves-group", "#curves-chart"), ("#coordinates-group", "#coordinates-chart")):
        options = Select(opened.find_element(By.CSS_SELECTOR, select))
        seen = set()
        for option in options.options:
            options.select_by_visible_text(option.text)
            assert option.text in drawn(chart)
            seen.add(drawn(chart))
        assert len(seen) == len(options.options) == 5
    figures = Select(opened.find_element(By.ID, "curves-figure"))
    titles = set()
    for option in figures.options:
        figures.select_by_visible_text(option.text)
        titles.add(drawn("#curves-chart"))
    assert len(titles) == 4
    Select(opened.find_element(By.ID, "coordinates-group")).select_by_visible_text("FST-CLDNN (log-mels), fst")
    marks = [each.text for each in all_of(opened, "#coordinates-chart text")]
    assert {"learning_rate", "0.001", "0.01"} <= set(marks)
    before = len(opened.find_element(By.ID, "coordinates-chart").get_attribute("innerHTML") or "")
    opened.find_element(By.ID, "coordinates-best").send_keys(Keys.HOME)
    assert len(opened.find_element(By.ID, "coordinates-chart").get_attribute("innerHTML") or "") < before
    assert len(all_of(opened, "#sweeps-charts svg.chart")) == 2
    assert len(all_of(opened, "#maps td.best")) == 10


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_nothing_runs_off_the_side(opened: webdriver.Chrome, width: int) -> None:
    resize(opened, width)
    all_of(opened, ".toggle button")[0].click()
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    for chart in ("#curves-chart svg", ".row-curves svg", "#sweeps-charts svg", "#coordinates-chart svg"):
        drawn = opened.find_element(By.CSS_SELECTOR, chart)
        scale = drawn.rect["width"] / float((drawn.get_dom_attribute("viewBox") or "").split()[2])
        assert 0.9 <= scale <= 1.1, "its words are as large as they are on a desk"


def test_print_shows_all_tables(opened: webdriver.Chrome) -> None:
    closed = "return document.querySelectorAll('details:not([open]):not(.columns)').length"
    before = opened.execute_script(closed)
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert opened.execute_script(closed) == 0
    opened.execute_script("dispatchEvent(new Event('afterprint'))")
    assert opened.execute_script(closed) == before > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_light_and_dark(opened: webdriver.Chrome, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    read = "const s = getComputedStyle(document.documentElement); return arguments[0].map((n) => s.getPropertyValue(n))"
    paper, raised, *inks = opened.execute_script(read, ["--paper", "--raised", "--ink", "--soft", "--accent", "--warn"])
    for ink in inks:
        assert contrast(ink, paper) >= 4.5, (ink, paper)
    assert contrast(inks[1], raised) >= 4.5
    assert (luminance(paper) < 0.1) == (scheme == "dark")


def luminance(colour: str) -> float:
    """WCAG 2's relative luminance of #rgb or #rrggbb."""
    digits = colour.strip().removeprefix("#")
    full = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    parts = [int(full[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    dark, light = sorted([luminance(a), luminance(b)])
    return (light + 0.05) / (dark + 0.05)


def test_an_unfinished_run_says_so_at_the_top(browser: webdriver.Chrome, tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    for trials in (0, 3):
        facts = read_report(
            generate_run(tmp_path / f"run-{trials}", tmp_path / "study.toml", tiny_store, trials=trials)
        )
        (tmp_path / "report.html").write_text(page(facts))
        browser.get((tmp_path / "report.html").as_uri())
        banner = browser.find_element(By.CLASS_NAME, "unfinished")
        assert banner.text.startswith(f"Unfinished: {trials} of")
        browser.execute_script("scrollTo(0, document.body.scrollHeight)")
        assert banner.rect["y"] >= browser.execute_script("return scrollY")
        assert browser.get_log("browser") == []
