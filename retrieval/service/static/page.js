// The page: searching, its history, and what the other modules need of it. The server draws everything; this fetches the
// parts of the page that change and puts them in place. Without this file the same addresses are whole pages.
import { openGrid } from "./grid.js";
import { openFiles } from "./files.js";
import { openPlayer } from "./player.js";

const OPEN = ["watch", "at", "moment"];
const $ = (selector, within = document) => within.querySelector(selector);
const results = $("#results"), status = $("#status"), form = $("#search");
let shown = searchOf(location), asking = null;

/** The part of an address that says what is searched, without what is open in the player. */
function searchOf(address) {
  const parameters = new URLSearchParams(address.search);
  OPEN.forEach((name) => parameters.delete(name));
  return parameters.toString();
}

/** Fetch a part of the page, as an element. A failure is an Error whose message is for the reader. */
async function part(address, name, options = {}) {
  const url = new URL(address, location.href);
  url.searchParams.set("part", name);
  let response;
  try {
    response = await fetch(url, { ...options, headers: { Accept: "text/html" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. See whether vmr-serve still runs, then try again.");
  }
  if (response.status === 401 || new URL(response.url).pathname === "/login") {
    throw Object.assign(new Error("The server wants to know who you are (again). Sign in, then search once more."), { login: true });
  }
  const text = await response.text();
  if ((response.headers.get("Content-Type") ?? "").startsWith("text/html")) {
    return new DOMParser().parseFromString(text, "text/html").body;
  }
  throw new Error(detailOf(text) ?? `The server answered ${response.status} ${response.statusText}. Try again in a moment.`);
}

function detailOf(text) {
  try {
    const { detail } = JSON.parse(text);
    return typeof detail === "string" ? detail : null;
  } catch {
    return null;
  }
}

/** Say what went wrong, in place of the results, with a button that tries again. */
function showTrouble(error, again) {
  const trouble = $("#trouble").content.cloneNode(true);
  $("h2", trouble).textContent = error.login ? "You are signed out" : "That did not work";
  $("p", trouble).textContent = error.message;
  $(".again", trouble).addEventListener("click", again);
  $("a", trouble).hidden = !error.login;
  results.replaceChildren(trouble);
  status.textContent = "";
}

function busy(is) {
  results.setAttribute("aria-busy", is);
  document.body.classList.toggle("busy", is);
}

/** Show the results of an address, or of a file that is sent to it. */
async function search(address, file = null) {
  asking?.abort();
  const mine = asking = new AbortController();
  busy(true);
  try {
    const body = file && new FormData();
    body?.append("file", file);
    const answer = await part(address, "results", { signal: mine.signal, ...(file && { method: "POST", body }) });
    results.replaceChildren(...answer.childNodes);
    status.textContent = $("[data-status]", results)?.dataset.status ?? "";
    document.title = new URLSearchParams(address.search).get("q") ? `${new URLSearchParams(address.search).get("q")} – vmr` : "vmr";
    window.scrollTo(0, 0);
  } catch (error) {
    if (error.name === "AbortError") return;
    showTrouble(error, () => search(address, file));
  }
  if (asking === mine) busy(false);
}

/** Write what an address asks for into the search box and the filters. */
function fill(address) {
  const parameters = new URLSearchParams(address.search);
  for (const field of form.elements) if (field.name && field.type !== "file") field.value = parameters.get(field.name) ?? "";
  const filtered = [...form.elements].some((field) => field.name && !["q", "file"].includes(field.name) && field.value);
  if (filtered) $(".filters").open = true;
}

/** Show an address: its results if they are others, and its moment in the player. */
async function show(address) {
  if (searchOf(address) !== shown) {
    shown = searchOf(address);
    fill(address);
    await search(address, files.of(history.state));
  }
  player.show(address);
}

/** Go to an address of this page, as a link would, without loading the page anew. */
function go(href, { replace = false, state = null } = {}) {
  const address = new URL(href, location.href);
  history[replace ? "replaceState" : "pushState"](state ?? (searchOf(address) === shown ? history.state : null), "", address);
  return show(address);
}

/** Append the next page of results. */
async function more(link) {
  link.setAttribute("aria-disabled", "true");
  busy(true);
  try {
    const file = files.of(history.state), body = file && new FormData();
    body?.append("file", file);
    const answer = await part(link.href, "results", file ? { method: "POST", body } : {});
    const cards = [...answer.querySelectorAll(".grid > li")], next = $("#more", answer);
    $(".grid", results).append(...cards);
    if (next) link.replaceWith(next);
    else link.parentElement.remove();
    status.textContent = `${results.querySelectorAll(".grid > li").length} shown`;
    cards[0]?.querySelector(".open").focus();
  } catch (error) {
    link.removeAttribute("aria-disabled");
    status.textContent = error.message;
  }
  busy(false);
}

const player = openPlayer({ part, go });
const files = openFiles({ go: (name, state) => go(`/?${filters({ file: name })}`, { state }) });
openGrid({ go, player });

/** The parameters of the filters that are set, and others. */
function filters(others = {}) {
  const set = [...new FormData(form)].filter(([name, value]) => name !== "q" && typeof value === "string" && value.trim());
  return new URLSearchParams([...set, ...Object.entries(others)]);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const q = $("#q").value.trim();
  const address = `/?${filters(q ? { q } : {})}`;
  shown = null; // the same query may be asked again
  go(address === "/?" ? "/" : address);
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button || link.hasAttribute("download")) return;
  if (link.origin !== location.origin || link.pathname !== "/" || link.hash) return;
  event.preventDefault();
  if (link.id === "more") more(link);
  else if (link.matches("#player .close")) player.close();
  else go(link.href);
});
window.addEventListener("popstate", () => show(new URL(location.href)));
$("#show-keys").hidden = false;
$("#show-keys").addEventListener("click", () => $("#keys").showModal());
document.documentElement.classList.add("script");
files.forget();
player.show(new URL(location.href));
