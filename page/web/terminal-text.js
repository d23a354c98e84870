// Text for terminals, and text of them. Without DOM.

import { lastLines } from "./lines.js";

/** Text with control characters, made visible in one short line. @param {string} text */
export function visible(text) {
  const short = text.length > 80 ? `…${text.slice(-80)}` : text;
  return short.replace(/[\r\n]/g, "⏎").replace(/[\x00-\x1f]/g, (character) => String.fromCharCode(character.charCodeAt(0) + 0x2400));
}

/** Characters of which nothing is seen, or which turn others round; those that join letters are left as they are. */
const UNSEEN = /[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0]/g;

/** The name of a file, so that two names never look the same. @param {string} name */
export function named(name) {
  return name.replace(UNSEEN, (character) => `‹${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}›`)
    .replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
}

/** What begins a sequence, or chooses another set of characters. */
const SPECIAL = /[\x0e\x0f\x1b\x80-\x9f]/;
/** Longer sequences than this are none that a terminal heeds. */
const LONGEST = 4096;

/**
 * The end of a text, without plain lines before it that would scroll away.
 * @param {string} text
 * @param {number} lines As many as there are to scroll back to, and two screens: the cursor may be in the first row, and
 *   old text in all below it.
 */
export function newest(text, lines) {
  const begin = lastLines(text, lines) - 2;
  // Only with a return the column is known.
  if (begin <= 0 || text[begin] !== "\r" || SPECIAL.test(text.slice(0, begin))) return text;
  return text.slice(begin);
}

/** Whether a text may end within a sequence. @param {string} text */
export const mayEndWithin = (text) => SPECIAL.test(text.slice(-LONGEST));
