// Speaks to screen readers: few words, not more often than they can be heard.

import { element } from "./dom.js";
import { t } from "./texts.js";

const PAUSE = 1500;
const MOST_LINES = 4;
const MOST_CHARACTERS = 240;

/** @type {string[]} */
let waiting = [];
let count = 0;
let isPaused = false;

/** Speaks a sentence, or a line of output. @param {string} text */
export function announce(text) {
  if (!text.trim()) return;
  count += 1;
  waiting.push(text.slice(0, MOST_CHARACTERS));
  if (waiting.length > MOST_LINES) waiting.shift();
  if (!isPaused) speak();
}

function speak() {
  if (!count) {
    isPaused = false;
    return;
  }
  const text = waiting.join("\n");
  const isShort = count <= MOST_LINES && text.length <= MOST_CHARACTERS;
  element("announcer").textContent = isShort
    ? text
    : t("manyLines", { count, last: waiting.at(-1) ?? "" });
  waiting = [];
  count = 0;
  isPaused = true;
  setTimeout(speak, PAUSE);
}
