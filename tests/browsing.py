"""What tests ask of a page in a browser: contrast of texts, what is wrong with its structure, what a video shows."""

import base64
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The colours of every text that can be seen, and of what lies behind it, both as [red, green, blue].
_TEXTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const share = (colour) => colour[3] ?? 1;
  const over = (top, under) => top.slice(0, 3).map((value, n) => value * share(top) + under[n] * (1 - share(top)));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const colour = numbers(getComputedStyle(element).backgroundColor);
    if (share(colour) === 1) return colour.slice(0, 3);
    const backdrop = element.matches("dialog:modal") ? [255, 255, 255] : ground(element.parentElement);
    return over(colour, backdrop);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const isText = node.data.trim() && !element.closest("noscript, template, .hidden, datalist, option, :disabled");
    if (!isText || !element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
    const behind = ground(element);
    found.push([node.data.trim().slice(0, 40), over(numbers(getComputedStyle(element).color), behind), behind]);
  }
  for (const field of document.querySelectorAll("input:not([type=file])")) {
    if (!field.checkVisibility()) continue;
    const behind = ground(field);
    found.push([field.name, over(numbers(getComputedStyle(field).color), behind), behind]);
    const faint = numbers(getComputedStyle(field, "::placeholder").color);
    found.push([`${field.name}: placeholder`, over(faint, behind), behind]);
  }
  return found;
}"""

# What is wrong with the structure of a page, a line each.
_FAULTS = """() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility());
  const name = (one) => (one.getAttribute("aria-label") || one.innerText || one.title || one.textContent || "").trim();
  const tell = (is, said, one) => is || faults.push(`${said}: ${one.outerHTML.slice(0, 90)}`);
  if (!document.documentElement.lang) faults.push("the page names no language");
  if (!document.title) faults.push("the page has no title");
  if (!/width=device-width/.test(document.querySelector("meta[name=viewport]")?.content)) faults.push("no viewport");
  for (const landmark of ["header", "main", "search", "footer"])
    if (document.querySelectorAll(landmark).length < 1) faults.push(`no ${landmark}`);
  all("img").forEach((one) => tell(one.alt, "no alt", one));
  all("button, a").forEach((one) => tell(name(one), "no name", one));
  all("a").forEach((one) => tell(one.getAttribute("href"), "no address", one));
  all("input, select").forEach((one) => tell(one.labels.length || one.ariaLabel, "no label", one));
  all("[role=slider]").forEach((one) => tell(one.ariaLabel && one.ariaValueText && one.tabIndex === 0, "slider", one));
  all("[tabindex]").forEach((one) => tell(one.tabIndex <= 0, "changes the order of the focus", one));
  const levels = all("h1, h2, h3, h4").map((one) => Number(one.tagName[1]));
  levels.forEach((level, n) => level > (levels[n - 1] ?? level) + 1 && faults.push(`h${level} follows another`));
  if (levels.filter((level) => level === 1).length !== 1) faults.push("not one h1");
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  ids.forEach((id, n) => ids.indexOf(id) === n || faults.push(`twice: #${id}`));
  for (const attribute of ["aria-labelledby", "aria-describedby", "for", "list"])
    for (const one of document.querySelectorAll(`[${attribute}]`))
      tell(document.getElementById(one.getAttribute(attribute)), `${attribute} names nothing`, one);
  return faults;
}"""

# The picture that a video shows, as RGBA in base64.
_PICTURE = """(video) => {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let text = "";
  for (let n = 0; n < data.length; n += 32768) text += String.fromCharCode(...data.subarray(n, n + 32768));
  return [canvas.height, canvas.width, btoa(text)];
}"""


def luminance(colour: str | tuple[float, ...] | list[float]) -> float:
    """Relative luminance, [0, 1], of `rgb(r, g, b)`, or of three numbers up to 255 (WCAG 2.2)."""
    if isinstance(colour, str):
        colour = [float(channel) for channel in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    channels = [channel / 255 for channel in colour[:3]]
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def faint_texts(page: "Page", least: float = 4.5) -> list[tuple[str, float]]:
    """The visible texts that stand out less than they must (WCAG 2.2, 1.4.3), with their contrast."""
    found = []
    for text, ink, ground in page.evaluate(_TEXTS):
        dark, light = sorted([luminance(ink), luminance(ground)])
        contrast = (light + 0.05) / (dark + 0.05)
        if contrast < least:
            found.append((text, round(contrast, 2)))
    return found


def faults(page: "Page") -> list[str]:
    """What is wrong with the names, labels, headings and ids of a page."""
    return page.evaluate(_FAULTS)


def picture_shown(page: "Page", selector: str) -> NDArray[np.uint8]:
    """The picture that a video shows, (3, H, W)."""
    height, width, data = page.locator(selector).evaluate(_PICTURE)
    rgba = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
    return rgba[..., :3].transpose(2, 0, 1)
