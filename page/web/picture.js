// Pictures that programs send, and the keys that they listen for.

import { announce } from "./announcer.js";
import { element, make, save } from "./dom.js";
import { t } from "./texts.js";

/** @typedef {import("./client.js").Program} Program */

/** First bytes of pictures that can run nothing. @type {[string, number[], number][]} */
const KINDS = [
  ["image/jpeg", [0xff, 0xd8, 0xff], 0],
  ["image/png", [0x89, 0x50, 0x4e, 0x47], 0],
  ["image/gif", [0x47, 0x49, 0x46, 0x38], 0],
  ["image/webp", [0x57, 0x45, 0x42, 0x50], 8],
];
/** Between two presses of Escape that leave. */
const TWICE = 600;

export class Picture extends EventTarget {
  constructor() {
    super();
    this.place = element("picture-place");
    /** @type {Blob | null} */
    this.blob = null;
    /** @type {HTMLImageElement | null} */
    this.image = null;
    this.url = "";
    /** The newest that was not shown yet. @type {string | null} */
    this.next = null;
    this.isBusy = false;
    /** @type {Program | null} */
    this.program = null;
    /** @type {Set<string>} */
    this.keys = new Set();
    /** @type {Set<string>} */
    this.held = new Set();
    this.isOn = false;
    this.escaped = 0;
    element("save-picture").addEventListener("click", () => {
      if (this.blob) save(this.blob, `picture.${this.blob.type.split("/")[1]}`);
    });
    element("keys-on").addEventListener("click", () => this.turn(!this.isOn));
    addEventListener("keydown", (event) => this.key(event, "keydown"), { capture: true });
    addEventListener("keyup", (event) => this.key(event, "keyup"), { capture: true });
    addEventListener("blur", () => this.release());
  }

  /** @param {Program | null} program */
  follow(program) {
    this.turn(false);
    this.program = program;
    this.keys.clear();
    this.next = null;
    this.image?.remove();
    this.image = null;
    this.blob = null;
    URL.revokeObjectURL(this.url);
    this.draw();
  }

  ended() {
    this.turn(false);
    this.program = null;
    this.keys.clear();
    this.draw();
  }

  draw() {
    const hasPicture = this.image !== null;
    element("picture-empty").hidden = hasPicture;
    /** @type {HTMLButtonElement} */ (element("save-picture")).disabled = !hasPicture;
    element("keys").hidden = this.keys.size === 0;
    element("keys-pad").replaceChildren(...[...this.keys].map((key) => this.button(key)));
    element("keys-state").textContent = this.isOn
      ? t("keysAreOn")
      : t("keysWanted", { keys: [...this.keys].map(name).join(", ") });
    element("keys-on").setAttribute("aria-pressed", String(this.isOn));
    element("keys").classList.toggle("on", this.isOn);
  }

  /** @param {string} base64 */
  frame(base64) {
    this.next = base64;
    if (!this.isBusy) this.show();
  }

  async show() {
    const base64 = this.next;
    this.next = null;
    if (base64 === null) return;
    /** @type {Uint8Array<ArrayBuffer>} */
    let bytes;
    try {
      bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    } catch {
      return;
    }
    const kind = KINDS.find(([, first, at]) => first.every((byte, index) => bytes[at + index] === byte));
    if (!kind) return;
    const isFirst = this.image === null;
    this.blob = new Blob([bytes], { type: kind[0] });
    const url = URL.createObjectURL(this.blob);
    const old = this.url;
    this.url = url;
    this.image ??= make("img", { alt: t("picture") });
    this.isBusy = true;
    this.image.src = url;
    await this.image.decode().catch(() => {});
    URL.revokeObjectURL(old);
    this.isBusy = false;
    if (isFirst && this.image) {
      this.place.append(this.image);
      this.draw();
      this.dispatchEvent(new Event("first"));
      announce(t("pictureCame"));
    }
    this.show();
  }

  /** @param {string} key */
  listen(key) {
    const isFirst = this.keys.size === 0;
    this.keys.add(key);
    this.draw();
    if (isFirst) this.dispatchEvent(new Event("first"));
  }

  /** @param {string} key */
  button(key) {
    const press = (/** @type {PointerEvent} */ event) => {
      event.preventDefault();
      this.send(key, "keydown");
      /** @type {HTMLElement} */ (event.currentTarget).setPointerCapture(event.pointerId);
    };
    const release = () => this.send(key, "keyup");
    return make("button", {
      type: "button", onpointerdown: press, onpointerup: release, onpointercancel: release,
      // By keyboard or by a screen reader, which make no pointer events.
      onclick: (event) => {
        if (event.detail !== 0) return;
        this.send(key, "keydown");
        this.send(key, "keyup");
      },
    }, name(key));
  }

  /** @param {string} key @param {"keydown" | "keyup"} event */
  send(key, event) {
    if (event === "keydown") this.held.add(key);
    else if (!this.held.delete(key)) return;
    this.program?.keyevent(key, event);
  }

  release() {
    for (const key of [...this.held]) this.send(key, "keyup");
  }

  /** @param {boolean} on */
  turn(on) {
    if (on === this.isOn) return;
    this.isOn = on;
    if (!on) this.release();
    this.draw();
    announce(on ? t("keysAreOn") : t("keysAreOff"));
    if (on) element("keys-on").focus();
  }

  /** @param {KeyboardEvent} event @param {"keydown" | "keyup"} kind */
  key(event, kind) {
    if (!this.isOn || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && kind === "keydown" && !event.repeat) {
      const isSecond = event.timeStamp - this.escaped < TWICE;
      this.escaped = event.timeStamp;
      if (isSecond) {
        event.preventDefault();
        event.stopPropagation();
        this.turn(false);
        return;
      }
    }
    if (!this.keys.has(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat) this.send(event.key, kind);
  }
}

/** @param {string} key */
function name(key) {
  const arrows = /** @type {Record<string, string>} */ ({
    ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", " ": "␣",
  });
  return arrows[key] ? `${arrows[key]} ${key === " " ? "Space" : key.slice(5)}` : key;
}
