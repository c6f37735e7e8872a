// The page: searching, its history, and what the other modules need of it. The server draws everything; this fetches the
// parts of the page that change and puts them in place. Without this file the same addresses are whole pages.
import { openGrid } from "./grid.js";
import { openFiles } from "./files.js";
import { part, troubleOf } from "./parts.js";
import { openPlayer } from "./player.js";

const OPEN = ["watch", "at", "moment"]; // the parameters of the player
const LIKE = ["like", "by", "file"]; // those of a search without words
const MORE_AT_ONCE = 10; // pages that are looked through for a moment
const narrow = matchMedia("(max-width: 700px)");
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

/** Say something about the results. What is cut where it is long is there for the pointer. */
function say(text) {
  status.textContent = status.title = text;
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
    describe();
    const q = came.searchParams.get("q");
    document.title = q ? `${q} – vmr` : "vmr";
    window.scrollTo(0, 0);
    return came;
  } catch (error) {
    if (error.name === "AbortError") return null;
    results.replaceChildren(troubleOf(error, "That did not work", () => ask(address, options)));
    say("");
    return null;
  } finally {
    if (asking === mine) busy(false);
  }
}

/** Say what the results themselves tell: how many they are, and which filters are set. */
function describe() {
  const told = $("[data-status]", results)?.dataset;
  say(told?.status ?? "");
  $("#set").textContent = told?.filters ?? "";
}

/** Write what an address asks for into the search box and the filters. */
function fill(address) {
  for (const field of form.elements) if (field.name) field.value = address.searchParams.get(field.name) ?? "";
  $("#clear").href = addressOf(searched());
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
  const came = await ask(addressOf(filters()), { method: "POST", body });
  if (!came || !came.searchParams.has("by")) return;
  history.pushState(null, "", came);
  shown = searchOf(came);
  fill(came);
}

/** Append the next page of results, and return its cards. */
async function append(link) {
  const { nodes } = await part(link.href, "results");
  const cards = [...nodes.querySelectorAll(".grid > li")], next = $("#more", nodes);
  if (!link.isConnected) return []; // other results are shown by now
  if (!cards.length && !next && $(".bad", nodes)) throw new Error($(".bad p", nodes).textContent);
  $(".grid", results).append(...cards);
  if (next) link.replaceWith(next);
  else link.remove();
  say(`${results.querySelectorAll(".grid > li").length} shown`);
  return cards;
}

/** Show the next page of results, and go on there. */
async function more(link) {
  busy(true);
  try {
    const [first] = await append(link);
    if (first) $(".open", first).focus();
  } catch (error) {
    const trouble = troubleOf(error, "More results did not come", () => {
      trouble.remove();
      link.parentElement.hidden = false;
      more(link);
    });
    link.parentElement.hidden = true;
    link.parentElement.before(trouble);
  }
  busy(false);
}

/** Append pages until the moment in the player is among the results, so that it has neighbours: it may be of a later page. */
async function find() {
  for (let pages = 0; pages < MORE_AT_ONCE && player.isAlone && $("#more"); pages++) await append($("#more"));
  player.meetNeighbours();
}

/** Put a drawing in the place of a picture of a card that does not come, and say so. */
function withoutPicture(picture) {
  if (!(picture instanceof HTMLImageElement) || !picture.matches(".frame img")) return;
  const [drawing, said] = $("#no-picture").content.cloneNode(true).children;
  picture.closest(".open").after(said);
  picture.replaceWith(drawing);
}

/** The fields of the form that are set, as parameters of an address: those of some names, or all others. */
function set(names, isOthers = false) {
  return [...new FormData(form)].filter(([name, value]) => names.includes(name) !== isOthers && value.trim());
}

/** What is searched: words, or else a moment or a file that others are to be like. */
const searched = () => set($("#q").value.trim() ? ["q"] : LIKE);
const filters = () => set(["q", ...LIKE], true);
const addressOf = (parameters) => `/?${new URLSearchParams(parameters)}`.replace(/\?$/, "");

const player = openPlayer({ go });
openGrid({ go, player });
openFiles({ search: searchBy, refuse: say });
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (narrow.matches) $(".filters").open = false; // else no result is in sight
  go(addressOf([...searched(), ...filters()]), { isAskedAgain: true });
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
document.addEventListener("error", (event) => withoutPicture(event.target), true); // such as when a file has changed
document.querySelectorAll(".frame img").forEach((picture) => picture.complete && !picture.naturalWidth && withoutPicture(picture));
$("#show-keys").hidden = false;
$("#show-keys").addEventListener("click", () => $("#keys").showModal());
document.documentElement.classList.add("script");
player.show(new URL(location.href));
if (player.isAlone) find().catch(() => {}); // then it stays without neighbours
