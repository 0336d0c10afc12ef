"""The page in a real browser; run by ``python -m pytest tests/browser``, with Debian's chromium and the extra browser.

``PICTURES=docs/pictures`` writes the guide's screenshots there, ``RUN=...`` looks at a run of your own instead of a
planted one. Posters are the studios': pictures are taken without them, of title cards.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from planted import Planted
from playwright.sync_api import Page, expect, sync_playwright

from recbole_mm.quick_start import run

ROOT = Path(__file__).resolve().parents[2]
SLOW_MS = 20_000


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server on loopback with a planted run, or the one named by RUN."""
    where = os.environ.get("RUN")
    if where is None:
        root = tmp_path_factory.mktemp("page")
        data = Planted(root / "dataset").write()
        facts = {"genre": {"field": "class", "encoding": "multi_hot"}}
        config = data.config(modalities={**data.register(image="both", text="b"), **facts}, epochs=2)
        run("MMFusion", data.name, config=config, run_dir=root / "run")
        where = str(root / "run")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "recbole_mm", "serve", "--run", where, "--port", str(port)]
    server = subprocess.Popen([sys.executable, *words], cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url + "/ready", server)
        yield url
        server.terminate()
        assert server.wait(timeout=15) in (0, -15)  # a graceful stop
    finally:
        server.kill()


def wait_for(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server stopped"
        try:
            with urllib.request.urlopen(url):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer")


@pytest.fixture(scope="module")
def browser():
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    assert executable, "no chromium; apt-get install chromium"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    """A desktop page that has not failed, and asked nobody but its server."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    problems, asked = [], []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    yield opened
    opened.close()
    assert not problems
    assert all(url.startswith((address, "data:")) for url in asked)


def like(page: Page, title: str, *, dislike: bool = False) -> None:
    """Search for a film and say what one thinks of it."""
    page.get_by_label("Search films").fill(title)
    expect(page.locator("#found-title")).to_contain_text(title, timeout=SLOW_MS)
    page.locator("#found button." + ("no" if dislike else "yes")).first.click()


def ranking(page: Page) -> list[str]:
    return [line.get_attribute("data-film") for line in page.locator("#list > li").all()]


def picture(page: Page, name: str, **options) -> None:
    folder = os.environ.get("PICTURES")
    if folder:
        page.screenshot(path=str(ROOT / folder / name), **options)


def films_of(page: Page) -> list[str]:
    """Titles to search for: well-known ones, or the planted data's."""
    return ["Toy Story", "Fargo", "Jurassic Park"] if os.environ.get("RUN") else ["i12", "i34", "i56"]


def test_from_nothing_to_a_list_with_reasons(page):
    expect(page.get_by_text("Nothing here yet.")).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("#found > li")).to_have_count(8, timeout=SLOW_MS)
    picture(page, "page-empty.png")
    first, second, third = films_of(page)
    like(page, first)
    expect(page.locator("#list > li")).to_have_count(12, timeout=SLOW_MS)
    expect(page.get_by_text("Nothing here yet.")).to_be_hidden()
    expect(page.locator("#list .reason").first).to_contain_text("Because you liked")
    like(page, second)
    like(page, third, dislike=True)
    expect(page.locator("#mine-list > li")).to_have_count(3)
    expect(page.locator("#list .bar").first).to_be_visible(timeout=SLOW_MS)
    shown = page.locator("#mine-list").inner_text()
    assert "Not " in shown
    page.get_by_label("Search films").fill("")
    expect(page.locator("#found-title")).to_have_text("Popular films", timeout=SLOW_MS)
    picture(page, "page-list.png")
    before = ranking(page)
    page.get_by_role("group", name="Favourite genres").get_by_role("button").nth(0).click()
    expect(page.locator("#status")).to_contain_text("12 films")
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator("#mine")).to_be_hidden()
    assert len(before) == 12


def test_the_slider_between_plot_and_poster_changes_the_list(page):
    like(page, films_of(page)[0])
    expect(page.locator("#list > li")).to_have_count(12, timeout=SLOW_MS)
    lists = []
    for value in ("-10", "10"):
        with page.expect_response("**/api/recommend"):
            page.locator("#lean").fill(value)
        page.wait_for_timeout(300)
        lists.append(ranking(page))
    assert lists[0] != lists[1]
    expect(page.locator("#lean-left")).to_have_text("Plot")
    expect(page.locator("#lean-right")).to_have_text("Poster")


def test_similar_films(page):
    like(page, films_of(page)[0])
    page.locator("#list").get_by_role("button", name="Films like").first.click(timeout=SLOW_MS)
    dialog = page.locator("dialog#similar")
    expect(dialog).to_be_visible(timeout=SLOW_MS)
    expect(dialog.locator("#similar-list > li")).to_have_count(12)
    with page.expect_response("**/similar?k=12&by=text"):
        dialog.get_by_label("Alike by").select_option("text")
    picture(page, "page-similar.png")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_by_keyboard_alone(page):
    expect(page.locator("#found > li")).to_have_count(8, timeout=SLOW_MS)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to your list")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Search films")).to_be_focused()
    page.keyboard.type(films_of(page)[1])
    expect(page.locator("#found-title")).to_contain_text(films_of(page)[1], timeout=SLOW_MS)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Like")
    page.keyboard.press("Enter")
    expect(page.locator("#list > li")).to_have_count(12, timeout=SLOW_MS)
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_on_a_phone(browser, address):
    phone = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark")
    phone.goto(address)
    expect(phone.locator("#found > li")).to_have_count(8, timeout=SLOW_MS)
    like(phone, films_of(phone)[0])
    expect(phone.locator("#list > li")).to_have_count(12, timeout=SLOW_MS)
    assert phone.evaluate("() => document.documentElement.scrollWidth") <= 390
    phone.locator("#answer-title").scroll_into_view_if_needed()
    phone.evaluate("() => document.querySelector('.answer').scrollIntoView()")
    picture(phone, "page-phone.png")
    phone.close()
