// The page: puts the panels together. README.md tells which module does what.

import { device, isLetIn, signIn, takeTokenFromAddress } from "./access.js";
import { Client } from "./client.js";
import { element, make } from "./dom.js";
import { Editor } from "./editor.js";
import { EXAMPLES } from "./examples.js";
import { arrange, point, reveal, seenBefore, show } from "./layout.js";
import { openHelp, openSettings } from "./panels.js";
import { Picture } from "./picture.js";
import { known, ProgramList, Runs } from "./runs.js";
import { recall, remember, secret, showSettings } from "./settings.js";
import { t, translate } from "./texts.js";
import { Tree } from "./tree.js";

showSettings();
translate(document);

/** @param {string} id */
const button = (id) => /** @type {HTMLButtonElement} */ (element(id));
/** @param {string} id */
const field = (id) => /** @type {HTMLInputElement} */ (element(id));
/** @param {string} query */
const address = (query) => `${location.origin.replace(/^http/, "ws")}/run${query}`;

/** Asks for the token of the device, until it is the right one. */
async function enter() {
  const shown = takeTokenFromAddress();
  let outcome = shown === null ? ((await isLetIn()) ? "in" : "ask") : await signIn(shown);
  while (outcome !== "in") {
    element("sign-in-page").hidden = false;
    element("sign-in-notice").textContent =
      outcome === "wrong" ? t("tokenWrong") : outcome === "later" ? t("tokenLater") : t("tokenNeeded");
    field("token").focus();
    await new Promise((resolve) => {
      element("sign-in").onsubmit = (event) => {
        event.preventDefault();
        resolve(null);
      };
    });
    const token = field("token").value;
    field("token").value = "";
    outcome = await signIn(token);
  }
  element("sign-in-page").hidden = true;
}

await enter();
element("app").hidden = false;
arrange();

const client = new Client(address(""), secret());
const terminals = new Client(address("?pty=1"), secret());
const editor = new Editor();
const tree = new Tree(editor);
const picture = new Picture();
const runs = new Runs(client, picture);
/** @type {Promise<import("./terminal.js").TerminalPanel> | null} */
let terminal = null;
/** @type {import("./client.js").Program | null} */
let inTerminal = null;
/** What the program in the terminal is called. */
let terminalTitle = "";

const programs = new ProgramList(client, runs, {
  shown: () => new Set([runs, { program: inTerminal }].map(({ program }) => (program?.isLive ? program.session : ""))),
  async attach(session, { key, viewKey, title, terminal: isTerminal }) {
    show(isTerminal ? "terminal" : "output");
    if (isTerminal) {
      terminalTitle = title;
      (await openTerminal()).attach({ session, key, viewKey });
    } else {
      runs.leave();
      runs.log.clear();
      runs.attach({ session, key, viewKey }, title);
    }
  },
});

/** Loads the styles of a package. @param {string} name */
function stylesheet(name) {
  return new Promise((resolve, reject) => {
    const link = make("link", { rel: "stylesheet", href: import.meta.resolve(name), onload: resolve, onerror: reject });
    document.head.append(link);
  });
}

/** The terminal's panel, which is loaded now. */
function openTerminal() {
  terminal ??= Promise.all([import("./terminal.js"), stylesheet("@xterm/xterm.css")]).then(([{ TerminalPanel }]) => {
    terminals.connect();
    const panel = new TerminalPanel(terminals);
    panel.addEventListener("changed", () => {
      inTerminal = panel.program;
      if (inTerminal?.isLive && inTerminal.session) {
        known.add(inTerminal, terminalTitle, true);
        remember("terminal", inTerminal.ticket, sessionStorage);
      }
      showRun();
      programs.refresh();
    });
    panel.addEventListener("ended", () => {
      if (panel.program) known.forget(panel.program.session);
      remember("terminal", null, sessionStorage);
      panel.show();
    });
    return panel;
  });
  return terminal;
}
async function shell() {
  show("terminal");
  const panel = await openTerminal();
  show("terminal");
  if (!panel.program?.isLive) {
    terminalTitle = t("shell");
    panel.start({ runner: "shell", path: "." });
  }
  panel.term.focus();
}

/** @returns {import("./client.js").Runner[]} */
const runners = () => client.hello?.runners ?? [];

/** The runner that will be taken, as far as the page can tell. */
function runner() {
  const chosen = /** @type {HTMLSelectElement} */ (/** @type {unknown} */ (element("runner"))).value;
  const ending = editor.current?.path.split("/").at(-1)?.split(".").at(-1)?.toLowerCase() ?? "";
  return runners().find(({ id, extensions }) => (chosen ? id === chosen : extensions.includes(ending)));
}

function listRunners() {
  const select = /** @type {HTMLSelectElement} */ (/** @type {unknown} */ (element("runner")));
  const chosen = select.value;
  const options = runners().filter(({ id }) => id !== "shell").map(({ id, title, available }) =>
    new Option(available ? title : t("notInstalled", { title }), id));
  select.replaceChildren(new Option(t("byName"), ""), ...options);
  select.value = chosen;
  hint();
}

function hint() {
  const taken = runner();
  const text = taken && !taken.available ? t("missing", { title: taken.title, hint: taken.hint ?? "" }) : "";
  element("runner-hint").textContent = text;
  element("options").classList.toggle("warn", text !== "");
}

async function run() {
  if (button("run").disabled) return;
  const tab = editor.current;
  if (!tab) return;
  button("run").disabled = true;
  const saved = await editor.save(tab);
  showRun();
  if (!saved) return;
  const { value } = /** @type {HTMLSelectElement} */ (/** @type {unknown} */ (element("runner")));
  const line = field("arguments").value;
  /** @type {HTMLDetailsElement} */ (element("options")).open = false;
  if (field("in-terminal").checked) {
    show("terminal");
    const panel = await openTerminal();
    const { words } = await import("./lines.js");
    const args = words(line);
    terminalTitle = tab.path;
    panel.start({ path: tab.path, ...(value ? { runner: value } : {}), ...(args.length ? { args } : {}) });
    return;
  }
  reveal("output");
  runs.start(tab.path, value, line);
}

/** Whether a program of the terminal is on the screen. */
const isTerminalLive = () => !element("terminal-panel").hidden && (inTerminal?.isLive ?? false);

/** Whichever is seen: a shell that is hidden is not meant. */
function stop() {
  if (isTerminalLive()) inTerminal?.stop();
  else runs.program?.stop();
}

function showRun() {
  button("run").disabled = runs.isLive || !editor.current;
  button("stop").disabled = !runs.isLive && !isTerminalLive();
}

/** @param {import("./examples.js").Example} example */
async function openExample({ file, text, terminal: isTerminal }) {
  // A file with this name is the person's by now.
  await editor.open(file).catch(() => editor.create(file, text));
  field("in-terminal").checked = isTerminal;
  show("editor");
  editor.view.focus();
}

async function help() {
  const example = await openHelp();
  if (example) await openExample(example);
}

let hasFailed = false;
function showConnection() {
  const { state } = client;
  hasFailed = state === "waiting" || (hasFailed && state === "connecting");
  const text = state === "open" ? t("connected") : hasFailed ? t("reconnecting") : t("connecting");
  const place = element("connection");
  if (place.textContent !== text) place.textContent = text;
  place.dataset.state = state;
}

client.addEventListener("state", () => {
  showConnection();
  if (client.isOpen) programs.refresh();
});
client.addEventListener("hello", () => {
  const name = client.hello?.device ?? "further-link";
  element("device-name").textContent = name;
  document.title = `${name} · further-link`;
  listRunners();
});
client.addEventListener("problem", (event) => {
  runs.log.note(/** @type {CustomEvent<string>} */ (event).detail);
});
for (const event of ["online", "pageshow", "focus"]) {
  addEventListener(event, () => {
    client.check();
    terminals.check();
  });
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  client.check();
  terminals.check();
  programs.refresh();
});
runs.addEventListener("changed", () => {
  showRun();
  programs.refresh();
});
runs.addEventListener("ended", () => {
  showRun();
  tree.attempt(() => tree.refresh());
});
picture.addEventListener("first", () => (runs.isLive ? reveal("picture") : point("picture")));
editor.addEventListener("shown", () => {
  showRun();
  hint();
});
editor.addEventListener("files", () => tree.attempt(() => tree.refresh()));
tree.addEventListener("opened", () => show("editor"));

// Another panel is seen.
addEventListener("resize", showRun);
button("run").addEventListener("click", run);
button("stop").addEventListener("click", stop);
button("open-terminal").addEventListener("click", shell);
button("open-settings").addEventListener("click", () => openSettings(client));
button("open-help").addEventListener("click", help);
element("runner").addEventListener("change", hint);
addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const isCtrl = event.ctrlKey || event.metaKey;
  if (isCtrl && event.key === "Enter") run();
  else if (isCtrl && event.key === ".") stop();
  else if (isCtrl && event.key.toLowerCase() === "s" && !event.shiftKey) editor.save();
  else if (event.key === "F1") help();
  else if (event.key === "Escape") /** @type {HTMLDetailsElement} */ (element("options")).open = false;
  else return;
  if (event.key !== "Escape") event.preventDefault();
}, { capture: true });
document.addEventListener("pointerdown", (event) => {
  const options = /** @type {HTMLDetailsElement} */ (element("options"));
  if (!options.contains(/** @type {Node} */ (event.target))) options.open = false;
});

const seen = seenBefore();
show("editor");
showConnection();
client.connect();
const notice = device().access === "network" ? t("open") : "";
element("notice").textContent = notice;
element("notice").hidden = !notice;

/** A program that somebody shows by a link: `#watch=SESSION.KEY`. */
function watched() {
  const watch = new URLSearchParams(location.hash.slice(1)).get("watch");
  if (!watch) return false;
  const [session, viewKey] = watch.split(".");
  if (!session || !viewKey) return false;
  history.replaceState(null, "", location.pathname);
  runs.attach({ session, key: "", viewKey }, t("shared"));
  show("output");
  return true;
}
/** @type {import("./client.js").Ticket | null} */
const before = recall("terminal", /** @type {any} */ (null), sessionStorage);
if (!watched()) {
  runs.restore();
  // A terminal without a program shows nothing.
  if (seen && (before || seen.result !== "terminal")) {
    show(seen.result);
    show(seen.view);
  }
}
if (before) {
  terminalTitle = known.all()[before.session]?.title ?? "";
  openTerminal().then((panel) => panel.attach(before));
}

await tree.attempt(() => tree.refresh());
const hadTabs = await editor.restore();
const asked = new URLSearchParams(location.search);
const file = [asked.get("project"), asked.get("file")].filter(Boolean).join("/");
if (asked.has("file")) {
  await tree.attempt(() => editor.open(file).catch((error) => {
    throw new Error(t("notOpened", { path: file, why: error.message }));
  }));
} else if (!hadTabs && EXAMPLES[0]) await openExample(EXAMPLES[0]);
showRun();
document.body.dataset.ready = "true";
