// Questions to the person. Each is a modal dialog that answers a promise; Escape answers null.

import { make } from "./dom.js";
import { t } from "./texts.js";

/**
 * @template T
 * @param {string} title
 * @param {(close: (value: T) => void) => (Node | string)[]} content
 * @param {string} [kind] A class of the dialog.
 * @returns {Promise<T | null>}
 */
export function dialog(title, content, kind = "") {
  return new Promise((resolve) => {
    /** @type {T | null} */
    let answer = null;
    const heading = make("h2", { id: "dialog-title" }, title);
    const shown = make("dialog", { "aria-labelledby": "dialog-title", class: kind });
    shown.append(heading, ...content((value) => {
      answer = value;
      shown.close();
    }));
    shown.addEventListener("close", () => {
      shown.remove();
      resolve(answer);
    });
    document.body.append(shown);
    shown.showModal();
  });
}

/**
 * @param {string} title
 * @param {string} sentence
 * @param {string} yes The button that does it.
 */
export async function confirm(title, sentence, yes) {
  const answer = await dialog(title, (/** @type {(value: boolean) => void} */ close) => [
    make("p", {}, sentence),
    make("div", { class: "buttons" },
      make("button", { type: "button", class: "primary", onclick: () => close(true) }, yes),
      make("button", { type: "button", onclick: () => close(false) }, t("cancel"))),
  ]);
  return answer === true;
}

/**
 * @param {string} title
 * @param {string} label
 * @param {string} value
 * @returns {Promise<string | null>}
 */
export function ask(title, label, value) {
  return dialog(title, (/** @type {(value: string) => void} */ close) => {
    const field = make("input", { id: "dialog-field", type: "text", value, autocomplete: "off", spellcheck: "false" });
    const form = make("form", { method: "dialog", onsubmit: (event) => {
      event.preventDefault();
      if (field.value.trim()) close(field.value.trim());
    } },
    make("label", { for: "dialog-field" }, label), field,
    make("div", { class: "buttons" },
      make("button", { type: "submit", class: "primary" }, t("ok")),
      make("button", { type: "button", onclick: (event) => event.target.closest("dialog").close() }, t("cancel"))));
    queueMicrotask(() => {
      field.focus();
      const dot = value.lastIndexOf(".");
      field.setSelectionRange(value.lastIndexOf("/") + 1, dot > 0 ? dot : value.length);
    });
    return [form];
  });
}
