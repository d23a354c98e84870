// The terminal: what programs may do with it, and people on phones.

import assert from "node:assert/strict";
import { it } from "node:test";
import { axe, close, ctrl, enter, inEachBrowser, picture, says, text, until } from "./harness.mjs";

inEachBrowser(tests);

/** A page with a shell in its terminal, and a clipboard that the test can read and fill. */
async function shell(here, options) {
  const page = await here(options);
  await page.evaluate(() => {
    window.copied = [];
    window.opened = [];
    navigator.clipboard.writeText = async (text) => void window.copied.push(text);
    navigator.clipboard.readText = async () => window.pasted;
    window.open = (...all) => void window.opened.push(all.join(" "));
  });
  await page.click("#open-terminal");
  await says(page, ".xterm-rows", "$");
  return page;
}

/** What the browser does at Ctrl+V, with this in the clipboard. */
const paste = (page, pasted) => page.evaluate((text) => {
  // Not every browser lets a script fill a ClipboardEvent.
  const event = new Event("paste", { bubbles: true, cancelable: true });
  event.clipboardData = { getData: (type) => (type === "text/plain" ? text : "") };
  document.querySelector(".xterm-helper-textarea").dispatchEvent(event);
}, pasted);

const command = (page, line) => page.keyboard.type(`${line}\r`);

function tests(name, { here }) {
  it("lets a program write the clipboard only when the person says so, and never read it", async () => {
    const page = await shell(here);
    const copy = (words) => command(page, `printf '\\e]52;c;%s\\a' $(printf '${words}' | base64)`);
    await copy("for the clipboard");
    await says(page, "#terminal-ask", "for the clipboard");
    assert.deepEqual(await page.evaluate(() => window.copied), []);
    assert.deepEqual(await axe(page), []);
    await picture(page, `${name}-clipboard-asked`);
    await page.click("#terminal-ask button:last-of-type");
    await until("the question is gone", () => page.$eval("#terminal-ask", (ask) => ask.hidden));
    assert.deepEqual(await page.evaluate(() => window.copied), []);
    await copy("and again");
    await says(page, "#terminal-ask", "and again");
    await page.click("#terminal-ask button:first-of-type");
    assert.deepEqual(await page.evaluate(() => window.copied), ["and again"]);
    await page.evaluate(() => (window.pasted = "secret"));
    // The program asks for what is in it, and then the terminal for its state, which it answers.
    await command(page, "clear; stty -echo; printf '\\e]52;c;?\\a\\e[5n'; read -r -s -d n answer; stty echo; printf '<%q>' \"$answer\"");
    await says(page, ".xterm-rows", "E[0");
    assert.ok(!(await text(page, ".xterm-rows")).includes("52;"), await text(page, ".xterm-rows"));
    await close(page);
  });

  it("pastes several lines without running them, whatever is hidden in them", async () => {
    const page = await shell(here);
    await paste(page, "echo one$((1+1))\necho two$((1+1))\x1b[201~\necho three$((1+1))\n");
    await says(page, ".xterm-rows", "three$((1+1))");
    const before = await text(page, ".xterm-rows");
    assert.ok(!before.includes("one2") && !before.includes("two2"), before);
    await page.keyboard.press("Enter");
    await says(page, ".xterm-rows", "three2");
    await page.evaluate(() => (window.pasted = "echo by\x1b[201~button$((2+1))"));
    await page.click("#terminal-paste");
    await says(page, ".xterm-rows", "button$((2+1))");
    await page.keyboard.press("Enter");
    await says(page, ".xterm-rows", "button3");
    await close(page);
  });

  it("finds text, and copies it", async () => {
    const page = await shell(here);
    await command(page, "seq -f 'line %g of many' 1 300");
    await says(page, ".xterm-rows", "line 300 of many");
    await page.click("#terminal-find");
    await page.type("#find-text", "line 57 of");
    await page.keyboard.press("Enter");
    await says(page, ".xterm-rows", "line 57 of many");
    assert.deepEqual(await axe(page), []);
    await picture(page, `${name}-terminal-find`);
    await page.click("#terminal-copy");
    assert.deepEqual(await page.evaluate(() => window.copied), ["line 57 of"]);
    await says(page, "#terminal-state", "Copied");
    await page.focus("#find-text");
    await ctrl(page, "KeyA");
    await page.keyboard.type("not there at all");
    await page.keyboard.press("Enter");
    await says(page, "#terminal-state", "not found");
    await page.keyboard.press("Escape");
    await until("the search is gone", () => page.$eval("#find-form", (form) => form.hidden));
    assert.equal(await page.evaluate(() => document.activeElement.className), "xterm-helper-textarea");
    await close(page);
  });

  it("opens links only after showing where they lead, and no other kind of address", async () => {
    const page = await shell(here);
    await command(page, "clear; printf '\\e]8;;https://evil.example/\\e\\\\https://good.example\\e]8;;\\e\\\\\\n" +
      "\\e]8;;javascript:alert(1)\\e\\\\script-link-here\\e]8;;\\e\\\\\\nhttps://plain.example/path\\n'");
    await says(page, ".xterm-rows", "plain.example/path");
    // Each row is an element; the links begin in its first column.
    const click = async (words) => {
      const place = await until(`there is ${words}`, () => page.evaluate((wanted) => {
        const rows = [...document.querySelectorAll(".xterm-rows > div")];
        const box = rows.find((row) => row.textContent.startsWith(wanted))?.getBoundingClientRect();
        return box && { x: box.left + 12, y: box.top + box.height / 2 };
      }, words));
      await page.mouse.move(place.x + 30, place.y);
      await page.mouse.move(place.x, place.y);
      await page.mouse.click(place.x, place.y);
    };
    for (const [words, target] of [["https://good", "https://evil.example/"], ["https://plain", "https://plain.example/path"]]) {
      await until(`${words} is asked for`, async () => {
        await click(words);
        return page.$("dialog[open]");
      });
      assert.ok((await text(page, "dialog[open]")).includes(target), await text(page, "dialog[open]"));
      assert.deepEqual(await page.evaluate(() => window.opened.splice(0)), []);
      await page.click("dialog[open] button.primary");
      await until("the dialog is gone", async () => !(await page.$("dialog")));
      assert.deepEqual(await page.evaluate(() => window.opened.splice(0)), [`${target} _blank noopener,noreferrer`]);
    }
    await click("script-link");
    assert.equal(await page.$("dialog[open]"), null);
    assert.deepEqual(await page.evaluate(() => window.opened), []);
    await close(page);
  });

  it("has the keys that phones lack, and a field that sends whole lines", async () => {
    const page = await shell(here, { width: 360, height: 640 });
    const key = (label) => page.evaluate((wanted) => [...document.querySelectorAll("#key-bar button")]
      .find((button) => button.textContent === wanted).click(), label);
    const sizes = await page.$$eval("#key-bar button", (buttons) =>
      buttons.map((button) => button.getBoundingClientRect()).map(({ width, height }) => Math.min(width, height)));
    assert.ok(sizes.length === 12 && sizes.every((size) => size >= 44), String(sizes));
    await enter(page, "#line", "echo these words arrive as they were typed");
    await until("the line has come once", async () =>
      (await text(page, ".xterm-rows")).split("these words arrive as they were typed").length === 3);
    assert.equal(await page.$eval("#line", (field) => field.value), "");
    // Ctrl stays for one key.
    await enter(page, "#line", "sleep 600");
    await key("Ctrl");
    assert.equal(await page.$eval('[data-modifier="ctrl"]', (button) => button.getAttribute("aria-pressed")), "true");
    await picture(page, `${name}-phone-keys`);
    await page.focus(".xterm-helper-textarea");
    await page.keyboard.type("c");
    await says(page, ".xterm-rows", "^C");
    assert.equal(await page.$eval('[data-modifier="ctrl"]', (button) => button.getAttribute("aria-pressed")), "false");
    // The arrow brings the last line back, and Home and End go to its ends.
    await key("↑");
    await says(page, ".xterm-rows", "sleep 600");
    for (const [label, typed] of [["Home", "echo "], ["End", "-end"]]) {
      await key(label);
      await page.focus(".xterm-helper-textarea");
      await page.keyboard.type(typed);
    }
    await page.keyboard.press("Enter");
    await until("the line has been changed at both ends", async () =>
      (await text(page, ".xterm-rows")).includes("sleep 600-end"));
    assert.deepEqual(await axe(page), []);
    await close(page);
  });
}
