"""The book as a reader's browser shows it: headless Chromium, light and dark, at a desk and on a phone.

To be run after `make book`, with playwright and Chromium; the default suite does not collect it.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

BOOK = Path(__file__).parents[2] / "build" / "book"
PAGES = [path.stem for path in sorted(BOOK.glob("*.html"))]
CHROMIUM = "/usr/bin/chromium"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]  # no sandbox for root
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]  # nothing that calls home
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the module."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


SCREENS = {"desk-light": (DESK, "light"), "desk-dark": (DESK, "dark")}
SCREENS |= {"phone-light": (PHONE, "light"), "phone-dark": (PHONE, "dark")}


@pytest.fixture(params=SCREENS.values(), ids=SCREENS)
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page that fails its test if the console shows an error or a request leaves the file system."""
    viewport, scheme = request.param
    page = browser.new_page(viewport=viewport, color_scheme=scheme)
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("requestfailed", lambda asked: troubles.append(f"failed: {asked.url}"))
    page.on("request", lambda asked: None if asked.url.startswith("file://") else troubles.append(asked.url))
    yield page
    page.close()
    assert not troubles


def visit(page: Page, name: str) -> None:
    """Open a page of the book with all its pictures loaded."""
    page.goto((BOOK / f"{name}.html").as_uri())
    page.evaluate("""async () => {
        document.querySelectorAll("img").forEach(image => { image.loading = "eager"; });
        await document.fonts.ready;
        await Promise.all([...document.images].map(image => image.decode()));
    }""")


@pytest.mark.parametrize("name", PAGES)
def test_page_is_drawn_and_accessible(page: Page, name: str) -> None:
    visit(page, name)
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 100 && image.alt.length > 20)")
    small = """[...document.querySelectorAll("figure img")].filter(image => !image.closest("details")
        && image.getBoundingClientRect().width < (innerWidth > 1000 ? 0.99 : 0.79) * image.getAttribute("width"))
        .map(image => image.src)"""
    assert page.evaluate(small) == [], "figures whose type is smaller than the others'"
    if page.locator("math").count():
        assert page.evaluate("document.fonts.check('16px \"Book Math\"')"), "the font of the equations is not loaded"
    flat = """[...document.querySelectorAll("math")].filter(m => m.getBoundingClientRect().height < 5
        || m.querySelector("merror") || getComputedStyle(m).color !== getComputedStyle(m.parentElement).color)
        .map(m => m.textContent)"""
    assert page.evaluate(flat) == [], "equations that are not drawn, or not in the text's colour"
    outside = """[...document.querySelectorAll(".equation, math")].filter(e => e.scrollWidth > e.clientWidth + 1
        && e.matches(".equation") || e.getBoundingClientRect().right
        > e.closest("p, li, td, th, figcaption, .equation, .subtitle").getBoundingClientRect().right + 1)
        .map(e => [e.closest("section")?.id, (e.querySelector("annotation") || e).textContent])"""
    assert page.evaluate(outside) == [], "equations that are cut off or scroll"
    assert page.locator("h1").count() == 1
    violations = Axe().run(page, options={"preload": False}).response["violations"]
    grave = [each for each in violations if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"][:160] for node in each["nodes"]][:3]) for each in grave] == []


def test_the_two_columns_stand_beside_each_other_and_their_lines_level(browser: Browser) -> None:
    page = browser.new_page(viewport=DESK)
    visit(page, "gmm")
    pairs = page.evaluate("""[...document.querySelectorAll("section .pair")].map(pair =>
        [...pair.querySelectorAll(".side")].map(side => [side.getBoundingClientRect().left,
            ...[...side.querySelectorAll(".line")].map(line => Math.round(line.getBoundingClientRect().top))]))""")
    assert pairs
    for (left, *ours), (right, *theirs) in pairs:
        assert left + 300 < right
        assert ours == theirs
    page.close()


def test_one_framework_alone_by_keyboard_and_from_page_to_page(browser: Browser) -> None:
    page = browser.new_page(viewport=DESK)
    visit(page, "coin")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the text"
    page.locator("#show-both").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("section .torch").first.is_visible()
    assert not page.locator("section .tf2").first.is_visible()
    page.locator("a[rel=next]").first.click()
    assert page.url.endswith("gaussian.html")
    assert not page.locator("section .tf2").first.is_visible()
    tinted = """[...document.querySelectorAll(".line, .line mark")].filter(e => e.checkVisibility()
        && getComputedStyle(e).backgroundColor !== "rgba(0, 0, 0, 0)").length"""
    assert page.evaluate(tinted) == 0, "with one framework shown there is nothing to differ from"
    page.locator("#show-both").check(force=True)
    assert page.evaluate(tinted) > 0
    visit(page, "index")
    page.locator("#show-tf2").check(force=True)
    page.locator(".turn a[rel=next]").click()
    assert page.url.endswith("coin.html")
    assert not page.locator("section .torch").first.is_visible()
    page.close()


def test_measured_tables_are_folded_and_unfold(browser: Browser) -> None:
    page = browser.new_page(viewport=DESK)
    visit(page, "gmm")
    tables = page.locator("aside.measured table")
    assert tables.count() > 3
    assert not any(tables.nth(i).is_visible() for i in range(tables.count()))
    page.locator("aside.measured summary").first.click()
    assert tables.first.is_visible()
    page.close()


def test_the_search_finds_by_word_and_name_and_is_led_by_keys(page: Page) -> None:
    visit(page, "index")
    page.keyboard.press("/")
    page.keyboard.type("log_beta")
    first = page.locator("#found a").first
    first.wait_for()
    assert first.get_attribute("href") == "coin.html#log_beta"
    page.locator("#search").fill("sensible maximum spike")
    assert page.locator("#found a").first.get_attribute("href").startswith("singularity.html")
    page.locator("#search").fill("zzzz")
    assert page.locator("#found").inner_text() == "No section has these words."
    page.keyboard.press("Escape")
    assert not page.locator("#found").is_visible()
    page.locator("#search").fill("log_beta")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/coin.html#log_beta")


def test_an_exercise_checks_the_readers_number(page: Page) -> None:
    visit(page, "coin")
    form = page.locator(".exercise form").first
    for typed, said in (
        ("", "Type a number, such as 0.25 or 1/4."),
        ("heads", "Type a number, such as 0.25 or 1/4."),
        ("0.75", "Not yet."),
        (" 4 / 5", "Right."),
        ("0,8", "Right."),
    ):
        form.locator("input").fill(typed)
        form.locator("input").press("Enter")
        assert form.locator("output").inner_text() == said
    visit(page, "networks")
    form = page.locator(".exercise form").first
    for typed, said in (("6902", "Not yet."), ("6,904", "Right.")):
        form.locator("input").fill(typed)
        form.locator("button").click()
        assert form.locator("output").inner_text() == said
    answer = page.locator(".exercise details").nth(1)
    assert not answer.locator("pre").is_visible()
    answer.locator("summary").click()
    assert answer.locator("pre").is_visible()


REPLAYS = [name for name in PAGES if 'class="replay"' in (BOOK / f"{name}.html").read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", REPLAYS)
def test_every_replay_steps_plays_scrubs_and_changes_its_run(page: Page, name: str) -> None:
    visit(page, name)
    for figure in page.locator(".replay").all():
        said, slider, drawing = figure.locator("output"), figure.locator("input").first, figure.locator(".panels")
        slider.focus()
        page.keyboard.press("Home")
        first, words = drawing.inner_html(), said.inner_text()
        page.keyboard.press("ArrowRight")
        assert drawing.inner_html() != first
        assert said.inner_text() != words
        if not figure.locator("button").count():  # a plane: pointing at its panel picks the place
            before = said.inner_text()
            box = figure.locator("svg").first.bounding_box()
            figure.locator("svg").first.click(position={"x": 0.75 * box["width"], "y": 0.25 * box["height"]})
            assert said.inner_text() != before
            continue
        back, play, step = figure.locator("button").all()
        back.press("Enter")
        assert drawing.inner_html() == first
        assert back.is_disabled()
        step.click()
        assert drawing.inner_html() != first
        play.press("Space")
        assert play.inner_text() == "Pause"
        page.wait_for_timeout(700)
        play.click()
        assert play.inner_text() == "Play"
        stopped = said.inner_text()
        page.wait_for_timeout(600)
        assert said.inner_text() == stopped
        if figure.locator("select").count():
            slider.press("End")
            last = drawing.inner_html()
            figure.locator("select").select_option(index=1)
            slider.press("End")
            assert drawing.inner_html() != last


@pytest.mark.parametrize("name", REPLAYS)
def test_nothing_moves_unasked_and_little_where_motion_is_to_be_reduced(browser: Browser, name: str) -> None:
    page = browser.new_page(viewport=DESK, reduced_motion="reduce")
    visit(page, name)
    before = page.locator("main").inner_html()
    page.wait_for_timeout(600)
    assert page.locator("main").inner_html() == before
    figure = page.locator(".replay").filter(has=page.locator("button")).first
    if figure.count():
        play = figure.get_by_role("button", name="Play")
        play.click()
        shown = figure.locator("input").first.input_value()
        page.wait_for_timeout(700)
        assert figure.locator("input").first.input_value() == shown, "a frame stays for a second"
        page.wait_for_timeout(700)
        assert figure.locator("input").first.input_value() != shown
        assert page.evaluate("document.getAnimations().length") == 0
    page.close()


@pytest.mark.parametrize("name", REPLAYS)
def test_without_scripts_a_replay_shows_its_last_frame_and_a_script_draws_the_same(browser: Browser, name: str) -> None:
    shown = []
    for scripts in (False, True):
        context = browser.new_context(viewport=DESK, java_script_enabled=scripts)
        page = context.new_page()
        page.goto((BOOK / f"{name}.html").as_uri())
        shown.append(page.content())
        context.close()
    plain, scripted = (re.findall(r'<div class="panels">(.*?)</div>', html, re.S) for html in shown)
    planes = [i for i, svg in enumerate(scripted) if "data-plane" in svg]  # which begin in their middle
    assert len(plain) == len(scripted) > 0
    assert [s for i, s in enumerate(plain) if i not in planes] == [s for i, s in enumerate(scripted) if i not in planes]
    assert 'class="controls"' not in shown[0]
    assert 'class="controls"' in shown[1]


def test_the_book_is_small_and_a_chapter_painted_within_a_second(browser: Browser) -> None:
    files = [path for path in BOOK.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix != ".pdf") < 10e6
    scripts = [path for path in files if path.suffix == ".js" and path.name != "index.js"]  # that is the words
    assert sum(path.stat().st_size for path in scripts) < 30e3
    for name in ("coin", "gmm", "vae"):
        page = browser.new_page(viewport=DESK)
        page.goto((BOOK / f"{name}.html").as_uri())
        painted = """new Promise(said => new PerformanceObserver(list => said(list.getEntriesByName(
            "first-contentful-paint")[0].startTime)).observe({ type: "paint", buffered: true }))"""
        assert page.evaluate(painted) < 1000, name
        page.close()


def test_prints_without_its_controls(browser: Browser) -> None:
    page = browser.new_page(viewport=DESK, color_scheme="dark")
    visit(page, "em")
    printed = page.pdf(format="A4", print_background=True)
    assert io.BytesIO(printed).read(5) == b"%PDF-"
    page.emulate_media(media="print")
    assert not page.locator(".bar").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()


@pytest.mark.parametrize("by", ["mouse", "keyboard", "tap"])
def test_a_term_lights_up_its_lines_in_both_and_its_value(page: Page, by: str) -> None:
    visit(page, "gmm")
    section, term = page.locator("#m_step"), page.locator("#m_step .equation [data-term='2']").first
    if by == "mouse":
        term.hover()
    elif by == "keyboard":
        page.evaluate("document.querySelector('#m_step .equation [tabindex]').focus()")
        page.keyboard.press("Tab")  # pi_k, then mu_k
        page.keyboard.press("Tab")
        assert term.evaluate("e => e === document.activeElement")
    else:
        term.click()
        page.mouse.move(1, 1)
    lines = section.locator(".line.lit").all_inner_texts()
    assert sum(line.strip().startswith("means = ") for line in lines) == 2
    assert not any(line.strip().startswith("weights = ") for line in lines)
    assert section.locator("li.lit").count() == 1
    assert section.locator("li.lit mtd").all_text_contents() == ["2", "4"]
    if by == "tap":
        page.keyboard.press("Escape")
        assert section.locator(".lit").count() == 0
    section.locator("li").nth(0).hover()
    assert section.locator("mrow.lit").count() > 0, "pointing at a value lights up its term"


def test_the_contents_stay_in_the_margin_of_a_wide_screen(page: Page) -> None:
    page.set_viewport_size({"width": 1600, "height": 900})
    visit(page, "gmm")
    page.locator("#m_step").evaluate("e => e.scrollIntoView()")
    page.wait_for_function("document.querySelector('.contents [aria-current]')?.hash === '#m_step'")
    contents = page.locator(".contents").bounding_box()
    assert contents["y"] >= 0
    assert contents["y"] + contents["height"] <= 900
    beside = ".pair, .text, .worked, .measured, figure, figure img"
    reach = page.evaluate(
        f"Math.max(...[...document.querySelectorAll('{beside}')].map(e => e.getBoundingClientRect().right))"
    )
    assert reach < contents["x"], "something lies under the contents"


@pytest.mark.parametrize("name", ["index", "elbo"])
def test_a_word_is_explained_where_it_is_pointed_at(page: Page, name: str) -> None:
    visit(page, name)
    word = page.locator(".gloss").filter(has_text="lower bound").first
    shown = "e => getComputedStyle(e, '::after').display"
    assert word.evaluate(shown) == "none"
    word.hover()
    assert word.evaluate(shown) == "block"
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    word.click()
    assert page.url.endswith("glossary.html#lower-bound")
    assert page.locator("li:target").inner_text().startswith("lower bound: ")
