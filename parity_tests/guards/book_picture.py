"""The README's picture of the book: EM on Old Faithful at play above the E step in both frameworks, an animated PNG.

python -m parity_tests.guards.book_picture book.png

To be run after `make book`, with playwright and Chromium.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from parity_tests.guards.book_in_browser import BOOK, CHROMIUM, QUIET

FRAMES = (*range(9), 10, 12, 15, 20)
STAY, FIRST, LAST = 450, 1500, 4000  # milliseconds
WIDTH, PIXELS = 1000, 1.5  # of the page, and of the picture for each of the page's
ALONE = """() => {
    const moving = document.querySelector(".replay"), step = document.querySelector("#e_step");
    step.querySelector(".beside").replaceWith(step.querySelector(".equation"));
    step.style = "border: none; margin: 0; padding: 0 0 1rem";
    document.querySelector("main").replaceChildren(moving, step);
    document.querySelectorAll(".bar form, .bar details, footer, .controls").forEach(e => e.remove());
    moving.style.width = "auto";
    moving.querySelector(".panels").style.justifyContent = "space-evenly";
    moving.querySelector("figcaption").remove();
}"""


def frames(page: Page) -> list[Image.Image]:
    """The chapter's moving figure and its E step, frame by frame; in the last a term and its lines are lit."""
    page.goto((BOOK / "gmm.html").as_uri())
    slider = page.locator(".replay input").first.element_handle()
    page.evaluate(ALONE)
    page.evaluate("document.fonts.ready")
    pictures = []
    for number in FRAMES:
        if number == FRAMES[-1]:  # the responsibilities, and the lines that compute them
            page.locator("#e_step .equation [data-term]").last.click()
        slider.evaluate(f"e => {{ e.value = {number}; e.dispatchEvent(new Event('input')); }}")
        box = {"x": 0, "y": 0, "width": WIDTH, "height": page.evaluate("document.body.scrollHeight")}
        pictures.append(Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB"))
    return pictures


def main(file: str) -> None:
    """Write the animated PNG, in 128 colours that all frames share."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        drawn = frames(browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=PIXELS))
        browser.close()
    shared = Image.new("RGB", (drawn[0].width, 2 * drawn[0].height))
    for i, picture in enumerate((drawn[0], drawn[-1])):
        shared.paste(picture, (0, i * picture.height))
    colours = shared.quantize(128)
    first, *others = (picture.quantize(palette=colours, dither=Image.Dither.NONE) for picture in drawn)
    times = [FIRST, *[STAY] * (len(others) - 1), LAST]
    first.save(file, save_all=True, append_images=others, duration=times, loop=0, optimize=True)
    print(f"{file}: {len(drawn)} frames, {Path(file).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
