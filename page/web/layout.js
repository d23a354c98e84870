// Which panels are seen: side by side on wide screens, one at a time on phones; splitters between them.

import { element } from "./dom.js";
import { recall, remember } from "./settings.js";

/** @typedef {"files" | "editor" | "output" | "terminal" | "picture"} View */

/** Wider ones show files, editor and a result side by side. */
const NARROW = matchMedia("(max-width: 719px)");
const PANELS = { output: "output-panel", terminal: "terminal-panel", picture: "picture-panel" };
const ORDER = ["files", "edit", "results"];

/** @type {View} */
let result = "output";

/** @param {View} view */
export function show(view) {
  if (view in PANELS) result = view;
  document.body.dataset.panel = view;
  for (const [name, id] of Object.entries(PANELS)) element(id).hidden = name !== result;
  for (const button of element("views").querySelectorAll("button")) {
    const of = button.dataset.view;
    const isShown = NARROW.matches ? of === view : of === result || of === "files" || of === "editor";
    button.setAttribute("aria-pressed", String(isShown));
    button.classList.remove("fresh");
  }
  remember("view", { view, result }, sessionStorage);
  dispatchEvent(new Event("resize"));
}

/** The panels that were seen before the page was loaded again. @returns {{view: View, result: View} | null} */
export function seenBefore() {
  return recall("view", /** @type {any} */ (null), sessionStorage);
}

/** Something has come to a panel that is not seen: its button says so. @param {View} view */
export function point(view) {
  if (element(view in PANELS ? PANELS[/** @type {keyof PANELS} */ (view)] : view).offsetParent) return;
  element("views").querySelector(`[data-view="${view}"]`)?.classList.add("fresh");
}

/** A result is worth seeing: on wide screens it is shown, on phones too, since it was asked for. @param {View} view */
export function reveal(view) {
  show(view);
}

/** Splitters, and F6 from panel to panel. */
export function arrange() {
  splitter("split-side", "--side", 18);
  splitter("split-main", "--edit", 45);
  NARROW.addEventListener("change", () => show(NARROW.matches ? "editor" : result));
  for (const button of element("views").querySelectorAll("button")) {
    button.addEventListener("click", () => show(/** @type {View} */ (button.dataset.view)));
  }
  addEventListener("keydown", (event) => {
    if (event.key !== "F6" || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    const panels = ORDER.map(element).filter((panel) => panel.offsetParent);
    const now = panels.findIndex((panel) => panel.contains(document.activeElement));
    const to = (now + (event.shiftKey ? -1 : 1) + panels.length) % panels.length;
    const first = panels[to]?.querySelector(
      '.cm-content, [role="treeitem"][tabindex="0"], section:not([hidden]) .xterm-helper-textarea, section:not([hidden]) [role="log"], section:not([hidden]) button:not(:disabled)');
    /** @type {HTMLElement | null | undefined} */ (first)?.focus();
  });
}

/** @param {string} id @param {string} property @param {number} otherwise */
function splitter(id, property, otherwise) {
  const bar = element(id);
  const smallest = Number(bar.getAttribute("aria-valuemin"));
  const largest = Number(bar.getAttribute("aria-valuemax"));
  const put = (/** @type {number} */ percent) => {
    const value = Math.round(Math.min(largest, Math.max(smallest, percent)));
    bar.setAttribute("aria-valuenow", String(value));
    element("app").style.setProperty(property, `${value}%`);
    remember(id, value);
    dispatchEvent(new Event("resize"));
  };
  put(recall(id, otherwise));
  const isTurned = () => document.documentElement.dir === "rtl";
  bar.addEventListener("keydown", (event) => {
    const now = Number(bar.getAttribute("aria-valuenow"));
    const step = isTurned() ? -2 : 2;
    const to = { ArrowRight: now + step, ArrowLeft: now - step, ArrowDown: now + 2, ArrowUp: now - 2, Home: smallest,
      End: largest }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    put(to);
  });
  bar.addEventListener("pointerdown", (event) => {
    bar.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  bar.addEventListener("pointermove", (event) => {
    if (!bar.hasPointerCapture(event.pointerId)) return;
    const panel = element(bar.getAttribute("aria-controls") ?? "").getBoundingClientRect();
    const whole = element("app").getBoundingClientRect();
    const isBelow = panel.bottom < bar.getBoundingClientRect().bottom;
    const length = isBelow ? event.clientY - panel.top : isTurned() ? panel.right - event.clientX : event.clientX - panel.left;
    const all = isBelow ? whole.height : id === "split-side" ? whole.width : whole.width - panel.left;
    put((length / all) * 100);
  });
  bar.addEventListener("dblclick", () => put(otherwise));
}
