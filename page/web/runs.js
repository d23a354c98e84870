// Programs on pipes: run, stop, output, input; and the list of all programs that this browser has running.

import { announce } from "./announcer.js";
import { element, make } from "./dom.js";
import { words } from "./lines.js";
import { Log } from "./log.js";
import { recall, remember } from "./settings.js";
import { visible } from "./terminal-text.js";
import { t } from "./texts.js";

/** @typedef {import("./client.js").Client} Client */
/** @typedef {import("./client.js").Program} Program */
/** @typedef {import("./client.js").Runner} Runner */
/** @typedef {{key: string, viewKey: string, title: string, terminal: boolean}} Known */

/** How long a program runs on without a page. Output waits for the page, so that nothing is lost. */
const KEEP = { seconds: 12 * 3600, full: "wait" };
/** Programs whose keys are remembered. */
const MOST_KNOWN = 100;

/** Keys of the kept programs of this browser, by session. */
export const known = {
  /** @returns {Record<string, Known>} */
  all: () => recall("programs", {}),
  /** @param {Program} program @param {string} title @param {boolean} terminal */
  add(program, title, terminal) {
    if (!program.session || !program.key) return;
    const { key, viewKey } = program;
    const all = Object.entries({ ...this.all(), [program.session]: { key, viewKey, title, terminal } });
    remember("programs", Object.fromEntries(all.slice(-MOST_KNOWN)));
  },
  /** @param {string} session */
  forget(session) {
    const all = this.all();
    delete all[session];
    remember("programs", all);
  },
};

export class Runs extends EventTarget {
  /**
   * @param {Client} client
   * @param {import("./picture.js").Picture} picture
   */
  constructor(client, picture) {
    super();
    this.client = client;
    this.picture = picture;
    this.log = new Log();
    /** @type {Program | null} */
    this.program = null;
    this.title = "";
    this.result = "";
    /** @type {Program | null} The program of the terminal panel. */
    this.inTerminal = null;
    const form = element("input-form");
    const input = /** @type {HTMLInputElement} */ (element("input"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.program?.input(`${input.value}\n`)) {
        if (this.program?.isLive) this.log.note(t("tooMuchInput"));
        return;
      }
      this.log.push(`${input.value}\n`, "note");
      input.value = "";
    });
    element("end-input").addEventListener("click", () => this.program?.input("", true));
    element("discard").addEventListener("click", () => this.program?.discard());
    element("take").addEventListener("click", () => this.program?.take());
    element("clear").addEventListener("click", () => this.log.clear());
    element("save-output").addEventListener("click", () => this.log.save());
    element("share").addEventListener("click", () => this.share());
    addEventListener("pagehide", () => {
      const { program } = this;
      const about = program?.session && program.isLive ? { ...program.ticket, title: this.title } : null;
      this.log.store({ ticket: about, title: this.title, result: this.result });
    });
    this.show();
  }

  get isLive() {
    return this.program?.isLive ?? false;
  }

  /**
   * @param {string} path
   * @param {string} runner Empty: by the name of the file.
   * @param {string} line
   */
  start(path, runner, line) {
    this.leave();
    this.log.clear();
    this.title = path;
    const args = words(line);
    const data = { path, ...(runner ? { runner } : {}), ...(args.length ? { args } : {}), keep: KEEP };
    this.follow(this.client.start(data, this.listener()));
  }

  /** @param {import("./client.js").Ticket} ticket @param {string} title */
  attach(ticket, title) {
    this.leave();
    this.title = title;
    this.follow(this.client.attach(ticket, this.listener()));
  }

  /** @param {Program} program */
  follow(program) {
    this.program = program;
    this.result = "";
    this.picture.follow(program);
    this.show();
  }

  leave() {
    if (this.program?.isLive) this.program.leave();
    this.program = null;
  }

  /** After the page was loaded again: what was there, and the program that ran. */
  restore() {
    const about = this.log.restore();
    if (!about) return;
    this.title = about.title;
    if (about.ticket) this.attach(about.ticket, about.title);
    this.result = about.ticket ? "" : about.result;
    this.show();
  }

  /** @returns {import("./client.js").Listener} */
  listener() {
    return {
      output: (text, stream) => this.log.push(text, stream),
      screen: (text) => this.log.push(text, "stdout"),
      lost: (bytes) => this.log.note(t("lost", { bytes })),
      video: (base64) => this.picture.frame(base64),
      keylisten: (key) => this.picture.listen(key),
      stopped: ({ exitCode, reason }) => {
        // Its last lines are there before it is said to have ended.
        this.log.flush();
        if (this.program) known.forget(this.program.session);
        this.result = ended(exitCode, reason);
        this.picture.ended();
        announce(this.result);
        this.dispatchEvent(new Event("ended"));
        this.show();
      },
      failed: (message) => {
        // One that had started, or that a link leads to, is gone; the daemon's sentence is for programmers then.
        const isGone = Boolean(message && this.program?.session);
        this.log.push(`${isGone ? t("goneText") : message || t("connectionLost")}\n`, "stderr");
        this.result = isGone ? t("gone") : t("notStarted");
        this.show();
      },
      changed: () => {
        if (this.program) known.add(this.program, this.title, false);
        this.show();
        this.dispatchEvent(new Event("changed"));
      },
    };
  }

  show() {
    const { program } = this;
    const isLive = this.isLive;
    const mayType = isLive && program?.mode === "use";
    for (const id of ["input", "send", "end-input"]) {
      /** @type {HTMLInputElement | HTMLButtonElement} */ (element(id)).disabled = !mayType;
    }
    const state = !program ? this.result
      : program.state === "starting" ? t("starting")
        : program.mode === "view" && isLive ? t("watching")
          : isLive ? t("running", { title: this.title }) : this.result;
    const others = isLive && program && program.viewers > 1 ? ` · ${t("watched", { count: program.viewers - 1 })}` : "";
    element("program-state").textContent = state + others;
    element("take").hidden = !(mayType && program && !program.holder);
    element("share").hidden = !(isLive && program?.viewKey);
    const unsent = program?.unsent ?? "";
    element("unsent").hidden = !unsent || program?.state === "running";
    element("unsent-text").textContent = t("unsent", { text: visible(unsent) });
    element("output-empty").hidden = !this.log.isEmpty || isLive;
  }

  async share() {
    const { program } = this;
    if (!program) return;
    const url = new URL(location.origin);
    url.hash = `watch=${program.session}.${program.viewKey}`;
    const { share } = await import("./share.js");
    await share(url.href);
  }
}

/** @param {number} code @param {string | undefined} reason */
function ended(code, reason) {
  switch (reason) {
    case "stopped": return t("endedStopped");
    case "expired": return t("endedExpired");
    case "evicted": return t("endedEvicted");
    case "shutdown": return t("endedShutdown");
    case "memory": return t("endedMemory");
    case "time": return t("endedTime");
    case "processes": return t("endedProcesses");
    default: return code === 0 ? t("endedWell") : t("endedWith", { code });
  }
}

/** The region "Running programs". */
export class ProgramList {
  /**
   * @param {Client} client
   * @param {Runs} runs
   * @param {{attach: (session: string, program: Known) => void, shown: () => Set<string>}} page
   */
  constructor(client, runs, page) {
    this.client = client;
    this.runs = runs;
    this.page = page;
    this.place = element("program-list");
    this.isBusy = false;
    this.isDue = false;
  }

  async refresh() {
    if (this.isBusy) {
      this.isDue = true;
      return;
    }
    this.isBusy = true;
    const sessions = await this.client.sessions();
    this.isBusy = false;
    this.draw(sessions);
    if (!this.isDue) return;
    this.isDue = false;
    this.refresh();
  }

  /** @param {import("./client.js").Session[]} sessions */
  draw(sessions) {
    const keys = known.all();
    const shown = this.page.shown();
    const focused = document.activeElement?.closest("#program-list button")?.id;
    this.place.replaceChildren(...sessions.map((session) => {
      const mine = keys[session.session];
      const name = mine?.title ?? session.path ?? session.runner;
      const isShown = shown.has(session.session);
      const state = session.state === "running" ? t("stateRunning") : t("stateEnded", { code: session.exitCode ?? 0 });
      const time = new Date(session.started * 1000).toLocaleTimeString(document.documentElement.lang,
        { hour: "2-digit", minute: "2-digit" });
      const row = make("li", {}, make("span", { class: "name", title: name }, name),
        make("span", { class: "hint" }, `${isShown ? `${t("stateShown")} · ` : ""}${state} · ${time}`));
      if (!mine) return row;
      const buttons = make("span", { class: "buttons" });
      if (!isShown) {
        buttons.append(make("button", {
          type: "button", id: `show-${session.session}`, "aria-label": `${t("attach")} ${name}`,
          onclick: () => this.page.attach(session.session, mine),
        }, t("attach")));
      }
      buttons.append(make("button", {
        type: "button", id: `stop-${session.session}`,
        "aria-label": session.state === "running" ? t("stopNamed", { name }) : t("removeNamed", { name }),
        onclick: () => this.end(session.session, mine),
      }, session.state === "running" ? t("stopIt") : t("removeIt")));
      row.append(buttons);
      return row;
    }));
    element("programs-empty").hidden = sessions.length > 0;
    if (focused) document.getElementById(focused)?.focus();
  }

  /** Stops it, wherever it is shown; to have fetched its end removes it. @param {string} session @param {Known} mine */
  end(session, mine) {
    const program = this.client.attach({ session, key: mine.key }, {
      stopped: () => {
        known.forget(session);
        this.refresh();
      },
      failed: () => this.refresh(),
    });
    program.stop();
  }
}
