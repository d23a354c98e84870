// What the tests of the page share: a daemon of their own, browsers, and a wire that can be cut.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, mkdtempSync, chmodSync, rmSync, existsSync, mkdirSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRequire } from "node:module";
import puppeteer from "puppeteer-core";

export const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
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

const freePort = async () => {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
};

/** A daemon with an empty work directory of the account `pi` (or of this user, without root). */
export async function daemon() {
  const directory = mkdtempSync(join(tmpdir(), "further-link-browser."));
  chmodSync(directory, 0o777);
  const port = await freePort();
  const binary = process.env.FURTHER_LINK_TEST_BINARY;
  accessSync(binary, constants.X_OK);
  const child = spawn(binary, ["--port", String(port), "--no-tls", "--work-dir", join(directory, "work")], {
    env: { ...process.env, FURTHER_LINK_NOSSL: "1" }, stdio: ["ignore", "ignore", "pipe"], cwd: directory,
  });
  let log = "";
  child.stderr.on("data", (data) => (log += data));
  await until(`listening: ${log}`, () => fetch(`http://127.0.0.1:${port}/status`).then(({ ok }) => ok, () => false));
  return {
    port,
    log: () => log,
    async end() {
      child.kill("SIGTERM");
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** A port that passes everything on to the daemon, until it is cut. */
export async function wire(to) {
  const sockets = new Set();
  let isCut = false;
  const server = net.createServer((socket) => {
    if (isCut) return socket.destroy();
    const other = net.connect(to, "127.0.0.1");
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
  return {
    port: server.address().port,
    cut() {
      isCut = true;
      for (const socket of sockets) socket.destroy();
    },
    mend: () => (isCut = false),
    end: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

export const BROWSERS = {
  chromium: () => puppeteer.launch({
    executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-background-networking"],
  }),
  firefox: () => puppeteer.launch({ browser: "firefox", executablePath: "/usr/bin/firefox-esr" }),
};

export const isThere = (name) => existsSync(name === "chromium" ? "/usr/bin/chromium" : "/usr/bin/firefox-esr");

/** What must never happen, over all pages of a test run. */
export const wrongs = [];

/** A page that is ready, in a context of its own. */
export async function open(browser, port, { path = "/", width = 1280, height = 800, settings = {}, context } = {}) {
  const own = context ?? (await browser.createBrowserContext());
  const page = await own.newPage();
  await page.setViewport({ width, height });
  const origin = `http://localhost:${port}`;
  page.on("pageerror", (error) => {
    // What Firefox says of a WebSocket when a test has cut its wire.
    if (!/establish a connection|connection to .* was interrupted/.test(error.message)) wrongs.push(`error: ${error.message}`);
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!/^(blob|data|about):/.test(url) && new URL(url).host !== new URL(origin).host) wrongs.push(`request: ${url}`);
  });
  await page.evaluateOnNewDocument((chosen) => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
      window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
    if (location.protocol === "http:" && Object.keys(chosen).length && !localStorage.getItem("further-link.settings")) {
      localStorage.setItem("further-link.settings", JSON.stringify(chosen));
    }
  }, settings);
  await page.goto(origin + path);
  await ready(page);
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

export async function run(page) {
  await until("Run can be pressed", () => page.$eval("#run", (button) => !button.disabled));
  await page.click("#run");
}

/** What axe finds wrong with the page as it is now. */
export async function axe(page) {
  // By the test, not by the page: its policy does not let foreign scripts in.
  if (!(await page.evaluate(() => "axe" in window))) {
    const { readFileSync } = await import("node:fs");
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
