// The files of the work directory as a tree: open, make, rename, remove, upload, drop, download.

import { announce } from "./announcer.js";
import { ask, confirm } from "./dialogs.js";
import { element, make } from "./dom.js";
import { address, list, makeDirectory, remove, rename, upload, write } from "./files-api.js";
import { named } from "./terminal-text.js";
import { t } from "./texts.js";

/** @typedef {import("./files-api.js").Entry} Entry */
/** @typedef {{path: string, file: File}} Upload */

/** Files and folders that the page makes for itself are not shown. */
const HIDDEN = /^\.fl/;

export class Tree extends EventTarget {
  /** @param {import("./editor.js").Editor} editor */
  constructor(editor) {
    super();
    this.editor = editor;
    this.place = element("tree");
    this.status = element("files-status");
    /** Folders that are open, by path. @type {Set<string>} */
    this.open = new Set();
    this.typed = "";
    this.typedAt = 0;
    this.place.addEventListener("keydown", (event) => this.keys(event));
    this.place.addEventListener("click", (event) => {
      const item = this.itemOf(event.target);
      if (!item) return;
      this.choose(item);
      this.act(item);
    });
    this.on("new-file", () => this.newFile());
    this.on("new-folder", () => this.newFolder());
    this.on("rename", () => this.rename());
    this.on("remove", () => this.remove());
    this.on("refresh", () => this.refresh());
    this.on("download", () => this.download());
    const input = /** @type {HTMLInputElement} */ (element("upload-input"));
    this.on("upload", () => input.click());
    input.addEventListener("change", () => {
      this.upload([...(input.files ?? [])].map((file) => ({ path: this.within(file.name), file })));
      input.value = "";
    });
    this.dropping();
  }

  /** @param {string} id @param {() => unknown} act */
  on(id, act) {
    element(id).addEventListener("click", () => this.attempt(act));
  }

  /** Does something, and says so if it was refused. @param {() => unknown} act */
  async attempt(act) {
    try {
      await act();
    } catch (error) {
      this.say(error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {string} text */
  say(text) {
    this.status.textContent = text;
  }

  async refresh() {
    const chosen = this.current?.dataset.path;
    await this.fill(this.place, "");
    element("files-empty").hidden = this.place.childElementCount > 0;
    const items = this.visible();
    this.choose(items.find((item) => item.dataset.path === chosen) ?? null);
  }

  /** @param {Element} place @param {string} path */
  async fill(place, path) {
    const { entries, truncated, unreadable } = await list(path);
    const shown = entries.filter(({ name }) => !HIDDEN.test(name));
    shown.sort((a, b) => Number(b.type === "directory") - Number(a.type === "directory") ||
      a.name.localeCompare(b.name, undefined, { numeric: true }));
    const level = String(path ? path.split("/").length + 1 : 1);
    const items = shown.map((entry) => this.item(entry, path ? `${path}/${entry.name}` : entry.name, level));
    place.replaceChildren(...items);
    this.say(truncated ? t("truncated") : unreadable ? t("unreadable", { count: unreadable }) : "");
    if (!this.place.querySelector('[tabindex="0"]')) this.visible()[0]?.setAttribute("tabindex", "0");
    await Promise.all(items.map((item) => this.open.has(item.dataset.path ?? "") && this.expand(item)));
  }

  /** @param {Entry} entry @param {string} path @param {string} level */
  item(entry, path, level) {
    const isFolder = entry.type === "directory";
    return make("li", {
      role: "treeitem", tabindex: "-1", "aria-level": level, "aria-selected": "false", "data-path": path,
      "data-type": entry.type, "aria-label": named(entry.name), title: isFolder ? named(path) : `${named(path)} (${size(entry.size)})`,
      ...(isFolder ? { "aria-expanded": "false" } : {}),
    }, make("span", { class: "name" }, make("bdi", {}, named(entry.name))));
  }

  /** @param {EventTarget | null} target @returns {HTMLElement | null} */
  itemOf(target) {
    return target instanceof Element ? target.closest('[role="treeitem"]') : null;
  }

  /** @returns {HTMLElement | null} */
  get current() {
    return this.place.querySelector('[aria-selected="true"]');
  }

  /** @returns {HTMLElement[]} */
  visible() {
    return /** @type {HTMLElement[]} */ ([...this.place.querySelectorAll('[role="treeitem"]')]);
  }

  /** @param {HTMLElement | null} item */
  choose(item, focus = false) {
    for (const other of this.place.querySelectorAll('[aria-selected="true"]')) {
      other.setAttribute("aria-selected", "false");
    }
    const items = this.visible();
    for (const other of items) other.tabIndex = -1;
    const reachable = item ?? items[0];
    if (reachable) reachable.tabIndex = 0;
    item?.setAttribute("aria-selected", "true");
    for (const id of ["download", "rename", "remove"]) {
      /** @type {HTMLButtonElement} */ (element(id)).disabled = !item;
    }
    if (focus) item?.focus();
  }

  /** @param {HTMLElement} item */
  act(item) {
    const path = item.dataset.path ?? "";
    if (item.dataset.type !== "directory") {
      this.attempt(async () => {
        await this.editor.open(path);
        this.dispatchEvent(new Event("opened"));
      });
    } else if (item.getAttribute("aria-expanded") === "true") {
      this.collapse(item);
    } else {
      this.attempt(() => this.expand(item));
    }
  }

  /** @param {HTMLElement} item */
  async expand(item) {
    const path = item.dataset.path ?? "";
    this.open.add(path);
    item.setAttribute("aria-expanded", "true");
    const group = item.querySelector(":scope > ul") ?? make("ul", { role: "group" });
    if (!group.parentNode) item.append(group);
    await this.fill(group, path);
  }

  /** @param {HTMLElement} item */
  collapse(item) {
    this.open.delete(item.dataset.path ?? "");
    item.setAttribute("aria-expanded", "false");
    item.querySelector(":scope > ul")?.remove();
  }

  /** @param {KeyboardEvent} event */
  keys(event) {
    const item = this.itemOf(event.target);
    if (!item || event.altKey || event.ctrlKey || event.metaKey) return;
    const items = this.visible();
    const index = items.indexOf(item);
    const isOpen = item.getAttribute("aria-expanded");
    const isBackwards = document.documentElement.dir === "rtl";
    const key = isBackwards
      ? { ArrowLeft: "ArrowRight", ArrowRight: "ArrowLeft" }[event.key] ?? event.key
      : event.key;
    const parent = this.itemOf(item.parentElement);
    /** @type {HTMLElement | null | undefined} */
    let to;
    if (key === "ArrowDown") to = items[index + 1];
    else if (key === "ArrowUp") to = items[index - 1];
    else if (key === "Home") to = items[0];
    else if (key === "End") to = items.at(-1);
    else if (key === "ArrowRight" && isOpen === "false") this.act(item);
    else if (key === "ArrowRight" && isOpen === "true") to = items[index + 1];
    else if (key === "ArrowLeft" && isOpen === "true") this.collapse(item);
    else if (key === "ArrowLeft") to = parent;
    else if (key === "Enter" || key === " ") this.act(item);
    else if (key === "F2") this.attempt(() => this.rename());
    else if (key === "Delete") this.attempt(() => this.remove());
    else if (key.length === 1) to = this.find(items, index, key);
    else return;
    event.preventDefault();
    if (to) this.choose(to, true);
    else if (this.current !== item) this.choose(item);
  }

  /** By the first letters, as lists of files do. @param {HTMLElement[]} items @param {number} from @param {string} key */
  find(items, from, key) {
    const now = performance.now();
    this.typed = now - this.typedAt < 800 ? this.typed + key : key;
    this.typedAt = now;
    const start = this.typed.length > 1 ? from : from + 1;
    const turned = [...items.slice(start), ...items.slice(0, start)];
    const text = this.typed.toLowerCase();
    return turned.find((item) => item.getAttribute("aria-label")?.toLowerCase().startsWith(text));
  }

  /** A name in the folder that is chosen. @param {string} name */
  within(name) {
    const item = this.current;
    if (!item) return name;
    const path = item.dataset.path ?? "";
    const folder = item.dataset.type === "directory" ? path : path.split("/").slice(0, -1).join("/");
    return folder ? `${folder}/${name}` : name;
  }

  async newFile() {
    const path = await ask(t("newFile"), t("newName"), this.within("program.py"));
    if (!path) return;
    await write(path, "", null);
    await this.refresh();
    await this.editor.open(path);
    this.dispatchEvent(new Event("opened"));
    this.editor.view.focus();
  }

  async newFolder() {
    const path = await ask(t("newFolder"), t("newName"), this.within(t("folderName")));
    if (!path) return;
    await makeDirectory(path);
    await this.refresh();
  }

  async rename() {
    const path = this.current?.dataset.path;
    if (!path) return;
    const to = await ask(t("rename"), t("newName"), path);
    if (!to || to === path) return;
    await rename(path, to);
    await this.editor.renamed(path, to);
    await this.refresh();
    this.choose(this.visible().find((item) => item.dataset.path === to) ?? null, true);
  }

  async remove() {
    const item = this.current;
    const path = item?.dataset.path;
    if (!path) return;
    const question = item.dataset.type === "directory" ? "removeFolder" : "removeFile";
    const sentence = question === "removeFolder" ? t("removeFolder", { path }) : t("removeFile", { path });
    if (!(await confirm(t("remove"), sentence, t("remove")))) return;
    await remove(path);
    await this.editor.removed(path);
    this.choose(null);
    await this.refresh();
  }

  download() {
    const item = this.current;
    const path = item?.dataset.path;
    if (!path) return;
    const name = (path.split("/").at(-1) ?? path) + (item.dataset.type === "directory" ? ".tar" : "");
    const link = make("a", { href: address(path), download: name, hidden: true });
    document.body.append(link);
    link.click();
    link.remove();
  }

  /** @param {Upload[]} uploads */
  async upload(uploads) {
    await this.attempt(async () => {
      const taken = await this.taken(uploads);
      if (taken.length) {
        const names = taken.slice(0, 5).join(", ");
        const sentence = t("replaceQuestion", { count: taken.length, names });
        if (!(await confirm(t("upload"), sentence, t("replaceFiles")))) return;
      }
      const total = uploads.reduce((sum, { file }) => sum + file.size, 0);
      let done = 0;
      for (const { path, file } of uploads) {
        await upload(path, file, (sent) => {
          this.say(t("uploading", { name: path, done: size(done + sent), total: size(total) }));
        });
        done += file.size;
      }
      await this.refresh();
      this.say(t("uploaded", { count: uploads.length }));
      announce(t("uploaded", { count: uploads.length }));
    });
  }

  /** Names that are there already. @param {Upload[]} uploads */
  async taken(uploads) {
    const folders = new Set(uploads.map(({ path }) => path.split("/").slice(0, -1).join("/")));
    const there = new Set();
    for (const folder of folders) {
      const { entries } = await list(folder).catch(() => ({ entries: [] }));
      for (const { name } of entries) there.add(folder ? `${folder}/${name}` : name);
    }
    return uploads.map(({ path }) => path).filter((path) => there.has(path));
  }

  dropping() {
    const veil = element("drop");
    const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      veil.hidden = false;
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) veil.hidden = true;
    });
    addEventListener("drop", async (event) => {
      if (!hasFiles(event) || !event.dataTransfer) return;
      event.preventDefault();
      veil.hidden = true;
      const item = this.itemOf(event.target);
      if (item) this.choose(item);
      // The list is empty after the first turn.
      const dropped = [...event.dataTransfer.items].map((one) => one.webkitGetAsEntry?.() ?? one.getAsFile());
      /** @type {Upload[]} */
      const uploads = [];
      for (const one of dropped) {
        if (one instanceof File) uploads.push({ path: this.within(one.name), file: one });
        else if (one) await walk(one, uploads, this);
      }
      if (uploads.length) this.upload(uploads);
    });
  }
}

/** @param {FileSystemEntry} entry @param {Upload[]} uploads @param {Tree} tree */
async function walk(entry, uploads, tree) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) =>
      /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject));
    uploads.push({ path: tree.within(entry.fullPath.replace(/^\//, "")), file });
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const one of some) await walk(one, uploads, tree);
  }
}

/** @param {number} bytes */
function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}
