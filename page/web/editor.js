// The editor: open files as tabs, drafts, saving, and what happens when somebody else has saved.

import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { python } from "@codemirror/lang-python";
import {
  bracketMatching, HighlightStyle, indentOnInput, indentUnit, StreamLanguage, syntaxHighlighting,
} from "@codemirror/language";
import { highlightSelectionMatches, search, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState } from "@codemirror/state";
import {
  drawSelection, EditorView, highlightActiveLine, highlightActiveLineGutter, keymap, lineNumbers,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { announce } from "./announcer.js";
import { ask, dialog } from "./dialogs.js";
import { difference } from "./difference.js";
import { element, make } from "./dom.js";
import { draftOf, drafts, forgetDraft, keepDraft } from "./drafts.js";
import { isThere, read, Refused, write } from "./files-api.js";
import { recall, remember } from "./settings.js";
import { named } from "./terminal-text.js";
import { t } from "./texts.js";

/** @typedef {{path: string, saved: string, etag: string | null, state: EditorState, timer: any}} Tab */

/** Larger files are downloaded, not edited. */
const LARGEST = 2 * 1024 * 1024;
/** Below a second, so that a crash costs no more. */
const DRAFT_DELAY = 500;

/** Other languages come when a file needs them, each a module of its own. @type {Record<string, () => Promise<any>>} */
const LANGUAGES = {
  js: () => import("@codemirror/legacy-modes/mode/javascript").then((mode) => mode.javascript),
  mjs: () => import("@codemirror/legacy-modes/mode/javascript").then((mode) => mode.javascript),
  ts: () => import("@codemirror/legacy-modes/mode/javascript").then((mode) => mode.typescript),
  json: () => import("@codemirror/legacy-modes/mode/javascript").then((mode) => mode.json),
  c: () => import("@codemirror/legacy-modes/mode/clike").then((mode) => mode.c),
  h: () => import("@codemirror/legacy-modes/mode/clike").then((mode) => mode.c),
  cpp: () => import("@codemirror/legacy-modes/mode/clike").then((mode) => mode.cpp),
  java: () => import("@codemirror/legacy-modes/mode/clike").then((mode) => mode.java),
  cs: () => import("@codemirror/legacy-modes/mode/clike").then((mode) => mode.csharp),
  sh: () => import("@codemirror/legacy-modes/mode/shell").then((mode) => mode.shell),
  rb: () => import("@codemirror/legacy-modes/mode/ruby").then((mode) => mode.ruby),
  lua: () => import("@codemirror/legacy-modes/mode/lua").then((mode) => mode.lua),
  pl: () => import("@codemirror/legacy-modes/mode/perl").then((mode) => mode.perl),
  rs: () => import("@codemirror/lang-rust").then((language) => language.rust()),
  go: () => import("@codemirror/legacy-modes/mode/go").then((mode) => mode.go),
};

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier], class: "tok-keyword" },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], class: "tok-string" },
  { tag: tags.comment, class: "tok-comment" },
  { tag: [tags.number, tags.bool, tags.null], class: "tok-number" },
  { tag: [tags.function(tags.variableName), tags.standard(tags.variableName)], class: "tok-name" },
  { tag: [tags.className, tags.typeName, tags.definition(tags.variableName)], class: "tok-type" },
]);

export class Editor extends EventTarget {
  constructor() {
    super();
    /** @type {Tab[]} */
    this.tabs = [];
    /** @type {Tab | null} */
    this.current = null;
    this.hasOpened = false;
    this.syntax = new Compartment();
    this.view = new EditorView({ parent: element("editor"), state: this.state("", "", false) });
    /** @type {Promise<unknown>} */
    this.saving = Promise.resolve();
    element("save").addEventListener("click", () => this.save());
    this.tabList = element("tabs");
    this.tabList.addEventListener("keydown", (event) => this.tabKeys(event));
    addEventListener("beforeunload", () => this.keepAll());
    addEventListener("pagehide", () => this.keepAll());
    this.show(null);
  }

  /** @param {string} text @param {string} path */
  state(text, path, editable = true) {
    const nonce = document.querySelector('meta[name="style-nonce"]')?.getAttribute("content") ?? "";
    return EditorState.create({
      doc: text,
      extensions: [
        EditorView.cspNonce.of(nonce),
        EditorState.phrases.of(phrases()),
        lineNumbers(), highlightActiveLineGutter(), highlightActiveLine(), history(), drawSelection(),
        indentOnInput(), bracketMatching(), indentUnit.of("    "), search({ top: true }), highlightSelectionMatches(),
        syntaxHighlighting(colours),
        this.syntax.of(path.endsWith(".py") ? python() : []),
        keymap.of([...defaultKeymap.filter(({ key }) => key !== "Mod-Enter"), ...searchKeymap, ...historyKeymap,
          indentWithTab]),
        EditorView.contentAttributes.of({
          "aria-label": t("editor"), tabindex: "0", "aria-describedby": "edit-status", autocapitalize: "off", autocorrect: "off",
          spellcheck: "false",
        }),
        EditorState.readOnly.of(!editable),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) this.edited();
        }),
      ],
    });
  }

  get text() {
    return this.view.state.doc.toString();
  }

  /** @param {Tab} tab */
  textOf(tab) {
    return tab === this.current ? this.text : tab.state.doc.toString();
  }

  /** @param {Tab} tab */
  isDirty(tab) {
    return tab.etag === null || this.textOf(tab) !== tab.saved;
  }

  edited() {
    const tab = this.current;
    if (!tab) return;
    clearTimeout(tab.timer);
    tab.timer = setTimeout(() => this.keep(tab), DRAFT_DELAY);
    this.mark(tab);
  }

  /** @param {Tab} tab */
  keep(tab) {
    clearTimeout(tab.timer);
    tab.timer = null;
    if (!this.tabs.includes(tab)) return;
    const { path, etag, saved } = tab;
    if (this.isDirty(tab)) keepDraft({ path, etag, base: saved, text: this.textOf(tab) });
    else forgetDraft(path);
  }

  keepAll() {
    for (const tab of this.tabs) if (tab.timer) this.keep(tab);
  }

  /** The tabs of the last time. @returns {Promise<boolean>} whether there were any */
  async restore() {
    /** @type {{paths: string[], current: string | null}} */
    const { paths, current } = recall("tabs", { paths: [], current: null });
    // After a crash a browser may have the drafts, and not the list.
    for (const path of new Set([...paths, ...(await drafts())])) await this.open(path, true).catch(() => {});
    const tab = this.tabs.find(({ path }) => path === current) ?? this.tabs[0];
    if (tab) this.show(tab);
    return this.tabs.length > 0;
  }

  remember() {
    remember("tabs", { paths: this.tabs.map(({ path }) => path), current: this.current?.path ?? null });
  }

  /**
   * Opens a file of the device, with the draft that there may be.
   * @param {string} path
   * @param {boolean} [quiet] Not shown, and nothing is asked.
   */
  async open(path, quiet = false) {
    const known = this.tabs.find((tab) => tab.path === path);
    if (known) return this.show(known);
    const draft = await draftOf(path);
    /** @type {{text: string, etag: string | null} | null} */
    let there = null;
    try {
      const { bytes, etag } = await read(path);
      if (bytes.byteLength > LARGEST) throw new Refused(413, t("tooLarge", { path }));
      try {
        there = { text: new TextDecoder("utf-8", { fatal: true }).decode(bytes), etag };
      } catch {
        throw new Refused(415, t("notText", { path }));
      }
    } catch (error) {
      if (!draft) throw error;
    }
    const tab = draft
      ? this.add(path, draft.text, draft.base, draft.etag)
      : this.add(path, there?.text ?? "", there?.text ?? "", there?.etag ?? null);
    if (!quiet) this.show(tab);
  }

  /**
   * A text that is not on the device yet.
   * @param {string} path
   * @param {string} text
   */
  create(path, text) {
    const known = this.tabs.find((tab) => tab.path === path);
    this.show(known ?? this.add(path, text, "", null));
    this.edited();
  }

  /** @param {string} path @param {string} text @param {string} saved @param {string | null} etag */
  add(path, text, saved, etag) {
    const tab = { path, saved, etag, state: this.state(text, path), timer: null };
    this.tabs.push(tab);
    return tab;
  }

  /** @param {Tab | null} tab */
  show(tab) {
    if (this.current && this.current !== tab) this.current.state = this.view.state;
    this.current = tab;
    this.view.setState(tab ? tab.state : this.state("", "", false));
    element("editor").classList.toggle("none", !tab);
    this.draw();
    // At the beginning, what was remembered is to be opened.
    if (tab || this.hasOpened) this.remember();
    if (tab) this.hasOpened = true;
    const ending = tab?.path.split(".").at(-1)?.toLowerCase() ?? "";
    const load = LANGUAGES[ending];
    if (tab && load) {
      load().then((mode) => {
        const language = "token" in mode ? StreamLanguage.define(mode) : mode;
        if (this.current === tab) this.view.dispatch({ effects: this.syntax.reconfigure(language) });
      }).catch(() => {});
    }
    this.dispatchEvent(new Event("shown"));
  }

  draw() {
    this.tabList.replaceChildren(...this.tabs.map((tab, index) => {
      const isCurrent = tab === this.current;
      const name = tab.path.split("/").at(-1) ?? tab.path;
      return make("div", { class: isCurrent ? "tab current" : "tab", role: "presentation" },
        make("button", {
          type: "button", role: "tab", id: `tab-${index}`, "aria-selected": String(isCurrent), title: named(tab.path),
          "aria-controls": "editor", tabindex: isCurrent ? "0" : "-1", onclick: () => this.show(tab),
        }, named(name)),
        make("button", {
          type: "button", class: "close", tabindex: "-1", "aria-hidden": "true", title: t("closeFile"),
          onclick: () => this.close(tab),
        }, "×"));
    }));
    // A tab list without tabs is none.
    this.tabList.hidden = !this.tabs.length;
    if (this.current) this.mark(this.current);
    element("editor").setAttribute("aria-labelledby", this.current ? `tab-${this.tabs.indexOf(this.current)}` : "save");
    if (!this.current) {
      element("edit-status").textContent = t("noFile");
      /** @type {HTMLButtonElement} */ (element("save")).disabled = true;
    }
  }

  /** @param {Tab} tab */
  mark(tab) {
    const isDirty = this.isDirty(tab);
    const index = this.tabs.indexOf(tab);
    this.tabList.children[index]?.classList.toggle("dirty", isDirty);
    const path = named(tab.path);
    const text = isDirty ? t("notSaved", { path }) : t("isSaved", { path });
    if (element("edit-status").textContent !== text) element("edit-status").textContent = text;
    /** @type {HTMLButtonElement} */ (element("save")).disabled = !isDirty;
  }

  /** @param {KeyboardEvent} event */
  tabKeys(event) {
    if (!this.current) return;
    const index = this.tabs.indexOf(this.current);
    const step = document.documentElement.dir === "rtl" ? -1 : 1;
    const last = this.tabs.length - 1;
    const to = { ArrowRight: index + step, ArrowLeft: index - step, Home: 0, End: last }[event.key];
    if (event.key === "Delete") this.close(this.current);
    else if (to === undefined) return;
    else this.show(this.tabs[(to + this.tabs.length) % this.tabs.length] ?? this.current);
    event.preventDefault();
    /** @type {HTMLElement | null} */ (this.tabList.querySelector('[aria-selected="true"]'))?.focus();
  }

  /** @param {Tab} tab */
  async close(tab) {
    if (this.isDirty(tab) && this.textOf(tab)) {
      const answer = await dialog(t("closeTitle", { path: tab.path }),
        (/** @type {(value: "save" | "discard") => void} */ close) => [
          make("p", {}, t("closeQuestion")),
          make("div", { class: "buttons" },
            make("button", { type: "button", class: "primary", onclick: () => close("save") }, t("save")),
            make("button", { type: "button", onclick: () => close("discard") }, t("discardChanges")),
            make("button", { type: "button", onclick: (event) => event.target.closest("dialog").close() }, t("cancel"))),
        ]);
      if (!answer || (answer === "save" && !(await this.save(tab)))) return;
    }
    clearTimeout(tab.timer);
    tab.timer = null;
    await forgetDraft(tab.path);
    const index = this.tabs.indexOf(tab);
    this.tabs = this.tabs.filter((other) => other !== tab);
    if (tab === this.current) {
      this.current = null;
      this.show(this.tabs[Math.min(index, this.tabs.length - 1)] ?? null);
    } else {
      this.draw();
      this.remember();
    }
    this.view.focus();
  }

  /**
   * Saves, one after the other. False: it is not saved.
   * @param {Tab | null} [tab]
   */
  save(tab = this.current) {
    const saved = this.saving.then(() => (tab ? this.write(tab) : false));
    this.saving = saved.catch(() => {});
    return saved;
  }

  /** @param {Tab} tab @returns {Promise<boolean>} */
  async write(tab) {
    if (!this.isDirty(tab)) {
      if (await isThere(tab.path)) return true;
      // It was removed on the device: what is here is all there is.
      tab.etag = null;
    }
    const text = this.textOf(tab);
    try {
      try {
        this.wrote(tab, text, await write(tab.path, text, tab.etag));
        return true;
      } catch (error) {
        if (!(error instanceof Refused && error.status === 412)) throw error;
        return await this.settle(tab);
      }
    } catch (error) {
      const message = t("saveFailed", { path: tab.path, why: String(error instanceof Error ? error.message : error) });
      element("edit-status").textContent = message;
      return false;
    }
  }

  /** @param {Tab} tab @param {string} text @param {string | null} etag */
  wrote(tab, text, etag) {
    const isNew = tab.etag === null;
    tab.saved = text;
    tab.etag = etag;
    this.keep(tab);
    this.draw();
    announce(t("isSaved", { path: tab.path }));
    if (isNew) this.dispatchEvent(new Event("files"));
  }

  /**
   * Somebody else has changed the file: shows how, and lets the person choose.
   * @param {Tab} tab
   * @returns {Promise<boolean>}
   */
  async settle(tab) {
    /** @type {{text: string, etag: string | null}} */
    let theirs = { text: "", etag: null };
    try {
      const { bytes, etag } = await read(tab.path);
      theirs = { text: new TextDecoder().decode(bytes), etag };
    } catch (error) {
      // It was removed meanwhile.
      if (!(error instanceof Refused) || error.status !== 404) throw error;
    }
    const mine = this.textOf(tab);
    if (theirs.etag !== null && theirs.text === mine) {
      this.wrote(tab, mine, theirs.etag);
      return true;
    }
    if (theirs.etag === null) {
      tab.etag = null;
      return this.write(tab);
    }
    const marks = { same: " ", mine: "+", theirs: "−" };
    const names = { same: "", mine: t("mine"), theirs: t("theirs") };
    const rows = difference(mine, theirs.text).map(({ kind, text }) =>
      make("div", { class: `change ${kind}` },
        make("span", { class: "sign", ...(kind === "same" ? {} : { "aria-label": names[kind], role: "img" }) }, marks[kind]),
        text));
    const answer = await dialog(t("conflictTitle", { path: tab.path }),
      (/** @type {(value: "mine" | "theirs" | "both") => void} */ close) => [
        make("p", {}, t("conflictText")),
        make("div", { class: "difference", tabindex: "0", role: "region", "aria-label": t("difference") }, ...rows),
        make("div", { class: "buttons" },
          make("button", { type: "button", class: "primary", onclick: () => close("both") }, t("keepBoth")),
          make("button", { type: "button", onclick: () => close("mine") }, t("keepMine")),
          make("button", { type: "button", onclick: () => close("theirs") }, t("keepTheirs")),
          make("button", { type: "button", onclick: (event) => event.target.closest("dialog").close() }, t("cancel"))),
      ], "wide");
    if (answer === "mine") {
      tab.etag = theirs.etag;
      return this.write(tab);
    }
    if (answer === "theirs") {
      this.put(tab, theirs.text);
      this.wrote(tab, theirs.text, theirs.etag);
      return true;
    }
    if (answer === "both") {
      const path = await ask(t("keepBoth"), t("newName"), beside(tab.path));
      if (!path) return false;
      this.put(tab, theirs.text);
      this.wrote(tab, theirs.text, theirs.etag);
      this.create(path, mine);
      return this.write(/** @type {Tab} */ (this.current));
    }
    return false;
  }

  /** @param {Tab} tab @param {string} text */
  put(tab, text) {
    if (tab === this.current) {
      this.view.dispatch({ changes: { from: 0, to: this.view.state.doc.length, insert: text } });
    } else {
      tab.state = this.state(text, tab.path);
    }
  }

  /** A file or a folder has another name now. @param {string} from @param {string} to */
  async renamed(from, to) {
    for (const tab of this.tabs) {
      if (tab.path !== from && !tab.path.startsWith(`${from}/`)) continue;
      await forgetDraft(tab.path);
      tab.path = to + tab.path.slice(from.length);
      this.keep(tab);
    }
    this.draw();
    this.remember();
    this.dispatchEvent(new Event("shown"));
  }

  /** @param {string} path */
  async removed(path) {
    for (const tab of [...this.tabs]) {
      if (tab.path !== path && !tab.path.startsWith(`${path}/`)) continue;
      // What was changed and not saved stays, as a new file.
      if (this.textOf(tab) !== tab.saved) {
        tab.etag = null;
        this.keep(tab);
      } else {
        tab.etag ??= "";
        await this.close(tab);
      }
    }
    this.draw();
  }
}

/** A free name for a second copy. @param {string} path */
function beside(path) {
  const dot = path.lastIndexOf(".");
  const isName = dot > path.lastIndexOf("/") + 1;
  return isName ? `${path.slice(0, dot)}-2${path.slice(dot)}` : `${path}-2`;
}

/** What CodeMirror says to people. */
function phrases() {
  return {
    "Find": t("cmFind"), "Replace": t("cmReplace"), "next": t("next"), "previous": t("previous"), "all": t("cmAll"),
    "match case": t("cmCase"), "regexp": t("cmRegexp"), "by word": t("cmWord"), "replace": t("cmReplace"),
    "replace all": t("cmReplaceAll"), "close": t("close"), "current match": t("cmCurrent"),
    "on line": t("cmOnLine"), "Go to line": t("cmGoTo"), "go": t("ok"),
  };
}
