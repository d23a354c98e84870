// Getting in: the device's token, shown once, becomes a cookie that scripts cannot read.

/**
 * What the server says of itself in the page.
 * @typedef {{version: string, certificate: "none" | "own" | "other", access: "token" | "network" | "device"}} Device
 */

/** @returns {Device} */
export function device() {
  const meta = document.querySelector('meta[name="device"]');
  return JSON.parse(meta?.getAttribute("content") ?? "{}");
}

/**
 * The token in the address, which is taken out of it and of this entry of the history.
 * @returns {string | null}
 */
export function takeTokenFromAddress() {
  const url = new URL(location.href);
  const behind = new URLSearchParams(url.hash.slice(1));
  const token = behind.get("token") ?? url.searchParams.get("token");
  if (token === null) return null;
  url.searchParams.delete("token");
  behind.delete("token");
  url.hash = behind.toString();
  history.replaceState(history.state, "", url);
  return token;
}

/**
 * Whether this browser is let in.
 * @returns {Promise<boolean>}
 */
export async function isLetIn() {
  if (device().access !== "token") return true;
  // The cookie is shown by the browser, and answered with one that is good for another year.
  const answer = await fetch("/sign-in", { method: "POST" });
  return answer.ok;
}

/**
 * Shows the token, and gets the cookie.
 * @param {string} token
 * @returns {Promise<"in" | "wrong" | "later">}
 */
export async function signIn(token) {
  const headers = { Authorization: `Bearer ${token.trim()}` };
  const answer = await fetch("/sign-in", { method: "POST", headers });
  if (answer.ok) return "in";
  return answer.status === 429 ? "later" : "wrong";
}

/** Has this browser forget the cookie. */
export async function signOut() {
  await fetch("/sign-out", { method: "POST" });
}
