// What this browser remembers: choices of the person, and keys of programs. Nothing of it leaves the browser.

/**
 * @typedef {{theme: "system" | "light" | "dark" | "contrast", size: number, language: string, reader: boolean}} Settings
 */

/** @type {Settings} */
const DEFAULTS = { theme: "system", size: 16, language: "", reader: false };

/**
 * @template T
 * @param {string} name
 * @param {T} otherwise
 * @returns {T}
 */
export function recall(name, otherwise, store = localStorage) {
  try {
    const text = store.getItem(`further-link.${name}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/** @param {string} name @param {unknown} value */
export function remember(name, value, store = localStorage) {
  try {
    store.setItem(`further-link.${name}`, JSON.stringify(value));
  } catch {
    // Full, or forbidden in this browser: the page works without.
  }
}

/** @type {Settings} */
export const settings = { ...DEFAULTS, ...recall("settings", DEFAULTS) };

export function keepSettings() {
  remember("settings", settings);
}

/** What programs of this browser belong to. */
export function secret() {
  const known = recall("client", "");
  if (known) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(24));
  const made = btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_");
  remember("client", made);
  return made;
}

/** Shows the theme and the size that are chosen. */
export function showSettings() {
  const root = document.documentElement;
  root.dataset.theme = settings.theme;
  root.style.setProperty("--size", `${settings.size}px`);
  dispatchEvent(new Event("appearance"));
}
