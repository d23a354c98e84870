// Two pages on one program, links that show one, and links that open a project.

import assert from "node:assert/strict";
import { it } from "node:test";
import decodeQR from "qr/decode.js";
import { axe, close, enter, inEachBrowser, open, picture, run, says, text, until, write } from "./harness.mjs";

inEachBrowser(tests);

function tests(name, stage) {
  const { here } = stage;
  const path = (link) => link.slice(new URL(link).origin.length);

  it("gives a link, and a QR code of it, with which others watch and cannot type", async () => {
    const page = await here();
    await page.evaluate(() => {
      window.copied = [];
      navigator.clipboard.writeText = async (words) => void window.copied.push(words);
    });
    await write(page, "shown.py", "print('begun', flush=True)\nfor line in iter(input, 'end'): print('got', line, flush=True)\n");
    await run(page);
    await says(page, "#output", "begun");
    await page.click("#share");
    await page.waitForSelector("dialog[open] #share-link");
    const link = await page.$eval("#share-link", (field) => field.value);
    assert.match(link, new RegExp(`^http://localhost:${stage.server.port}/#watch=[\\w-]+\\.[\\w-]+$`));
    assert.match(await text(page, "dialog[open]"), /only on this device/);
    await page.click("#share-copy");
    assert.deepEqual(await page.evaluate(() => window.copied), [link]);
    await says(page, "#share-state", "Copied");
    assert.deepEqual(await axe(page), []);
    await picture(page, `${name}-share`);
    // As a phone's camera sees it.
    const code = await page.$("dialog[open] .qr");
    const png = Buffer.from(await code.screenshot({ encoding: "base64" }), "base64").toString("base64");
    const seen = await page.evaluate(async (data) => {
      const image = new Image();
      image.src = `data:image/png;base64,${data}`;
      await image.decode();
      const canvas = document.createElement("canvas");
      Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight });
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const { width, height, data: pixels } = context.getImageData(0, 0, canvas.width, canvas.height);
      return { width, height, data: [...pixels] };
    }, png);
    assert.equal(decodeQR({ ...seen, data: Uint8Array.from(seen.data) }), link);
    await page.keyboard.press("Escape");

    const other = await here({ path: path(link) });
    await says(other, "#output", "begun");
    await says(other, "#program-state", "You are watching.");
    assert.ok(!other.url().includes("watch"), other.url());
    assert.deepEqual(await other.$$eval("#input, #send, #end-input", (fields) => fields.map(({ disabled }) => disabled)), [true, true, true]);
    assert.ok(await other.$eval("#take", (button) => button.hidden));
    assert.deepEqual(await axe(other), []);
    await picture(other, `${name}-watching`);
    await says(page, "#program-state", "others watching: 1");
    await enter(page, "#input", "hello");
    await says(other, "#output", "got hello");
    // Who watches stops nothing.
    await other.click("#stop").catch(() => {});
    await enter(page, "#input", "still");
    await says(other, "#output", "got still");
    await enter(page, "#input", "end");
    await says(other, "#program-state", "Finished");
    await close(other);
    await close(page);
  });

  it("says so where a link leads to a program that is gone", async () => {
    const page = await here({ path: "/#watch=AAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA" });
    await until("it says so", async () => (await page.$$(".line.stderr")).length > 0);
    await picture(page, `${name}-watch-gone`);
    assert.ok(!(await text(page, "#output")).includes("undefined"));
    await says(page, "#output", "not there any more");
    await says(page, "#program-state", "Not there any more");
    await close(page);
  });

  it("gives the keyboard to the page that takes it, and back", async () => {
    const page = await here();
    await write(page, "both.py", "for line in iter(input, 'end'): print('got', line, flush=True)\n");
    await run(page);
    await says(page, "#program-list", "both.py");
    const other = await here({ context: page.browserContext() });
    await says(other, "#program-list", "both.py");
    await other.click('#program-list button[id^="show-"]');
    await until("the first may take it back", () => page.$eval("#take", (button) => !button.hidden));
    assert.ok(await other.$eval("#take", (button) => button.hidden));
    await page.bringToFront();
    await page.click("#take");
    await until("it has it", () => page.$eval("#take", (button) => button.hidden));
    await until("the other may take it", () => other.$eval("#take", (button) => !button.hidden));
    await picture(other, `${name}-take`);
    // Whoever types has it, each line once.
    for (const [typing, words] of [[page, "one"], [other, "two"], [page, "three"], [other, "four"]]) {
      await typing.bringToFront();
      await enter(typing, "#input", words);
      for (const seeing of [page, other]) await says(seeing, "#output", `got ${words}`);
    }
    for (const seeing of [page, other]) {
      assert.deepEqual(await seeing.$$eval(".line.stdout", (lines) => lines.map((line) => line.textContent)),
        ["got one", "got two", "got three", "got four"]);
    }
    await enter(other, "#input", "end");
    for (const seeing of [page, other]) await says(seeing, "#program-state", "Finished");
    await close(other);
    await close(page);
  });

  it("opens a file of a project by a link, and says so if there is none", async () => {
    const page = await here();
    await page.evaluate(() => fetch("/files/rover/sub/run.py?parents=1", { method: "PUT", body: "print('from the', 'project')\n" }));
    await close(page);
    const other = await here({ path: "/?project=rover&file=sub/run.py" });
    await says(other, "#edit-status", "rover/sub/run.py: saved");
    assert.match(await text(other, ".cm-content"), /from the/);
    assert.equal(await other.$$eval("#tabs [role=tab]", (tabs) => tabs.length), 1);
    await run(other);
    await says(other, "#output", "from the project");
    await close(other);
    const third = await here({ path: "/?project=rover&file=none.py" });
    await says(third, "#files-status", "rover/none.py was not opened");
    await picture(third, `${name}-no-such-project`);
    await close(third);
  });
}
