// The texts of the page, in the language that the person has chosen, or else the browser.

import { settings } from "./settings.js";

export const LANGUAGES = { en: "English", de: "Deutsch", fr: "Français", es: "Español", ar: "العربية" };

const wanted = [settings.language, ...navigator.languages.map((tag) => tag.slice(0, 2))];
export const language = wanted.find((tag) => tag in LANGUAGES) ?? "en";
const answer = await fetch(import.meta.resolve(`./texts/${language}.json`));
/** @type {Record<string, string>} */
const texts = await answer.json();

document.documentElement.lang = language;
document.documentElement.dir = language === "ar" ? "rtl" : "ltr";

/**
 * The text with this key, and what stands for its names in braces.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  const text = texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * Puts texts where the document names them: `data-text` for content, `data-label` for the accessible name,
 * `data-hint` for a placeholder.
 * @param {ParentNode} root
 */
export function translate(root) {
  for (const [attribute, put] of Object.entries({
    text: (/** @type {HTMLElement} */ node, /** @type {string} */ text) => (node.textContent = text),
    label: (/** @type {HTMLElement} */ node, /** @type {string} */ text) => node.setAttribute("aria-label", text),
    hint: (/** @type {HTMLElement} */ node, /** @type {string} */ text) => node.setAttribute("placeholder", text),
  })) {
    for (const node of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll(`[data-${attribute}]`))) {
      put(node, t(node.dataset[attribute] ?? ""));
    }
  }
}
