// Parts of the page: fetching them, and saying why one did not come.

/** Fetch a part of the page, and the address that it came from. A failure is an Error whose message is for the reader. */
export async function part(address, name, options = {}) {
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

/** A notice that says what went wrong, with a button that tries again, and with a link to sign in if that is the way on. */
export function troubleOf(error, title, again) {
  const trouble = document.querySelector("#trouble").content.firstElementChild.cloneNode(true);
  const find = (selector) => trouble.querySelector(selector), sign = find("a");
  find("h1").textContent = error.isSignedOut ? "You are signed out" : title;
  find("p").textContent = error.message;
  find(".again").addEventListener("click", again);
  sign.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  sign.hidden = !error.isSignedOut;
  return trouble;
}
