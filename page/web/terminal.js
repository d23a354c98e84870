// The terminal: xterm.js, which is loaded when the first one is opened, and a program on the device.

import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal } from "@xterm/xterm";
import { confirm } from "./dialogs.js";
import { element, make } from "./dom.js";
import { settings } from "./settings.js";
import { mayEndWithin, newest, visible } from "./terminal-text.js";
import { t } from "./texts.js";

/** @typedef {import("./client.js").Client} Client */
/** @typedef {import("./client.js").Program} Program */
/** @typedef {import("./client.js").Ticket} Ticket */

/** Lines that can be scrolled back to. */
const SCROLLBACK = 5000;
/** Characters that a hidden page keeps for drawing. */
const MOST_HIDDEN = 1024 * 1024;
/** Characters that a program may put into the clipboard. */
const MOST_COPIED = 100_000;
/** How long a terminal runs on without a page. */
const KEEP = { seconds: 12 * 3600, full: "drop" };
/** All but tabs and ends of lines. */
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/g;

/** Keys that phones lack, and what terminals send for them. @type {[string, string, string][]} */
const KEYS = [
  ["Esc", "\x1b", ""], ["Tab", "\t", ""], ["Ctrl", "", "ctrl"], ["Alt", "", "alt"],
  ["←", "\x1b[D", ""], ["↑", "\x1b[A", ""], ["↓", "\x1b[B", ""], ["→", "\x1b[C", ""],
  ["Home", "\x1b[H", ""], ["End", "\x1b[F", ""], ["PgUp", "\x1b[5~", ""], ["PgDn", "\x1b[6~", ""],
];
/** What screen readers say for arrows. @type {Record<string, string>} */
const NAMES = { "←": "Left", "↑": "Up", "↓": "Down", "→": "Right" };

/** xterm.js makes style elements, which the page's policy lets in with the nonce only. */
function giveNonce() {
  const nonce = document.querySelector('meta[name="style-nonce"]')?.getAttribute("content") ?? "";
  const original = document.createElement;
  /** @this {Document} @param {string} tag @param {any} options */
  document.createElement = function createElement(tag, options) {
    const made = original.call(this, tag, options);
    if (tag === "style") made.nonce = nonce;
    return made;
  };
}

export class TerminalPanel extends EventTarget {
  /** @param {Client} client Of `/run?pty=1`. */
  constructor(client) {
    super();
    giveNonce();
    this.client = client;
    /** @type {Program | null} */
    this.program = null;
    /** What xterm.js has still to get, as it draws slower than text may come. @type {{text: string, drawn: () => void}[]} */
    this.waiting = [];
    this.isDrawing = false;
    /** Text was left out, as the page was hidden. */
    this.hasGap = false;
    /** Not all lines scroll, or the last text may have ended within a sequence. */
    this.hasMargins = false;
    this.isOpen = false;
    /** @type {{ctrl: boolean, alt: boolean}} */
    this.sticky = { ctrl: false, alt: false };
    this.term = new Terminal({
      allowProposedApi: true, cursorBlink: false, scrollback: SCROLLBACK, fontSize: settings.size - 2,
      fontFamily: "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace",
      screenReaderMode: settings.reader, theme: colours(), minimumContrastRatio: 4.5,
      linkHandler: { activate: (_, text) => this.follow(text), allowNonHttpProtocols: false },
    });
    this.fit = new FitAddon();
    this.search = new SearchAddon();
    this.term.loadAddon(this.fit);
    this.term.loadAddon(this.search);
    this.term.loadAddon(new WebLinksAddon((_, text) => this.follow(text)));
    this.term.open(element("terminal"));
    element("terminal").addEventListener("paste", (event) => {
      event.preventDefault();
      event.stopPropagation();
      this.paste(event.clipboardData?.getData("text/plain") ?? "");
    }, { capture: true });
    this.term.textarea?.setAttribute("aria-label", t("terminalInput"));
    this.term.parser.registerCsiHandler({ final: "r" }, ([top, bottom]) => {
      this.hasMargins = Number(top) > 1 || (Number(bottom) > 0 && Number(bottom) < this.term.rows);
      return false;
    });
    this.term.parser.registerOscHandler(52, (data) => this.clipboard(data));
    this.term.onData((data) => this.type(data));
    this.term.onResize(({ rows, cols }) => this.program?.resize(rows, cols));
    this.term.attachCustomKeyEventHandler((event) => this.shortcut(event));
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.hasGap && this.program?.isLive) this.attach(this.program.ticket);
    });
    new ResizeObserver(() => this.measure()).observe(element("terminal"));
    addEventListener("appearance", () => {
      this.term.options.theme = colours();
      this.term.options.fontSize = settings.size - 2;
      this.term.options.screenReaderMode = settings.reader;
      this.measure();
    });
    this.buttons();
    this.show();
  }

  buttons() {
    const on = (/** @type {string} */ id, /** @type {string} */ kind, /** @type {(event: Event) => void} */ act) =>
      element(id).addEventListener(kind, act);
    on("terminal-copy", "click", () => this.copy());
    on("terminal-paste", "click", async () => {
      const text = await navigator.clipboard.readText().catch(() => null);
      if (text === null) element("terminal-state").textContent = t("pasteByKey");
      else this.paste(text);
      this.term.focus();
    });
    on("terminal-stop", "click", () => this.program?.stop("SIGHUP"));
    on("terminal-new", "click", () => this.start({ runner: "shell", path: "." }));
    on("terminal-discard", "click", () => this.program?.discard());
    const form = element("find-form");
    const text = /** @type {HTMLInputElement} */ (element("find-text"));
    on("terminal-find", "click", () => {
      form.hidden = !form.hidden;
      if (form.hidden) this.term.focus();
      else text.focus();
    });
    on("find-form", "submit", (event) => {
      event.preventDefault();
      this.found(this.search.findNext(text.value), text.value);
    });
    on("find-previous", "click", () => this.found(this.search.findPrevious(text.value), text.value));
    on("find-form", "keydown", (event) => {
      if (/** @type {KeyboardEvent} */ (event).key !== "Escape") return;
      form.hidden = true;
      this.term.focus();
    });
    const line = /** @type {HTMLInputElement} */ (element("line"));
    on("line-form", "submit", (event) => {
      event.preventDefault();
      this.type(`${line.value}\r`);
      line.value = "";
    });
    element("key-bar").replaceChildren(...KEYS.map(([label, sent, modifier]) => make("button", {
      type: "button", ...(NAMES[label] ? { "aria-label": NAMES[label] } : {}),
      ...(modifier ? { "aria-pressed": "false", "data-modifier": modifier } : {}),
      // The on-screen keyboard stays.
      onpointerdown: (event) => event.preventDefault(),
      onclick: () => {
        if (modifier) this.press(/** @type {"ctrl" | "alt"} */ (modifier));
        else this.type(this.term.modes.applicationCursorKeysMode ? sent.replace(/^\x1b\[([A-DHF])$/, "\x1bO$1") : sent);
      },
    }, label)));
  }

  /** @param {"ctrl" | "alt"} modifier */
  press(modifier) {
    this.sticky[modifier] = !this.sticky[modifier];
    element("key-bar").querySelector(`[data-modifier="${modifier}"]`)
      ?.setAttribute("aria-pressed", String(this.sticky[modifier]));
  }

  /** @param {string} data */
  type(data) {
    let text = data;
    if (this.sticky.ctrl && text.length === 1) {
      const code = text.toUpperCase().charCodeAt(0);
      if (code >= 64 && code < 96) text = String.fromCharCode(code & 31);
      this.press("ctrl");
    }
    if (this.sticky.alt) {
      text = `\x1b${text}`;
      this.press("alt");
    }
    if (this.program && !this.program.input(text)) element("terminal-state").textContent = t("tooMuchInput");
  }

  /** @param {KeyboardEvent} event */
  shortcut(event) {
    if (event.type !== "keydown" || !event.ctrlKey || !event.shiftKey) return true;
    if (event.code === "KeyC") this.copy();
    else if (event.code === "KeyF") element("terminal-find").click();
    // The way out for keyboards: everything else, Tab too, goes to the program.
    else if (event.code === "KeyQ") element("terminal-find").focus();
    // The browser pastes.
    else return event.code !== "KeyV";
    event.preventDefault();
    return false;
  }

  /** @param {boolean} isFound @param {string} text */
  found(isFound, text) {
    element("terminal-state").textContent = isFound || !text ? "" : t("notFound", { text });
  }

  /** Shells do not run what is pasted between two codes: what is pasted must not have them. @param {string} text */
  paste(text) {
    this.term.paste(text.replace(CONTROLS, ""));
  }

  copy() {
    const text = this.term.getSelection();
    if (text) navigator.clipboard.writeText(text).catch(() => {});
    element("terminal-state").textContent = text ? t("copied") : t("nothingSelected");
  }

  /** A link that a program shows. @param {string} text */
  async follow(text) {
    if (!/^https?:\/\//i.test(text)) return;
    if (await confirm(t("linkTitle"), text, t("openLink"))) open(text, "_blank", "noopener,noreferrer");
  }

  /** OSC 52: a program wants to write the clipboard. It is never told what is in it. @param {string} data */
  clipboard(data) {
    const coded = data.split(";")[1] ?? "";
    if (!coded || coded === "?") return true;
    let text;
    try {
      text = new TextDecoder().decode(Uint8Array.from(atob(coded), (character) => character.charCodeAt(0)));
    } catch {
      return true;
    }
    if (text.length > MOST_COPIED) return true;
    const place = element("terminal-ask");
    const done = () => {
      place.hidden = true;
      this.term.focus();
    };
    place.replaceChildren(
      make("span", {}, t("clipboardAsked", { text: text.length > 60 ? `${text.slice(0, 60)}…` : text })),
      make("button", { type: "button", onclick: () => {
        navigator.clipboard.writeText(text).catch(() => {});
        done();
      } }, t("copy")),
      make("button", { type: "button", onclick: done }, t("refuse")));
    place.hidden = false;
    return true;
  }

  measure() {
    if (element("terminal").clientHeight > 0) this.fit.fit();
  }

  /** @param {string} text @returns {Promise<void>} When it is drawn. */
  write(text) {
    return new Promise((drawn) => {
      this.waiting.push({ text, drawn });
      if (document.hidden) this.hurry();
      if (!this.isDrawing) this.draw();
    });
  }

  /** Browsers let hidden pages do little: the program does not wait for one, and the page has the newest text. */
  hurry() {
    for (const { drawn } of this.waiting) drawn();
    let over = this.waiting.reduce((sum, { text }) => sum + text.length, -MOST_HIDDEN);
    if (over <= 0) return;
    while (over > 0) over -= this.waiting.shift()?.text.length ?? over;
    // What comes next may be the rest of a sequence; the device has the right screen for a program that still runs.
    this.waiting.unshift({ text: "\x1bc", drawn: () => {} });
    this.hasGap = true;
  }

  draw() {
    const batch = this.waiting;
    this.waiting = [];
    this.isDrawing = batch.length > 0;
    if (!this.isDrawing) return;
    let text = batch.map((one) => one.text).join("");
    if (!this.hasMargins && !this.isOpen) text = newest(text, SCROLLBACK + 2 * this.term.rows);
    this.isOpen = mayEndWithin(text);
    this.term.write(text, () => {
      for (const { drawn } of batch) drawn();
      this.draw();
    });
  }

  /** @returns {import("./client.js").Listener} */
  listener() {
    return {
      output: (text) => this.write(text),
      screen: (text) => this.write(text),
      lost: () => {},
      stopped: ({ exitCode }) => {
        this.write(`\r\n\x1b[7m ${t("endedWith", { code: exitCode })} \x1b[0m\r\n`);
        this.dispatchEvent(new Event("ended"));
      },
      failed: (message) => {
        if (message) this.write(`\r\n${message.replace(/[\x00-\x1f]/g, " ")}\r\n`);
        this.dispatchEvent(new Event("ended"));
      },
      changed: () => this.show(),
    };
  }

  clear() {
    this.waiting = [];
    this.hasMargins = this.isOpen = this.hasGap = false;
    this.term.reset();
  }

  /** @param {object} data As in `start`. */
  start(data) {
    this.program?.leave();
    this.clear();
    this.measure();
    const { rows, cols } = this.term;
    this.program = this.client.start({ ...data, rows, cols, keep: KEEP }, this.listener());
    this.program.rows = rows;
    this.program.cols = cols;
    this.show();
    this.term.focus();
    return this.program;
  }

  /** @param {Ticket} ticket */
  attach(ticket) {
    this.program?.leave();
    this.clear();
    this.measure();
    // Without a position: the whole screen comes.
    const { session, key, viewKey } = ticket;
    this.program = this.client.attach({ session, key, ...(viewKey ? { viewKey } : {}) }, this.listener());
    this.program.rows = this.term.rows;
    this.program.cols = this.term.cols;
    this.show();
    return this.program;
  }

  show() {
    const { program } = this;
    const isLive = program?.isLive ?? false;
    element("terminal-stop").hidden = !isLive;
    element("terminal-new").hidden = isLive;
    element("terminal-state").textContent = !program || program.mode === "use" ? "" : t("watching");
    const unsent = program?.unsent ?? "";
    element("terminal-unsent").hidden = !unsent || program?.state === "running";
    element("terminal-unsent-text").textContent = t("unsent", { text: visible(unsent) });
    this.dispatchEvent(new Event("changed"));
  }
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const value = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  return {
    background: value("--terminal"), foreground: value("--terminal-text"), cursor: value("--terminal-text"),
    selectionBackground: value("--terminal-selection"),
  };
}
