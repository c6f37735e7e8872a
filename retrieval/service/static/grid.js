// The grid of results: keys that move in it, and previews of the moment under the pointer or the focus.
const PREVIEW_AFTER_MS = 250;
const CLIP_S = 30; // longer moments are not converted for a preview
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Let keys and the pointer work on the grid. */
export function openGrid({ go, player }) {
  const cards = () => [...document.querySelectorAll("#results .open")];
  const box = document.querySelector("#q"), keys = document.querySelector("#keys");

  /** The card that a key leads to: to the sides by one, up and down to the nearest of the next row. */
  function beside(card, key) {
    const all = cards(), place = all.indexOf(card);
    if (key === "Home" || key === "End") return all.at(key === "Home" ? 0 : -1);
    if (key === "ArrowRight" || key === "ArrowLeft") return all[place + (key === "ArrowRight" ? 1 : -1)];
    const down = key === "ArrowDown", here = card.getBoundingClientRect();
    const rows = (down ? all.slice(place + 1) : all.slice(0, place).reverse()).map((other) => [other, other.getBoundingClientRect()]);
    const next = rows.find(([, where]) => Math.abs(where.top - here.top) > 5)?.[1].top;
    const row = rows.filter(([, where]) => next !== undefined && Math.abs(where.top - next) <= 5);
    return row.sort(([, a], [, b]) => Math.abs(a.left - here.left) - Math.abs(b.left - here.left))[0]?.[0];
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || player.isOpen || keys.open) return;
    const { target, key } = event;
    const isTyping = target.matches("input, select, textarea"), card = target.closest(".open");
    if (key === "ArrowDown" && (target === box || target === document.body)) moveTo(cards()[0], event);
    if (isTyping) return;
    if (key === "/") {
      event.preventDefault();
      box.focus();
      box.select();
    } else if (key === "?") keys.showModal();
    else if (card && /^(Arrow|Home$|End$)/.test(key)) {
      const next = beside(card, key);
      moveTo(next ?? (key === "ArrowUp" ? box : null), event);
    } else if (card && key === "m") {
      const like = card.closest(".card").querySelector(".like");
      if (like) go(like.href);
    }
  });
  function moveTo(element, event) {
    if (!element) return;
    event.preventDefault();
    element.focus();
    element.scrollIntoView({ block: "nearest" });
  }

  let waiting = 0, previewed = null;
  function begin(card) {
    if (card === previewed) return;
    end();
    if (!card?.dataset.media || still.matches) return;
    previewed = card;
    waiting = setTimeout(() => play(card), PREVIEW_AFTER_MS);
  }
  function end() {
    clearTimeout(waiting);
    const video = previewed?.querySelector("video");
    video?.removeAttribute("src");
    video?.load(); // ends the download
    video?.remove();
    previewed = null;
  }
  const cardOf = (target) => (target instanceof Element ? target.closest("#results .open") : null);
  document.addEventListener("pointerover", (event) => event.pointerType !== "touch" && cardOf(event.target) && begin(cardOf(event.target)));
  document.addEventListener("pointerout", (event) => cardOf(event.target) && !cardOf(event.target).contains(event.relatedTarget) && end());
  document.addEventListener("focusin", (event) => cardOf(event.target)?.matches(":focus-visible") ? begin(cardOf(event.target)) : end());
}

/** Play a moment without sound over its picture, again and again. */
function play(card) {
  const video = document.createElement("video"), { media } = card.dataset;
  const clip = card.dataset.clip && `${card.dataset.clip}&width=480`; // a small one, made quickly
  let [start, end] = (media.split("#t=")[1] ?? "0").split(",").map(Number);
  Object.assign(video, { muted: true, playsInline: true, disablePictureInPicture: true, tabIndex: -1 });
  video.setAttribute("aria-hidden", "true");
  video.hidden = true;
  video.addEventListener("playing", () => (video.hidden = false));
  video.addEventListener("error", () => {
    if (!clip || video.src.endsWith(clip) || end - start > CLIP_S) return video.remove(); // the picture stays
    [start, end] = [0, undefined];
    video.src = clip; // of a file that the browser cannot play
  });
  const again = () => {
    video.currentTime = start;
    video.play().catch(() => {});
  };
  video.addEventListener("timeupdate", () => video.currentTime >= (end ?? Infinity) && again());
  video.addEventListener("ended", again);
  video.addEventListener("loadedmetadata", again);
  video.src = media.split("#")[0];
  card.querySelector(".frame").append(video);
}
