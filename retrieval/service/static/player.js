// The player: a dialog that plays a video from a moment, with a strip of the whole video to seek by.
import { part, troubleOf } from "./parts.js";

const STEP_S = 5, EDGE_S = 0.05;
const NEIGHBOURS = [[".previous", -1], [".next", 1]];
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** A time as people write it, such as 0:07 or 1:02:30; as on the server. */
export function clock(seconds) {
  const whole = Math.floor(seconds), pad = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}

const numbersOf = (element) => Object.fromEntries(Object.entries(element.dataset).map(([name, value]) => [name, Number(value)]));

/** Make the player. `go` goes to an address. */
export function openPlayer({ go }) {
  const dialog = document.querySelector("#player");
  let shown = null, opener = null, pushed = false;
  let fetching = null; // what comes next: a moment, or another part of the video
  const find = (selector) => dialog.querySelector(selector);
  const watchOf = (address) => ["watch", "at", "moment"].map((name) => address.searchParams.get(name) ?? "").join(" ").trim();

  /** Open what an address names, or close. */
  async function show(address) {
    const wanted = watchOf(address);
    if (wanted === shown && dialog.matches(":modal")) return;
    if (!wanted) return hide();
    const isNew = !dialog.matches(":modal");
    const isDrawn = shown === null && find(".player"); // the server drew it with the page
    shown = wanted;
    if (isNew) {
      opener = document.activeElement;
      pushed = !isDrawn;
      if (dialog.open) dialog.close();
      dialog.showModal();
    }
    if (!isDrawn) {
      wait();
      const { signal } = (fetching = new AbortController());
      try {
        const { nodes } = await part(address, "player", { signal });
        if (signal.aborted) return;
        dialog.replaceChildren(...nodes.childNodes);
      } catch (error) {
        if (error.name !== "AbortError") fail(error);
        return;
      }
      fetching = null;
    }
    dialog.setAttribute("aria-labelledby", "player-title");
    start();
  }

  /** Show the name and the picture of what is being opened; a video may have to be converted first. */
  function wait() {
    stop();
    const card = cards()[placeOf()], waiting = document.querySelector("#opening").content.cloneNode(true);
    const picture = card?.querySelector("img"), shownPicture = waiting.querySelector("img");
    waiting.querySelector("h2").textContent = card?.querySelector(".name").textContent ?? "";
    if (picture) shownPicture.src = picture.src;
    else shownPicture.remove();
    dialog.replaceChildren(waiting);
    dialog.focus();
  }

  /** Say why the moment of the address cannot be opened, and offer to try again. */
  function fail(error) {
    stop();
    const trouble = troubleOf(error, "This moment cannot be opened", () => {
      shown = "";
      show(new URL(location.href));
    });
    trouble.querySelector("h1").id = "player-title";
    dialog.setAttribute("aria-labelledby", "player-title");
    const close = Object.assign(document.createElement("button"), { type: "button", textContent: "Close" });
    close.addEventListener("click", leave);
    trouble.querySelector(".acts").append(close);
    dialog.replaceChildren(trouble);
    trouble.querySelector(".again").focus();
  }

  function stop() {
    fetching?.abort();
    const video = find("video");
    video?.pause();
    video?.removeAttribute("src");
    video?.load(); // ends the download
  }

  function hide() {
    if (!dialog.open) return;
    stop();
    dialog.close();
    dialog.replaceChildren();
    shown = null;
    (opener?.isConnected ? opener : document.querySelector("#q")).focus();
  }

  /** Close, and take the moment out of the address. */
  function leave() {
    if (!dialog.matches(":modal")) return;
    if (pushed) return history.back();
    const address = new URL(location.href);
    ["watch", "at", "moment"].forEach((name) => address.searchParams.delete(name));
    go(address.href, { replace: true });
  }

  const cards = () => [...document.querySelectorAll("#results .open")];
  const placeOf = () => cards().findIndex((card) => watchOf(new URL(card.href)) === shown);
  function neighbour(step) {
    const place = placeOf(), card = place < 0 ? null : cards()[place + step];
    if (!card) return;
    opener = card;
    go(card.href, { replace: true });
  }

  function meetNeighbours() {
    const place = placeOf(), others = cards();
    for (const [selector, step] of NEIGHBOURS) if (find(selector)) find(selector).disabled = place < 0 || !others[place + step];
  }

  /** Bring what was just put into the dialog to life. */
  function start() {
    const article = find(".player"), video = find("video"), strip = find(".strip");
    if (!strip) return;
    let about = numbersOf(article);
    for (const [selector, step] of NEIGHBOURS) find(selector).addEventListener("click", () => neighbour(step));
    meetNeighbours();
    let at = about.start, isDragging = false;
    fetching = null;

    function draw() {
      find(".head").setAttribute("x", Math.min((1000 * at) / about.duration, 997));
      strip.setAttribute("aria-valuenow", at.toFixed(1));
      strip.setAttribute("aria-valuetext", `${clock(at)} of ${clock(about.duration)}`);
      for (const line of dialog.querySelectorAll(".lines button")) {
        line.setAttribute("aria-current", Number(line.dataset.start) <= at && at < Number(line.dataset.end));
      }
    }
    /** Play from a time of the video. Of a long video that is made playable, only a part may be there: fetch another. */
    async function seek(seconds) {
      at = Math.max(0, Math.min(seconds, about.duration));
      draw();
      if (!video) return;
      const time = at + about.offset, isThere = time > -EDGE_S && !(at >= about.until);
      if (isDragging && !isThere) return; // a part may take long to make: it is fetched where the dragging ends
      fetching?.abort(); // this seek takes the place of an earlier one
      fetching = null;
      if (isThere) {
        video.currentTime = Math.max(0, time);
        return;
      }
      const address = new URL(location.href), isPlaying = !video.paused || video.ended;
      const { signal } = (fetching = new AbortController());
      video.pause();
      address.searchParams.set("at", `${at.toFixed(3)}-${at.toFixed(3)}`);
      let answer;
      try {
        answer = await part(address, "player", { signal });
      } catch (error) {
        if (error.name !== "AbortError") fail(error);
        return;
      }
      if (signal.aborted) return;
      const other = answer.nodes.querySelector("video");
      if (!other) {
        fetching = null;
        find("#unplayable").hidden = false;
        return;
      }
      delete article.dataset.until;
      Object.assign(article.dataset, answer.nodes.querySelector(".player").dataset);
      about = numbersOf(article);
      video.replaceChildren(...other.childNodes);
      video.src = other.getAttribute("src");
      if (isPlaying) video.play().catch(() => {});
    }

    if (video) {
      video.addEventListener("timeupdate", () => {
        if (isDragging || fetching || video.seeking || video.readyState < 1) return;
        at = video.currentTime - about.offset;
        draw();
      });
      video.addEventListener("loadedmetadata", () => seek(at));
      video.addEventListener("ended", () => "until" in about && seek(about.until));
      video.addEventListener("error", () => (find("#unplayable").hidden = false));
      if (video.readyState >= 1) seek(at);
      if (video.error) find("#unplayable").hidden = false;
      if (!still.matches) video.play().catch(() => {}); // a browser may want a click first
    }
    for (const line of dialog.querySelectorAll(".lines button")) line.addEventListener("click", () => seek(Number(line.dataset.start)));

    const tip = find(".tip"), timeAt = (event) => {
      const box = strip.getBoundingClientRect();
      return about.duration * Math.max(0, Math.min((event.clientX - box.left) / box.width, 1));
    };
    strip.addEventListener("pointermove", (event) => {
      tip.hidden = false;
      tip.textContent = clock(timeAt(event));
      tip.style.left = `${(100 * timeAt(event)) / about.duration}%`;
      if (event.buttons & 1) seek(timeAt(event));
    });
    strip.addEventListener("pointerleave", () => (tip.hidden = true));
    strip.addEventListener("pointerdown", (event) => {
      strip.setPointerCapture(event.pointerId);
      isDragging = true;
      seek(timeAt(event));
    });
    strip.addEventListener("lostpointercapture", () => {
      isDragging = false;
      seek(at);
    });
    strip.addEventListener("keydown", (event) => {
      const step = about.duration / 10;
      const to = { ArrowLeft: at - STEP_S, ArrowRight: at + STEP_S, ArrowDown: at - STEP_S, ArrowUp: at + STEP_S,
        PageDown: at - step, PageUp: at + step, Home: 0, End: about.duration }[event.key];
      if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      seek(to);
    });
    draw();
    strip.focus({ preventScroll: true, focusVisible: false });
  }

  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, target } = event, video = find("video");
    if (key === "[" || key === "]") neighbour(key === "]" ? 1 : -1);
    else if (key === "?") document.querySelector("#keys").showModal();
    else if (key === " " && video && !target.closest("button, a, input")) {
      event.preventDefault();
      if (video.paused) video.play().catch(() => {});
      else video.pause();
    }
  }, true);
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    leave();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && leave()); // beside the player

  return {
    show,
    close: leave,
    meetNeighbours,
    /** Whether a moment is open that is none of the results that are shown. */
    get isAlone() {
      return dialog.matches(":modal") && placeOf() < 0;
    },
    get isOpen() {
      return dialog.matches(":modal");
    },
  };
}
