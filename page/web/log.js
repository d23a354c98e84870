// The plain output of programs on pipes: a bounded list of lines, drawn once a frame.

import { announce } from "./announcer.js";
import { element, make, save } from "./dom.js";
import { Lines } from "./lines.js";
import { recall, remember } from "./settings.js";
import { t } from "./texts.js";

/** @typedef {import("./lines.js").Stream} Stream */

/** Lines in the document. */
const MOST = 5000;
/** Bytes that the file with all output may have, and those of a piece of it. */
const MOST_KEPT = 32 * 1024 * 1024;
const PIECE = 256 * 1024;
/** Characters that are put into lines at once, so that the page stays awake. */
const PORTION = 1024 * 1024;
/** Milliseconds of drawing that fit into a frame, and the longest time between drawings. */
const CHEAP = 12;
const LONGEST_PAUSE = 500;

export class Log {
  constructor() {
    this.place = element("output");
    this.lines = new Lines(MOST);
    /** @type {Map<number, HTMLElement>} */
    this.nodes = new Map();
    /** @type {{text: string, stream: Stream}[]} */
    this.waiting = [];
    this.waitingLength = 0;
    this.isDue = false;
    this.kept = new Kept();
    this.spoken = 0;
    this.isAtEnd = true;
    /** Milliseconds that the last drawing took. */
    this.cost = 0;
    this.place.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.place;
      this.isAtEnd = scrollHeight - scrollTop - clientHeight < 24;
    });
  }

  get isEmpty() {
    return this.lines.lines.length === 0 && this.waiting.length === 0;
  }

  clear() {
    this.lines.clear();
    this.waiting = [];
    this.waitingLength = 0;
    this.kept = new Kept();
    this.isAtEnd = true;
    this.spoken = this.lines.next;
    this.draw();
  }

  /** @param {string} text @param {Stream} stream */
  push(text, stream) {
    if (stream !== "note") this.kept.add(text);
    const last = this.waiting.at(-1);
    if (last && last.stream === stream && last.text.length < PORTION) last.text += text;
    else this.waiting.push({ text, stream });
    this.waitingLength += text.length;
    if (this.waitingLength > PORTION) this.take();
    if (this.isDue) return;
    this.isDue = true;
    const draw = () => this.flush();
    // In a flood drawing is dear, and messages have to be taken between two drawings as well.
    if (document.hidden) setTimeout(draw, 200);
    else if (this.cost < CHEAP) requestAnimationFrame(draw);
    else setTimeout(() => requestAnimationFrame(draw), Math.min(4 * this.cost, LONGEST_PAUSE));
  }

  /** Draws what waits to be drawn. */
  flush() {
    if (!this.isDue) return;
    this.isDue = false;
    const begun = performance.now();
    this.take();
    this.draw();
    this.cost = performance.now() - begun;
  }

  /** A sentence of the page among the output. @param {string} text */
  note(text) {
    this.push(`${text}\n`, "note");
  }

  /** Everything that has come, as a file. */
  save() {
    const end = this.kept.isCut ? [`\n${t("outputCut")}\n`] : [];
    save(new Blob([...this.kept.pieces(), ...end], { type: "text/plain" }), "output.txt");
  }

  take() {
    for (const { text, stream } of this.waiting) this.lines.push(text, stream);
    this.waiting = [];
    this.waitingLength = 0;
  }

  draw() {
    const { lines } = this;
    // Nodes of lines that went are those of new ones: in a flood browsers would collect them late.
    const free = [];
    for (const [id, node] of this.nodes) {
      if (id >= lines.first) break;
      node.remove();
      this.nodes.delete(id);
      if (node.childNodes.length === 1) free.push(node);
    }
    const fresh = document.createDocumentFragment();
    for (let index = Math.max(0, lines.changed - lines.first); index < lines.lines.length; index += 1) {
      const line = /** @type {import("./lines.js").Line} */ (lines.lines[index]);
      let node = this.nodes.get(line.id);
      if (!node) {
        node = free.pop() ?? make("div", {}, "");
        node.className = `line ${line.stream}`;
        const before = lines.lines[index - 1];
        if (before?.stream !== line.stream && (line.stream === "stderr" || line.stream === "compile")) {
          const mark = line.stream === "stderr" ? t("errorMark") : t("compilerMark");
          node.prepend(make("span", { class: "mark" }, mark));
        }
        this.nodes.set(line.id, node);
        fresh.append(node);
      }
      // The last child is the text; before it may be the mark.
      const text = /** @type {Text} */ (node.lastChild);
      if (text.data !== line.text) text.data = line.text;
    }
    this.place.append(fresh);
    lines.changed = lines.next - (lines.open ? 1 : 0);
    if (this.isAtEnd) this.place.scrollTop = this.place.scrollHeight;
    element("output-empty").hidden = !this.isEmpty;
    this.speak();
  }

  speak() {
    const until = this.lines.next - (this.lines.open ? 1 : 0);
    const fresh = this.lines.lines.slice(Math.max(0, this.spoken - this.lines.first));
    for (const line of fresh) {
      if (line.id < until) announce(line.text);
    }
    this.spoken = Math.max(this.spoken, until);
  }

  /** Before the page goes: what the next one shows at once. @param {unknown} about */
  store(about) {
    this.take();
    const lines = this.lines.lines.map(({ text, stream }) => [stream, text]);
    remember("log", { about, open: this.lines.open, lines }, sessionStorage);
  }

  /** @returns {any} What `store` was told; null if nothing was stored. */
  restore() {
    /** @type {{about: unknown, open: boolean, lines: [Stream, string][]} | null} */
    const stored = recall("log", /** @type {any} */ (null), sessionStorage);
    sessionStorage.removeItem("further-link.log");
    if (!stored) return null;
    stored.lines.forEach(([stream, text], index) => {
      const isLast = index === stored.lines.length - 1;
      this.push(isLast && stored.open ? text : `${text}\n`, stream);
    });
    this.take();
    this.spoken = this.lines.next;
    this.draw();
    return stored.about;
  }
}

/** The whole text as bytes: they take half of what strings take until browsers collect those. */
class Kept {
  constructor() {
    /** @type {Uint8Array<ArrayBuffer>[]} */
    this.full = [];
    this.last = new Uint8Array(0);
    this.used = 0;
    this.size = 0;
    this.isCut = false;
    this.encoder = new TextEncoder();
  }

  /** @param {string} text */
  add(text) {
    let rest = text;
    while (rest && !this.isCut) {
      const { read, written } = this.encoder.encodeInto(rest, this.last.subarray(this.used));
      this.used += written;
      rest = rest.slice(read);
      if (!rest) return;
      // What is left of the piece has no room for a character.
      this.full.push(this.last.subarray(0, this.used));
      this.size += this.used;
      this.used = 0;
      this.isCut = this.size + PIECE > MOST_KEPT;
      this.last = new Uint8Array(this.isCut ? 0 : PIECE);
    }
  }

  pieces() {
    return [...this.full, this.last.subarray(0, this.used)];
  }
}
