// Who gets in, as browsers see it: the token and its cookie, pages from elsewhere, and other machines.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import {
  axe, blank, close, daemon, inEachBrowser, open, outerAddress, picture, ready, run, says, text, until, write,
} from "./harness.mjs";

const TOKEN = "a-token-of-the-device-in-these-tests";

inEachBrowser((name, stage) => {
  const browser = () => stage.browser;
  for (const tls of [false, true]) describe(tls ? "with TLS" : "without TLS", () => withToken(name, tls, browser));
  describe("a page from elsewhere", () => fromElsewhere(browser));
  describe("another machine", () => fromAnotherMachine(browser));
});

/** A token, typed into the form of the page. */
async function show(page, token) {
  await page.type("#token", token);
  await page.keyboard.press("Enter");
}

const asks = (page) => until("the page asks for the token", () =>
  page.$eval("#sign-in-page", (asking) => !asking.hidden).catch(() => false));

/** All that scripts of the page can read in this browser, as one text. */
const readable = (page) => page.evaluate(async () => {
  const open = indexedDB.open("further-link");
  const database = await new Promise((resolve) => (open.onsuccess = () => resolve(open.result)));
  const rows = await Promise.all([...database.objectStoreNames].map((store) => new Promise((resolve) => {
    const request = database.transaction(store).objectStore(store).getAll();
    request.onsuccess = () => resolve(request.result);
  })));
  database.close();
  const { imports } = JSON.parse(document.querySelector("script[type=importmap]").textContent);
  return JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href, history.state, rows,
    document.documentElement.outerHTML, imports]);
});

function withToken(name, tls, browser) {
  let server;
  let at;
  before(async () => {
    server = await daemon({ token: TOKEN, tls });
    at = server.at("localhost");
  });
  after(() => server?.end());

  it("asks once, keeps a cookie that scripts cannot read, and forgets it at sign-out", async () => {
    const page = await blank(browser(), { hosts: [new URL(at).host] });
    await page.goto(at);
    await asks(page);
    assert.equal(await page.$eval("#app", (app) => app.hidden), true);
    assert.match(await text(page, "#sign-in-notice"), /asks for its token once/);
    assert.equal(await page.evaluate(() => document.activeElement.id), "token");
    assert.deepEqual(await axe(page), []);
    await picture(page, `${name}-sign-in`);
    await show(page, "another-token-than-that-of-the-device");
    await says(page, "#sign-in-notice", "This is not the token of this device.");
    assert.equal(await page.$eval("#app", (app) => app.hidden), true);
    assert.equal(await page.$eval("#token", (field) => field.value), "");
    await picture(page, `${name}-sign-in-wrong`);
    await show(page, TOKEN);
    await ready(page);

    const cookies = await page.browserContext().cookies();
    assert.equal(cookies.length, 1);
    const [cookie] = cookies;
    assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite, cookie.secure, cookie.path],
      [tls ? "__Host-further-link" : "further-link", true, "Strict", tls, "/"]);
    assert.ok(!cookie.value.includes(TOKEN));
    assert.ok(!(await readable(page)).includes(cookie.value));
    assert.ok(!(await readable(page)).includes(TOKEN));

    await page.reload();
    await ready(page);
    assert.equal(await page.$eval("#sign-in-page", (asking) => asking.hidden), true);
    await write(page, "in.py", "print('I am', 'in')\n");
    await run(page);
    await says(page, "#output", "I am in");

    await page.click("#open-settings");
    await page.waitForSelector("dialog[open]");
    await page.evaluate(() => [...document.querySelectorAll("dialog button")]
      .find((button) => button.textContent === "Sign out").click());
    await asks(page);
    assert.deepEqual(await page.browserContext().cookies(), []);
    await page.reload();
    await asks(page);
    assert.equal(await page.evaluate(() => fetch("/files").then(({ status }) => status)), 401);
    await close(page);
  });

  for (const [where, path] of [["query", `/?file=in.py&token=${TOKEN}`], ["fragment", `/?file=in.py#token=${TOKEN}`]]) {
    it(`takes a token out of the ${where} of its address`, async () => {
      const page = await blank(browser(), { hosts: [new URL(at).host] });
      await page.goto(at + path);
      await ready(page);
      assert.equal(page.url(), `${at}/?file=in.py`);
      assert.equal(await page.evaluate(() => history.length), name === "firefox" ? 1 : 2);
      assert.ok(!(await readable(page)).includes(TOKEN));
      await page.reload();
      await ready(page);
      await close(page);
    });

    it(`says that a token in the ${where} is wrong, and takes it out all the same`, async () => {
      const page = await blank(browser(), { hosts: [new URL(at).host] });
      await page.goto(at + path.replace(TOKEN, "another-token-than-that-of-the-device"));
      await asks(page);
      await says(page, "#sign-in-notice", "This is not the token of this device.");
      assert.equal(page.url(), `${at}/?file=in.py`);
      await show(page, TOKEN);
      await ready(page);
      await close(page);
    });
  }

  it("logs no token", () => assert.ok(!server.log().includes("token-of-the-device"), server.log()));
}

/**
 * Runs in a page: tries all that pages can, and answers what got through. `mark` is a file that programs make.
 * Whatever is blind (forms, beacons, opaque requests) is seen by what has changed on the device.
 * The device's own page neither signs out meanwhile, nor tries elements, which its policy forbids.
 */
async function attack(target, mark, isOwn = false) {
  const through = [];
  const attempts = [];
  const attempt = (what, act) => attempts.push(act().then((yes) => yes && through.push(what), (error) => {
    // Not answered at all: a download, for one.
    if (error?.message === "never answered") through.push(`${what}: ${error.message}`);
  }));
  const program = `open('${mark}', 'w')`;
  const removal = JSON.stringify({ action: "remove", path: "keep.txt" });
  for (const credentials of ["include", "omit"]) {
    for (const mode of ["cors", "no-cors"]) {
      for (const path of ["/", "/status", "/version", "/runners", "/run", "/run-py", "/files", "/files/keep.txt",
        "/version/apt/bash", "/certificate", "/page/main.js"]) {
        attempt(`GET ${path}`, async () => {
          const answer = await fetch(target + path, { credentials, mode, cache: "no-store" });
          return answer.type !== "opaque" && answer.ok;
        });
      }
      for (const [method, path, body, type] of [
        ["POST", "/files", removal, "text/plain"], ["POST", "/files", removal, "application/json"],
        ["PUT", "/files/put.txt", "put", "text/plain"], ["PUT", "/files/keep.txt", "changed", "text/plain"],
        ["POST", "/upload", "{}", "text/plain"], ["POST", "/sign-out", "", "text/plain"], ["POST", "/sign-in", "", "text/plain"],
      ]) {
        if (isOwn && path === "/sign-out") continue;
        attempt(`${method} ${path}`, async () => {
          const headers = { "Content-Type": type };
          const answer = await fetch(target + path, { method, body, credentials, mode, headers });
          return answer.type !== "opaque" && answer.ok;
        });
      }
    }
  }
  for (const path of ["/run", "/run?pty=1", "/run-py", "/run-py?pty=1"]) {
    attempt(`WebSocket ${path}`, () => new Promise((resolve, reject) => {
      const socket = new WebSocket(target.replace(/^http/, "ws") + path);
      socket.onerror = socket.onclose = reject;
      socket.onopen = () => {
        // The older dialect takes the code of a program as `sourceScript`.
        const data = path.startsWith("/run-py") ? { sourceScript: program } : { runner: "python3", code: program };
        socket.send(JSON.stringify({ type: "start", process: "1", data }));
        socket.onmessage = ({ data: message }) => JSON.parse(message).type === "stopped" && resolve(true);
      };
    }));
  }
  const add = (tag, attributes) => {
    const made = Object.assign(document.createElement(tag), attributes);
    document.body.append(made);
    return made;
  };
  const settled = (node) => new Promise((resolve, reject) => {
    node.onload = node.onerror = resolve;
    setTimeout(reject, 20_000, new Error("never answered"));
  });
  if (isOwn) {
    await Promise.all(attempts);
    return [...new Set(through)].sort();
  }
  attempt("script", async () => {
    await settled(add("script", { src: `${target}/files/secret.js` }));
    return window.stolen === true;
  });
  attempt("style", async () => {
    await settled(add("link", { rel: "stylesheet", href: `${target}/files/secret.css` }));
    return getComputedStyle(document.body).getPropertyValue("--stolen") !== "";
  });
  attempt("image", async () => {
    const image = add("img", { src: `${target}/files/secret.svg` });
    await settled(image);
    return image.naturalWidth > 0;
  });
  attempt("beacon", async () => {
    navigator.sendBeacon(`${target}/files`, removal);
    navigator.sendBeacon(`${target}/sign-out`);
    return false;
  });
  for (const [path, type, field, value] of [
    ["/files", "text/plain", `${removal.slice(0, -1)},"rest":"`, '"}'],
    ["/upload", "multipart/form-data", "file", "content"],
    ["/sign-out", "application/x-www-form-urlencoded", "a", "b"],
  ]) {
    attempt(`form ${path}`, async () => {
      const frame = add("iframe", { name: `form-${path}`, src: "/frame" });
      await settled(frame);
      const form = add("form", { method: "post", action: target + path, enctype: type, target: frame.name });
      const input = document.createElement("input");
      Object.assign(input, { name: field, value });
      form.append(input);
      const answered = settled(frame);
      form.submit();
      await answered;
      return false;
    });
  }
  for (const path of ["/", "/files/keep.txt", "/run", "/runners"]) {
    attempt(`frame ${path}`, async () => {
      await settled(add("iframe", { src: target + path }));
      return false;
    });
  }
  await Promise.all(attempts);
  return [...new Set(through)].sort();
}

/** What is in the frames of a page, as far as the test can see it, which sees more than the page. */
async function framed(page) {
  const texts = await Promise.all(page.frames().filter((frame) => frame !== page.mainFrame()).map((frame) =>
    frame.evaluate(() => document.documentElement.outerHTML).catch(() => "")));
  return texts.join("\n");
}

/** A web server that is no device's: it has one page, which links to the device. */
async function stranger() {
  let links = "";
  const server = createServer((_, answer) => {
    answer.writeHead(200, { "Content-Type": "text/html" });
    answer.end(`<!DOCTYPE html><title>elsewhere</title><link rel="icon" href="data:,"><body>${links}`);
  }).listen(0);
  await once(server, "listening");
  return {
    port: server.address().port,
    link: (address) => (links = `<a href="${address}">a device</a>`),
    end: () => new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    }),
  };
}

function fromElsewhere(browser) {
  let other;
  before(async () => {
    other = await stranger();
  });
  after(() => other?.end());
  const outer = outerAddress();

  for (const token of ["", TOKEN]) {
    // Another site; the same site, which gets the cookie as well; and the same without what browsers say of
    // requests where the address is neither encrypted nor the machine's own.
    for (const [what, device, from] of [
      ["another site", "localhost", "127.0.0.1"], ["another port", "localhost", "localhost"],
      ["another port of an address in the network", outer, outer],
    ]) {
      const title = `from ${what} gets nowhere ${token ? "with the cookie" : "without a token"}, whatever it tries`;
      if (!device) {
        console.error(`SKIPPED: ${title}, as this machine has no network`);
        continue;
      }
      it(title, async () => {
        const server = await daemon({ token });
        const at = server.at(device);
        const origin = `http://${from}:${other.port}`;
        const context = await browser().createBrowserContext();
        const own = await open(browser(), 0, { at, context, path: token ? `/#token=${token}` : "/" });
        const kept = { "keep.txt": "kept by the device", "secret.js": "window.stolen = true;",
          "secret.css": ":root { --stolen: 1 }", "secret.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>' };
        await own.evaluate(async (files) => {
          for (const [file, body] of Object.entries(files)) await fetch(`/files/${file}`, { method: "PUT", body });
        }, kept);
        const there = () => Object.fromEntries(readdirSync(server.work).filter((file) => !file.startsWith(".fl"))
          .map((file) => [file, readFileSync(join(server.work, file), "utf8")]));
        assert.deepEqual(there(), kept);

        const page = await context.newPage();
        await page.goto(origin);
        const got = [];
        page.on("response", (answer) => answer.url().startsWith(at) &&
          got.push(`${answer.status()} ${answer.url().slice(at.length)}`));
        assert.deepEqual(await page.evaluate(attack, at, join(server.work, "foreign")), []);
        const seen = await framed(page);
        assert.ok(!/kept by the device|run-bar|python3/.test(seen), seen);
        // It was the device that refused, not the browser alone.
        assert.ok(got.includes("403 /files") && got.includes("403 /sign-out"), String(got));
        // What is for everybody (API.md, "Who is served") is answered, and not shown to the page.
        assert.deepEqual([...new Set(got)].filter((one) => /^[23]/.test(one) && !/^200 \/(status|version|certificate)?$/.test(one)), []);
        assert.deepEqual(there(), kept);
        assert.equal((await context.cookies()).length, token ? 1 : 0);
        await page.close();

        // The same from the device's own page gets through, or all this would show nothing.
        const through = await own.evaluate(attack, at, join(server.work, "own"), true);
        for (const one of ["GET /files", "POST /files", "PUT /files/put.txt", "WebSocket /run", "WebSocket /run-py?pty=1"]) {
          assert.ok(through.includes(one), `${one}: ${through}`);
        }
        assert.deepEqual([there()["own"], there()["put.txt"]], ["", "put"]);
        await own.close();
        await context.close();
        await server.end();
      });
    }

    it(`has a link that opens the page ${token ? "with the cookie" : "without a token"}`, async () => {
      const server = await daemon({ token });
      const at = server.at("localhost");
      const context = await browser().createBrowserContext();
      await close(await open(browser(), 0, { at, context, path: token ? `/#token=${token}` : "/" }));
      other.link(`${at}/`);
      const page = await blank(browser(), { context, hosts: [new URL(at).host, `127.0.0.1:${other.port}`] });
      await page.goto(`http://127.0.0.1:${other.port}/`);
      await page.click("a");
      await ready(page);
      await run(page);
      await says(page, "#output", "What is your name?");
      assert.equal(page.url(), `${at}/`);
      await close(page);
      await context.close();
      await server.end();
    });
  }
}

function fromAnotherMachine(browser) {
  const outer = outerAddress();
  if (!outer) {
    console.error("SKIPPED: THE PAGE ON ANOTHER MACHINE, as this one has no network");
    return;
  }
  for (const tls of [false, true]) {
    it(`opens the page ${tls ? "with" : "without"} TLS, writes a file and runs it`, async () => {
      const server = await daemon({ tls });
      const page = await open(browser(), 0, { at: server.at(outer) });
      assert.match(await text(page, "#notice"), /open to its network/);
      await write(page, "far.py", "print('from', 'afar')\n");
      await run(page);
      await says(page, "#output", "from afar");
      await says(page, "#tree", "far.py");
      await page.click("#open-terminal");
      await says(page, ".xterm-rows", "$");
      await close(page);
      await server.end();
    });
  }
}
