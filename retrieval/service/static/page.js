// The page: searching, its history, and what the other modules need of it. The server draws everything; this fetches the
// parts of the page that change and puts them in place. Without this file the same addresses are whole pages.
import { openGrid } from "./grid.js";
import { openFiles } from "./files.js";
import { openPlayer } from "./player.js";

const OPEN = ["watch", "at", "moment"]; // the parameters of the player
const $ = (selector, within = document) => within.querySelector(selector);
const results = $("#results"), status = $("#status"), form = $("#search");
let shown = searchOf(location); // what the results are of
let asking = null; // the request for others

/** The part of an address that says what is searched, without what is open in the player. */
function searchOf(address) {
  const parameters = new URLSearchParams(address.search);
  OPEN.forEach((name) => parameters.delete(name));
  return parameters.toString();
}

/** Fetch a part of the page, and the address that it came from. A failure is an Error whose message is for the reader. */
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
  const came = new URL(response.url);
  if (response.status === 401 || came.pathname === "/login") {
    throw Object.assign(new Error("Sign in again, and this search goes on."), { isSignedOut: true });
  }
  const text = await response.text();
  if ((response.headers.get("Content-Type") ?? "").startsWith("text/html")) {
    came.searchParams.delete("part");
    return { nodes: new DOMParser().parseFromString(text, "text/html").body, came };
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

/** Say in place of the results what went wrong, with a button that tries again. */
function showTrouble(error, again) {
  const trouble = $("#trouble").content.cloneNode(true), sign = $("a", trouble);
  $("h1", trouble).textContent = error.isSignedOut ? "You are signed out" : "That did not work";
  $("p", trouble).textContent = error.message;
  $(".again", trouble).addEventListener("click", again);
  sign.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  sign.hidden = !error.isSignedOut;
  results.replaceChildren(trouble);
  status.textContent = "";
}

function busy(is) {
  results.setAttribute("aria-busy", is);
  document.body.classList.toggle("busy", is);
}

/** Show the results that a request gives. A later search takes the place of an earlier one. */
async function ask(address, options = {}) {
  asking?.abort();
  const mine = (asking = new AbortController());
  busy(true);
  try {
    const { nodes, came } = await part(address, "results", { ...options, signal: mine.signal });
    results.replaceChildren(...nodes.childNodes);
    status.textContent = $("[data-status]", results)?.dataset.status ?? "";
    const q = came.searchParams.get("q");
    document.title = q ? `${q} – vmr` : "vmr";
    window.scrollTo(0, 0);
    return came;
  } catch (error) {
    if (error.name !== "AbortError") showTrouble(error, () => ask(address, options));
    return null;
  } finally {
    if (asking === mine) busy(false);
  }
}

/** Write what an address asks for into the search box and the filters. */
function fill(address) {
  const fields = [...form.elements].filter((field) => field.name && field.type !== "file");
  for (const field of fields) field.value = address.searchParams.get(field.name) ?? "";
  if (fields.some((field) => field.name !== "q" && field.value)) $(".filters").open = true;
}

/** Show an address: its results if they are others than those that are shown, and its moment in the player. */
async function show(address, isAskedAgain = false) {
  const isOther = searchOf(address) !== shown || isAskedAgain;
  if (isOther) {
    shown = searchOf(address);
    fill(address);
  }
  const asked = isOther ? ask(address) : null;
  player.show(address);
  await asked;
}

/** Go to an address of this page, as a link would, without loading the page anew. */
function go(href, { replace = false, isAskedAgain = false } = {}) {
  const address = new URL(href, location.href);
  history[replace ? "replaceState" : "pushState"](null, "", address);
  return show(address, isAskedAgain);
}

/** Search by a file. The answer comes from an address that can be shared. */
async function searchBy(file) {
  const body = new FormData();
  body.append("file", file);
  player.close();
  const came = await ask(`/?${filters()}`, { method: "POST", body });
  if (!came || !came.searchParams.has("by")) return;
  history.pushState(null, "", came);
  shown = searchOf(came);
  fill(came);
}

/** Append the next page of results. */
async function more(link) {
  busy(true);
  try {
    const { nodes } = await part(link.href, "results");
    const cards = [...nodes.querySelectorAll(".grid > li")], next = $("#more", nodes);
    $(".grid", results).append(...cards);
    if (next) link.replaceWith(next);
    else link.remove();
    status.textContent = `${results.querySelectorAll(".grid > li").length} shown`;
    if (cards.length) $(".open", cards[0]).focus();
  } catch (error) {
    status.textContent = error.message;
  }
  busy(false);
}

/** The filters that are set, and other parameters, for an address. */
function filters(others = {}) {
  const set = [...new FormData(form)].filter(([name, value]) => name !== "q" && typeof value === "string" && value.trim());
  return new URLSearchParams([...Object.entries(others), ...set]);
}

const player = openPlayer({ part, go });
openGrid({ go, player });
openFiles({ search: searchBy, refuse: (text) => (status.textContent = text) });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const q = $("#q").value.trim();
  go(`/?${filters(q ? { q } : {})}`.replace(/\?$/, ""), { isAskedAgain: true });
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button) return;
  if (link.origin !== location.origin || link.pathname !== "/" || link.hash || link.hasAttribute("download")) return;
  event.preventDefault();
  if (link.id === "more") more(link);
  else if (link.matches("#player .close")) player.close();
  else go(link.href);
});
window.addEventListener("popstate", () => show(new URL(location.href)));
$("#show-keys").hidden = false;
$("#show-keys").addEventListener("click", () => $("#keys").showModal());
document.documentElement.classList.add("script");
player.show(new URL(location.href));
