// Bad networks, large amounts, and browsers that crash.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { close, inEachBrowser, launch, open, picture, ready, run, says, scratch, text, until, wire, write } from "./harness.mjs";

inEachBrowser(tests);

const MIB = 1024 * 1024;

/** Drops folders and files of this machine onto the page, as a person does. */
async function drop(name, page, paths) {
  if (name === "chromium") {
    const session = await page.createCDPSession();
    for (const type of ["dragEnter", "dragOver", "drop"]) {
      await session.send("Input.dispatchDragEvent", { type, x: 700, y: 300, data: { items: [], files: paths, dragOperationsMask: 1 } });
    }
    return;
  }
  // Firefox's driver cannot drag: the same entries, as its event would have them.
  const read = (path) => {
    try {
      return { name: path.split("/").at(-1), children: readdirSync(path).map((child) => read(join(path, child))) };
    } catch {
      return { name: path.split("/").at(-1), text: readFileSync(path, "utf8") };
    }
  };
  await page.evaluate((trees) => {
    const entry = (tree, above) => {
      const fullPath = `${above}/${tree.name}`;
      if (!tree.children) return { isFile: true, fullPath, file: (done) => done(new File([tree.text], tree.name)) };
      return { isFile: false, fullPath, createReader() {
        // In parts, and nothing at the end.
        const parts = [...tree.children.map((child) => [entry(child, fullPath)]), []];
        return { readEntries: (done) => done(parts.shift()) };
      } };
    };
    const event = new Event("drop", { bubbles: true, cancelable: true });
    event.dataTransfer = { types: ["Files"], items: trees.map((tree) => ({ webkitGetAsEntry: () => entry(tree, "") })) };
    document.body.dispatchEvent(event);
  }, paths.map(read));
}

/** Mebibytes that are not the same anywhere. */
const filled = (bytes) => Buffer.from(Uint32Array.from({ length: bytes / 4 }, (_, n) => Math.imul(n, 2654435761)).buffer);

function tests(name, stage) {
  const { here } = stage;

  it("takes a folder with all that is in it", async (test) => {
    const page = await here();
    const place = scratch(test, "drop");
    const files = { "top.py": "print(1)", "inner/deep/er/data.csv": "a,b", "inner/ünï <b>&.txt": "name" };
    for (let n = 0; n < 150; n += 1) files[`many/${n}.txt`] = String(n);
    for (const [file, content] of Object.entries(files)) {
      mkdirSync(join(place, "project", file, ".."), { recursive: true });
      writeFileSync(join(place, "project", file), content);
    }
    await drop(name, page, [join(place, "project")]);
    await says(page, "#files-status", "Files uploaded: 153", 40);
    for (const [file, content] of Object.entries(files)) {
      assert.equal(readFileSync(join(stage.server.work, "project", file), "utf8"), content, file);
    }
    await says(page, "#tree", "project");
    await close(page);
  });

  it("goes on with an upload where the network was cut, and has every byte right", async (test) => {
    const cable = await wire(stage.server.port);
    const page = await open(stage.browser, cable.port);
    const place = scratch(test, "upload");
    const bytes = filled(16 * MIB);
    writeFileSync(join(place, "large.bin"), bytes);
    const input = await page.$("#upload-input");
    const before = cable.sent;
    cable.cutAfter(9 * MIB);
    await input.uploadFile(join(place, "large.bin"));
    await until("it is cut", () => cable.isCut);
    await says(page, "#connection", "No connection");
    await picture(page, `${name}-upload-cut`);
    cable.mend();
    await says(page, "#files-status", "Files uploaded: 1", 60);
    const sum = (data) => createHash("sha256").update(data).digest("hex");
    assert.equal(sum(readFileSync(join(stage.server.work, "large.bin"))), sum(bytes));
    const sent = cable.sent - before;
    console.log(`${name}: ${(sent / MIB).toFixed(1)} MiB were sent of 16, with a cut at 9`);
    assert.ok(sent < 22 * MIB, `${sent} bytes: from the beginning again`);
    await close(page);
    cable.end();
  });

  it("is back by itself when the network is", async () => {
    const cable = await wire(stage.server.port);
    const page = await open(stage.browser, cable.port);
    await write(page, "ticks.py", "import itertools, time\nfor n in itertools.count():\n    print('tick', n, flush=True)\n    time.sleep(0.05)\n");
    await run(page);
    await says(page, "#output", "tick 20");
    for (const isLong of [false, true]) {
      cable.cut();
      await says(page, "#connection", "No connection");
      // The more attempts, the longer the page waits before the next one.
      if (isLong) await until("it has tried for a while", () => page.evaluate(() => (window.since ??= performance.now()) < performance.now() - 8000));
      const begun = performance.now();
      cable.mend();
      await says(page, "#connection", "Connected");
      console.log(`${name}: back ${Math.round(performance.now() - begun)} ms after the network, cut ${isLong ? "for long" : "briefly"}`);
    }
    const last = await text(page, "#output .line:last-child");
    await until("it goes on", async () => (await text(page, "#output .line:last-child")) !== last);
    await page.click("#stop");
    await says(page, "#program-state", "Stopped");
    const lines = await page.$$eval(".line.stdout", (nodes) => nodes.map((node) => node.textContent));
    assert.deepEqual(lines, lines.map((_, n) => `tick ${n}`));
    await close(page);
    cable.end();
  });

  it("has all that a program printed while it was away, and its end", async () => {
    const cable = await wire(stage.server.port);
    const page = await open(stage.browser, cable.port);
    const printed = "import time\nprint('go', flush=True)\ntime.sleep(1)\n" +
      "for n in range(100000): print('%07d' % n)\nopen('printed', 'w')\n";
    await write(page, "late.py", printed);
    await run(page);
    await says(page, "#output", "go");
    cable.cut();
    await until("the program has printed all", () => existsSync(join(stage.server.work, "printed")));
    cable.mend();
    await says(page, "#program-state", "Finished");
    const lines = await page.$$eval("#output .line", (nodes) => nodes.map((node) => node.textContent));
    assert.deepEqual(lines, Array.from({ length: 5000 }, (_, n) => String(95_000 + n).padStart(7, "0")));
    await close(page);
    cable.end();
  });

  it("has what was not saved after a crash of the browser", async (test) => {
    const userDataDir = scratch(test, "profile");
    const first = await launch(name, { userDataDir });
    const profile = (browser) => ({ context: browser.defaultBrowserContext() });
    const page = await open(first, stage.server.port, profile(first));
    await write(page, "crash.py", "print('saved')\n");
    await page.click("#save");
    await says(page, "#edit-status", "crash.py: saved");
    await page.focus(".cm-content");
    await page.keyboard.type("print('not saved')");
    await until("the draft is kept", () => page.evaluate(() => new Promise((resolve) => {
      const opening = indexedDB.open("further-link", 1);
      opening.onsuccess = () => {
        const request = opening.result.transaction("drafts").objectStore("drafts").get("crash.py");
        request.onsuccess = () => resolve(request.result?.text.includes("not saved"));
      };
    })));
    const gone = new Promise((resolve) => first.process().once("exit", resolve));
    first.process().kill("SIGKILL");
    await gone;
    // Meanwhile somebody else saves the same file.
    writeFileSync(join(stage.server.work, "crash.py"), "print('theirs')\n");
    const second = await launch(name, { userDataDir });
    const again = await open(second, stage.server.port, profile(second));
    await says(again, "#edit-status", "crash.py: not saved yet");
    assert.match(await text(again, ".cm-content"), /not saved/);
    await again.click("#save");
    await again.waitForSelector("dialog[open] .difference");
    const shown = await text(again, ".difference");
    assert.ok(shown.includes("theirs") && shown.includes("print('not saved')"), shown);
    await close(again);
    await second.close();
  });
}
