// What the tests of the page share: a daemon of their own, browsers, and a wire that can be cut.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  accessSync, chmodSync, constants, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync,
} from "node:fs";
import net from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";
import puppeteer from "puppeteer-core";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
/** Pictures for people, where this is set. */
const PICTURES = process.env.FURTHER_LINK_TEST_PICTURES ?? "";

/** Waits until something holds; says what it was when it never does. */
export async function until(what, check, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A directory that goes with the test, however it ends. */
export function scratch(test, name) {
  const directory = mkdtempSync(join(tmpdir(), `further-link-${name}.`));
  test.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const freePort = async () => {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
};

/**
 * A daemon with an empty work directory of the account `pi` (or of this user, without root).
 * With a token it needs that; with `tls` it makes a certificate of its own.
 */
export async function daemon({ token = "", tls = false } = {}) {
  const directory = mkdtempSync(join(tmpdir(), "further-link-browser."));
  // The certificate's directory is to be made in one that nobody else can write to.
  chmodSync(directory, 0o755);
  const work = join(directory, "work");
  mkdirSync(work);
  chmodSync(work, 0o777);
  const secret = join(directory, "token");
  if (token) writeFileSync(secret, `${token}\n`, { mode: 0o600 });
  const port = await freePort();
  const binary = process.env.FURTHER_LINK_TEST_BINARY;
  accessSync(binary, constants.X_OK);
  const child = spawn(binary, [
    "--port", String(port), "--work-dir", work, "--state-dir", join(directory, "state"),
    ...(tls ? [] : ["--no-tls"]), ...(token ? ["--token-file", secret] : []),
  ], { env: { ...process.env, FURTHER_LINK_NOSSL: "" }, stdio: ["ignore", "ignore", "pipe"], cwd: directory });
  let log = "";
  child.stderr.on("data", (data) => (log += data));
  await until("it listens", () => isListening(port)).catch((error) => {
    throw new Error(`${error.message}: ${log}`);
  });
  return {
    port,
    work,
    log: () => log,
    /** Its origin, under a name or an address of this machine. */
    at: (host) => `${tls ? "https" : "http"}://${host}:${port}`,
    async end() {
      child.kill("SIGTERM");
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

const isListening = (port) => new Promise((resolve) => {
  const socket = net.connect(port, "127.0.0.1", () => {
    socket.destroy();
    resolve(true);
  });
  socket.on("error", () => resolve(false));
});

/** An address of this machine that is not its loopback's, as an origin has it; whoever comes from there is no local program. */
export function outerAddress() {
  const addresses = Object.values(networkInterfaces()).flat().filter(({ internal, scopeid }) => !internal && !scopeid);
  const found = addresses.find(({ family }) => family === "IPv4") ?? addresses[0];
  return found && (found.family === "IPv6" ? `[${found.address}]` : found.address);
}

/** A port that passes everything on to the daemon, until it is cut. */
export async function wire(to) {
  const sockets = new Set();
  let isCut = false;
  let left = Infinity;
  const cut = () => {
    isCut = true;
    for (const socket of sockets) socket.destroy();
  };
  const cable = {
    port: 0,
    /** Bytes that have come from the browser. */
    sent: 0,
    cut,
    /** Cuts it when so many more bytes have come from the browser. */
    cutAfter: (bytes) => (left = bytes),
    mend() {
      isCut = false;
      left = Infinity;
    },
    get isCut() {
      return isCut;
    },
    end() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
  const server = net.createServer((socket) => {
    if (isCut) return socket.destroy();
    const other = net.connect(to, "127.0.0.1");
    socket.on("data", ({ length }) => {
      cable.sent += length;
      left -= length;
      if (left < 0) cut();
    });
    for (const [one, two] of [[socket, other], [other, socket]]) {
      sockets.add(one);
      one.pipe(two);
      one.on("error", () => two.destroy());
      one.on("close", () => {
        sockets.delete(one);
        two.destroy();
      });
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  cable.port = server.address().port;
  return cable;
}

const BROWSERS = {
  chromium: ["/usr/bin/chromium", { args: ["--no-sandbox", "--disable-background-networking"] }],
  firefox: ["/usr/bin/firefox-esr", { browser: "firefox" }],
};

/** Starts a browser, which takes the certificates that devices make for themselves. */
export function launch(name, options = {}) {
  const [executablePath, own] = BROWSERS[name];
  return puppeteer.launch({ executablePath, acceptInsecureCerts: true, ...own, ...options });
}

/** Bytes of its own that the largest page of a browser has in memory. */
export function memory(browser) {
  const childrenOf = (parent) => readdirSync(`/proc/${parent}/task`).flatMap((thread) =>
    existing(() => readFileSync(`/proc/${parent}/task/${thread}/children`, "latin1").split(" ").filter(Boolean), []));
  const below = (parent) => [parent, ...existing(() => childrenOf(parent), []).flatMap(below)];
  const sizes = below(browser.process().pid).map((process) => existing(() => {
    const isPage = /--type=renderer|-contentproc/.test(readFileSync(`/proc/${process}/cmdline`, "latin1"));
    return isPage ? Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${process}/status`, "latin1"))?.[1]) * 1024 : 0;
  }, 0));
  return Math.max(...sizes);
}

/** What is asked of a process that may have gone. */
function existing(ask, otherwise) {
  try {
    return ask();
  } catch {
    return otherwise;
  }
}

/**
 * Has tests run in each browser that is wanted and there, and looks behind them for what must never happen.
 * They get the browser's name and a stage with the browser, a daemon, and pages of it.
 */
export function inEachBrowser(tests) {
  for (const name of (process.env.FURTHER_LINK_TEST_BROWSERS ?? "chromium,firefox").split(",")) {
    if (!existsSync(BROWSERS[name][0])) {
      console.error(`SKIPPED: ALL TESTS OF THE PAGE IN ${name.toUpperCase()}, which is not installed (tests/packages.txt)`);
      continue;
    }
    const stage = { browser: null, server: null, here: (options) => open(stage.browser, stage.server.port, options) };
    describe(name, () => {
      before(async () => {
        stage.server = await daemon();
        stage.browser = await launch(name);
      });
      after(async () => {
        await stage.browser?.close();
        await stage.server?.end();
      });
      tests(name, stage);
      it("has asked nobody else, broken no rule of its policy, and failed nowhere", () => {
        assert.deepEqual(wrongs.splice(0), []);
      });
    });
  }
}

/** What must never happen, over all pages of a test run. */
const wrongs = [];

/** A page that is ready, in a context of its own. `at` is the origin, which is the port of `localhost` otherwise. */
export async function open(browser, port, { path = "/", at = `http://localhost:${port}`, ...options } = {}) {
  const page = await blank(browser, { ...options, hosts: [new URL(at).host] });
  await page.goto(at + path);
  await ready(page);
  return page;
}

/** An empty page that is watched; it may ask these hosts. */
export async function blank(browser, { width = 1280, height = 800, scale = 1, settings = {}, context, hosts }) {
  const own = context ?? (await browser.createBrowserContext());
  const page = await own.newPage();
  await page.setViewport({ width, height, deviceScaleFactor: scale });
  page.on("pageerror", (error) => {
    // What Firefox says of a WebSocket when a test has cut its wire.
    if (!/establish a connection|connection to .* was interrupted/.test(error.message)) wrongs.push(`error: ${error.message}`);
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!/^(blob|data|about):/.test(url) && !hosts.includes(new URL(url).host)) wrongs.push(`request: ${url}`);
  });
  await page.evaluateOnNewDocument((chosen) => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
      window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
    if (/^https?:$/.test(location.protocol) && Object.keys(chosen).length && !localStorage.getItem("further-link.settings")) {
      localStorage.setItem("further-link.settings", JSON.stringify(chosen));
    }
  }, settings);
  return page;
}

export const ready = (page) =>
  until("the page is ready", () => page.evaluate(() => document.body?.dataset.ready === "true" &&
    document.querySelector("#connection").dataset.state === "open").catch(() => false));

/** Closes a page, and keeps what its policy has refused. */
export async function close(page) {
  for (const violation of await page.evaluate(() => window.violations)) wrongs.push(`policy: ${violation}`);
  await page.close();
}

/** Nothing where there is no such element. */
export const text = (page, selector) =>
  page.evaluate((found) => document.querySelector(found)?.textContent ?? "", selector);
export const says = (page, selector, words, seconds) =>
  until(`${selector} says ${words}`, async () => (await text(page, selector)).includes(words), seconds);

/** Types a program as a person would, and waits until the editor has it. */
export async function write(page, path, program) {
  await page.evaluate(() => document.querySelector("#views [data-view=files]").click());
  await page.click("#new-file");
  await page.waitForSelector("#dialog-field");
  await page.$eval("#dialog-field", (field, name) => (field.value = name), path);
  await page.keyboard.press("Enter");
  await says(page, "#edit-status", path);
  await page.focus(".cm-content");
  // Typing would be indented by the editor, and not every browser lets a script paste.
  await page.evaluate(async (inserted) => {
    const { imports } = JSON.parse(document.querySelector("script[type=importmap]").textContent);
    const { EditorView } = await import(imports["@codemirror/view"]);
    const view = EditorView.findFromDOM(document.querySelector(".cm-editor"));
    view.dispatch({ changes: { from: 0, insert: inserted }, selection: { anchor: inserted.length } });
  }, program);
  await says(page, "#edit-status", "not saved");
}

/** Types a line into a field, and sends it. */
export async function enter(page, field, line) {
  await page.type(field, line);
  await page.keyboard.press("Enter");
}

export async function ctrl(page, key) {
  await page.keyboard.down("Control");
  await page.keyboard.press(key);
  await page.keyboard.up("Control");
}

export async function run(page) {
  await until("Run can be pressed", () => page.$eval("#run", (button) => !button.disabled));
  await page.click("#run");
}

/** What axe finds wrong with the page as it is now. */
export async function axe(page) {
  // By the test, not by the page: its policy does not let foreign scripts in.
  if (!(await page.evaluate(() => "axe" in window))) {
    await page.evaluate(`(() => { ${readFileSync(AXE, "utf8")}; })()`);
  }
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(({ id, nodes }) =>
    `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html.slice(0, 160)} ${failureSummary}`).join(" | ")}`);
}

export async function picture(page, name) {
  if (!PICTURES) return;
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`) });
}
