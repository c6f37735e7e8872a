"""The HTML report as a reader sees it: in a browser, without a network, in light and dark."""

from pathlib import Path

import pytest

from tests.browsing import luminance
from tests.reports import make_examples, make_report

SECTIONS = {
    "alarms": "Alarms",
    "summary": "Summary",
    "scores": "Scores",
    "published": "Published results",
    "curves": "Recall curves",
    "histogram": "Ranks",
    "queries": "Worst and best queries",
    "protocol": "Protocol",
    "environment": "Environment",
    "failures": "Left out",
}


@pytest.fixture(scope="module")
def page_file(footage: Path, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report = make_report(alarms=("All 9 scores are equal.",), examples={"embedding": make_examples()})
    report.save(path, video_files={"dog.mp4": footage / "bikes.mp4", "cat.mp4": footage / "bigbuckbunny.mp4"})
    return path


def visit(browser, path: Path, **options):
    """The page, with its error messages and network requests."""
    page = browser.new_page(**options)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("request", lambda request: trouble.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(path.as_uri())
    assert trouble.pop(0) == path.as_uri()
    return page, trouble


def test_every_section_shows_without_an_error(browser, page_file):
    page, trouble = visit(browser, page_file, viewport={"width": 1200, "height": 900})
    for name, title in SECTIONS.items():
        section = page.locator(f"section#{name}")
        assert section.is_visible(), name
        assert section.locator("h2").inner_text() == title
        assert page.locator(f'nav a[href="#{name}"]').count() == 1
    assert page.locator("section").count() == len(SECTIONS)
    assert "All 9 scores are equal." in page.locator("#alarms").inner_text()
    assert page.locator("#scores table").count() == 2
    assert "uses the other test queries" in page.locator("#scores").inner_text()
    assert "35.6" in page.locator("#published").inner_text()
    assert "gone.mp4" in page.locator("#failures").inner_text()
    assert trouble == []


def test_plots_and_frames_are_drawn(browser, page_file):
    page, trouble = visit(browser, page_file, viewport={"width": 1200, "height": 900})
    for name in ("curves", "histogram"):
        plot = page.locator(f"#{name} svg")
        box = plot.bounding_box()
        assert plot.count() == 1 and box["width"] > 600 and box["height"] > 200
        assert plot.get_attribute("role") == "img" and plot.get_attribute("aria-label")
        assert "text to video" in plot.inner_html()
    images = page.locator("#queries img")
    assert images.count() == 3
    sizes = images.evaluate_all("images => images.map(image => [image.naturalWidth, image.naturalHeight])")
    assert sizes == [[448, 112]] * 3  # four frames of 112 pixels
    assert all(images.evaluate_all("images => images.map(image => image.alt)"))
    assert page.locator("#queries .placeholder").all_inner_texts() == ["man.mp4: no such file"]
    assert trouble == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser, page_file, scheme):
    page, _ = visit(browser, page_file, color_scheme=scheme)
    for place, on in (("#summary p", "#summary"), ("#alarms li", "#alarms"), ("#scores small", "#scores")):
        ink, ground = (
            luminance(page.locator(spot).first.evaluate(f"spot => getComputedStyle(spot).{style}"))
            for spot, style in ((place, "color"), (on, "backgroundColor"))
        )
        light, dark = max(ink, ground), min(ink, ground)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, place  # WCAG 2.2, 1.4.3: contrast of text
        assert (ground < 0.5) == (scheme == "dark")
    drawn = page.locator("#curves svg text").first.evaluate("text => getComputedStyle(text).fill")
    assert (luminance(drawn) > 0.5) == (scheme == "dark")


def test_a_phone_needs_no_sideways_scrolling(browser, page_file):
    page, _ = visit(browser, page_file, viewport={"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
