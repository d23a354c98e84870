// The texts of the page in the language of the browser.

const known = ["en", "de", "fr", "es", "ar"];
const language = navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => known.includes(tag)) ?? "en";
const answer = await fetch(import.meta.resolve(`./texts/${language}.json`));
/** @type {Record<string, string>} */
const texts = await answer.json();

document.documentElement.lang = language;
document.documentElement.dir = language === "ar" ? "rtl" : "ltr";

/**
 * The text with this key.
 * @param {string} key
 * @returns {string}
 */
export function t(key) {
  return texts[key] ?? key;
}
