// The page in real browsers, with a real daemon. README.md beside this file says how to run it.

import assert from "node:assert/strict";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import {
  axe, close, ctrl, enter, inEachBrowser, memory, open, picture, ready, run, says, text, until, wire, write,
} from "./harness.mjs";

inEachBrowser(tests);

function tests(name, stage) {
  const { here } = stage;

  it("runs the first program, and asks for its input", async () => {
    const page = await here();
    assert.match(await text(page, ".cm-content"), /Press Run/);
    await run(page);
    await says(page, "#output", "What is your name?");
    await enter(page, "#input", "Ann");
    await says(page, "#output", "Hello, Ann");
    await says(page, "#program-state", "Finished");
    await says(page, "#tree", "hello.py");
    await picture(page, `${name}-first-program`);
    await close(page);
  });

  it("loads at most 400 KB at first, and 2 KB later", async () => {
    const page = await here();
    const loaded = (...kinds) => page.evaluate((wanted) => wanted.flatMap((kind) => performance.getEntriesByType(kind))
      .filter(({ name }) => name.endsWith("/") || name.includes("/page/"))
      .reduce((sum, { transferSize }) => sum + transferSize, 0), kinds);
    const first = await loaded("navigation", "resource");
    assert.ok(first > 100_000 && first <= 400_000, `${first} bytes`);
    const answer = await page.reload();
    await ready(page);
    // Firefox counts the page that it has kept as if it had come again.
    assert.equal(answer.status(), 304);
    const later = await loaded("resource");
    assert.ok(later <= 1000, `${later} bytes`);
    console.log(`${name}: ${first} bytes at first, ${later} and the head of the page later`);
    await close(page);
  });

  it("has the roles and names that screen readers and tests rely on", async () => {
    const page = await here();
    for (const selector of [
      "aria/Run[role=\"button\"]", "aria/Stop[role=\"button\"]", "aria/New file[role=\"button\"]",
      "aria/Upload[role=\"button\"]", "aria/Download[role=\"button\"]", "aria/Terminal[role=\"button\"]",
      "aria/Files[role=\"region\"]", "aria/Files[role=\"tree\"]", "aria/Editor[role=\"textbox\"]",
      "aria/Output[role=\"log\"]", "aria/Input[role=\"textbox\"]", "aria/Running programs[role=\"region\"]",
      "aria/Connection[role=\"status\"]",
    ]) assert.ok(await page.$(selector), selector);
    await page.click("#open-terminal");
    assert.ok(await page.waitForSelector("aria/Terminal[role=\"region\"]"));
    await close(page);
  });

  it("stops a program, and tells its errors apart", async () => {
    const page = await here();
    await write(page, "stop.py", "import sys, time\nprint('out')\nprint('bad', file=sys.stderr)\ntime.sleep(600)\n");
    await run(page);
    await says(page, "#output", "bad");
    assert.match(await text(page, ".line.stderr"), /Error/);
    assert.equal(await text(page, ".line.stdout"), "out");
    await picture(page, `${name}-running`);
    await page.click("#stop");
    await says(page, "#program-state", "Stopped");
    await close(page);
  });

  it("gives arguments as words, and draws progress in one line", async () => {
    const page = await here();
    await write(page, "words.py",
      "import sys\nfor n in range(101): print(f'\\r{n} %', end='')\nprint()\nprint('\\x1b[31m' + '|'.join(sys.argv[1:]))\n");
    await page.click("#options summary");
    await page.type("#arguments", "one \"two three\" 'it is'");
    await run(page);
    await says(page, "#output", "one|two three|it is");
    assert.deepEqual(await page.$$eval(".line.stdout", (lines) => lines.map((line) => line.textContent)),
      ["100 %", "one|two three|it is"]);
    await close(page);
  });

  it("says what to install for a language that is not there", async () => {
    const page = await here();
    const missing = await page.evaluate(async () => {
      const { runners } = await (await fetch("/runners")).json();
      return runners.find(({ available, extensions }) => !available && extensions.length) ?? null;
    });
    if (missing) {
      await write(page, `any.${missing.extensions[0]}`, "nothing\n");
      await page.click("#options summary");
      await says(page, "#runner-hint", missing.hint);
    } else {
      console.error("SKIPPED: the hint for a missing language, as this machine has them all");
    }
    await close(page);
  });

  it("comes back after a reload in the middle of a flood, with every line once", async () => {
    const page = await here();
    await write(page, "flood.py", "import time\nfor n in range(4000):\n    print(n, flush=True)\n    if n % 4 == 0: time.sleep(0.002)\nprint('end')\n");
    await run(page);
    await says(page, "#output", "100");
    await page.reload();
    await ready(page);
    await says(page, "#program-state", "Finished", 40);
    const lines = await page.$$eval("#output .line", (nodes) => nodes.map((node) => node.textContent));
    assert.deepEqual(lines, [...Array.from({ length: 4000 }, (_, n) => String(n)), "end"]);
    await close(page);
  });

  it("comes back after the network was cut, and sends once what was typed meanwhile", async () => {
    const cable = await wire(stage.server.port);
    // Files go over it as well.
    const page = await open(stage.browser, cable.port);
    await write(page, "echo.py", "import sys\nfor line in sys.stdin: print('got', line.strip(), flush=True)\n");
    await run(page);
    await says(page, "#program-state", "is running");
    await enter(page, "#input", "one");
    await says(page, "#output", "got one");
    cable.cut();
    await says(page, "#connection", "No connection");
    await enter(page, "#input", "two");
    await says(page, "#unsent-text", "two");
    await picture(page, `${name}-no-connection`);
    cable.mend();
    await says(page, "#connection", "Connected");
    await says(page, "#output", "got two");
    const got = await page.$$eval(".line.stdout", (nodes) => nodes.map((node) => node.textContent));
    assert.deepEqual(got, ["got one", "got two"]);
    cable.cut();
    await says(page, "#connection", "No connection");
    await enter(page, "#input", "three");
    await says(page, "#unsent-text", "three");
    await page.click("#discard");
    cable.mend();
    await says(page, "#connection", "Connected");
    await enter(page, "#input", "four");
    await says(page, "#output", "got four");
    assert.ok(!(await text(page, "#output")).includes("got three"));
    await page.click("#stop");
    await says(page, "#program-state", "Stopped");
    await close(page);
    cable.end();
  });

  it("shows a conflict, and keeps both texts", async () => {
    const page = await here();
    await write(page, "shared.py", "print('mine')\n");
    await page.click("#save");
    await says(page, "#edit-status", "shared.py: saved");
    await page.evaluate(() => fetch("/files/shared.py", { method: "PUT", body: "print('theirs')\n" }));
    await page.focus(".cm-content");
    await page.keyboard.type("# more");
    await page.click("#save");
    await page.waitForSelector("dialog[open] .difference");
    const shown = await text(page, ".difference");
    assert.ok(shown.includes("print('theirs')") && shown.includes("# more"), shown);
    assert.deepEqual(await axe(page), []);
    await picture(page, `${name}-conflict`);
    await page.click("dialog[open] button.primary");
    await page.waitForSelector("#dialog-field");
    await page.keyboard.press("Enter");
    await says(page, "#edit-status", "shared-2.py: saved");
    const [one, two] = await page.evaluate(() => Promise.all(["shared.py", "shared-2.py"].map(async (path) =>
      (await fetch(`/files/${path}`)).text())));
    assert.equal(one, "print('theirs')\n");
    assert.match(two, /# more/);
    await close(page);
  });

  it("keeps drafts over a crash, and open files over a reload", async () => {
    const page = await here();
    await write(page, "draft.py", "print('not saved')\n");
    await until("the draft is kept", () => page.evaluate(() => new Promise((resolve) => {
      const opening = indexedDB.open("further-link", 1);
      opening.onsuccess = () => {
        const request = opening.result.transaction("drafts").objectStore("drafts").get("draft.py");
        request.onsuccess = () => resolve(request.result?.text.includes("not saved"));
      };
    })), 1);
    await page.reload();
    await ready(page);
    assert.match(await text(page, ".cm-content"), /not saved/);
    await says(page, "#edit-status", "draft.py: not saved yet");
    await close(page);
  });

  it("renames, removes and makes files by keyboard alone", async () => {
    const page = await here();
    await page.evaluate(() => fetch("/files/folder/inner.txt?parents=1", { method: "PUT", body: "inner" }));
    await page.click("#refresh");
    await says(page, "#tree", "folder");
    await page.focus('#tree [tabindex="0"]');
    await page.keyboard.press("Home");
    await page.keyboard.press("ArrowRight");
    await says(page, "#tree", "inner.txt");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("F2");
    await page.waitForSelector("#dialog-field");
    await page.$eval("#dialog-field", (field) => (field.value = "folder/other <b>&amp;.txt"));
    await page.keyboard.press("Enter");
    await says(page, "#tree", "other <b>&amp;.txt");
    await until("the new name has the focus", () =>
      page.evaluate(() => document.activeElement?.dataset.path === "folder/other <b>&amp;.txt"));
    await page.keyboard.press("Delete");
    await page.waitForSelector("dialog[open] button.primary");
    await page.focus("dialog[open] button.primary");
    await page.keyboard.press("Enter");
    await until("it is gone", async () => !(await text(page, "#tree")).includes("other"));
    await close(page);
  });

  it("uploads what is dropped, and files above a mebibyte in parts", async () => {
    const page = await here();
    await page.evaluate(() => {
      const data = new DataTransfer();
      data.items.add(new File(["dropped"], "dropped.txt"));
      data.items.add(new File([new Uint8Array(3 * 1024 * 1024).fill(7)], "large.bin"));
      const options = { dataTransfer: data, bubbles: true, cancelable: true };
      document.body.dispatchEvent(new DragEvent("dragover", options));
      document.body.dispatchEvent(new DragEvent("drop", options));
    });
    await says(page, "#files-status", "Files uploaded: 2");
    const [small, large] = await page.evaluate(() => Promise.all(["dropped.txt", "large.bin"].map(async (path) =>
      (await (await fetch(`/files/${path}`)).arrayBuffer()).byteLength)));
    assert.deepEqual([small, large], [7, 3 * 1024 * 1024]);
    await close(page);
  });

  it("opens a terminal, and keeps it over a reload", async () => {
    const page = await here();
    await page.click("#open-terminal");
    await page.waitForSelector(".xterm-helper-textarea");
    await says(page, ".xterm-rows", "$");
    await page.keyboard.type("echo $((6*7))\r");
    await says(page, ".xterm-rows", "42");
    await picture(page, `${name}-terminal`);
    assert.deepEqual(await axe(page), []);
    await page.reload();
    await ready(page);
    await says(page, "#terminal-panel:not([hidden]) .xterm-rows", "42");
    await page.click("#terminal");
    await page.keyboard.type("echo $((6*8))\r");
    await says(page, ".xterm-rows", "48");
    await page.click("#terminal-stop");
    await page.waitForSelector("#terminal-new:not([hidden])");
    await close(page);
  });

  it("writes a file again that was removed on the device", async () => {
    const page = await here();
    await write(page, "gone.py", "print('here')\n");
    await run(page);
    await says(page, "#program-state", "Finished");
    rmSync(join(stage.server.work, "gone.py"));
    await page.click("#clear");
    await run(page);
    await says(page, "#output", "here");
    await says(page, "#program-state", "Finished");
    assert.ok(existsSync(join(stage.server.work, "gone.py")));
    await close(page);
  });

  it("stops a flood in the terminal", async () => {
    const page = await here();
    await page.click("#open-terminal");
    await says(page, ".xterm-rows", "$");
    await page.keyboard.type("yes | head -c 256M; echo do''ne\r");
    await says(page, ".xterm-rows", "y");
    await until("much has come", async () => (await page.evaluate(() => performance.now())) > 3000);
    const pressed = await page.evaluate(async () => {
      const begun = performance.now();
      document.querySelector("#stop").click();
      while (document.querySelector("#terminal-new").hidden) await new Promise((done) => setTimeout(done, 5));
      return performance.now() - begun;
    });
    console.log(`${name}: the flood has ended ${Math.round(pressed)} ms after Stop`);
    await close(page);
  });

  it("shows the newest lines of a flood in the terminal, and those before them", async () => {
    const page = await here();
    await page.click("#open-terminal");
    await says(page, ".xterm-rows", "$");
    await page.keyboard.type("seq 1 2000000; echo do''ne\r");
    await says(page, ".xterm-rows", "done", 120);
    const numbers = () => page.$$eval(".xterm-rows > div", (rows) => rows.map((row) => Number(row.textContent)).filter(Number));
    let first = 2_000_001;
    for (let screens = 0; screens < 20; screens += 1) {
      const shown = await until("older lines", async () => {
        const now = await numbers();
        return now.length > 0 && now[0] < first && now;
      });
      assert.deepEqual(shown, shown.map((_, index) => shown[0] + index));
      // A screen has them all, with one in common.
      if (screens > 0) assert.ok(shown.at(-1) >= first - 1, `${shown.at(-1)}, ${first}`);
      [first] = shown;
      await page.keyboard.down("Shift");
      await page.keyboard.press("PageUp");
      await page.keyboard.up("Shift");
    }
    await close(page);
  });

  it("does not let a program in the terminal wait while it is hidden, and shows it afterwards", async () => {
    const page = await here();
    await page.click("#open-terminal");
    await says(page, ".xterm-rows", "$");
    const hide = (isHidden) => page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      // A hidden page has its turns late.
      window.later ??= [window.setTimeout];
      window.setTimeout = hidden ? (act) => window.later.push(act) : window.later[0];
      if (!hidden) window.later.splice(1).forEach((act) => act());
      document.dispatchEvent(new Event("visibilitychange"));
    }, isHidden);
    await page.keyboard.type("seq 1 1000000; touch ended; echo the' last'\r");
    await says(page, ".xterm-rows", "1");
    await hide(true);
    await until("the program has ended", () => existsSync(join(stage.server.work, "ended")), 120);
    await hide(false);
    await says(page, ".xterm-rows", "the last");
    await page.keyboard.type("echo $((6*8))\r");
    await says(page, ".xterm-rows", "48");
    await close(page);
  });

  it("takes 256 MiB of output to its end, and not much memory for it", async () => {
    const page = await here();
    await write(page, "flood.sh", "#!/bin/sh\nyes | head -c 256M\necho do''ne\n");
    await run(page);
    let most = 0;
    await until("it has ended", async () => {
      most = Math.max(most, memory(stage.browser));
      return (await page.$eval("#output", (output) => output.lastElementChild?.textContent ?? "")) === "done";
    }, 240);
    console.log(`${name}: a page had ${Math.round(most / 1024 / 1024)} MiB at the most`);
    assert.ok(most > 0 && most < 300 * 1024 * 1024, `${most} bytes`);
    await close(page);
  });

  it("shows pictures, and sends keys until Escape was pressed twice", async () => {
    const page = await here();
    await write(page, "rover.py", [
      "from signal import pause", "from PIL import Image", "from further_link import KeyboardButton, send_image",
      "send_image(Image.new('RGB', (320, 240), 'orange'))", "key = KeyboardButton('ArrowUp')",
      "key.when_pressed = lambda: print('down', flush=True)", "key.when_released = lambda: print('up', flush=True)",
      "pause()", ""].join("\n"));
    await run(page);
    assert.ok(await page.waitForSelector("aria/Picture[role=\"image\"]"));
    assert.deepEqual(await page.$eval("#picture-place img", (image) => [image.naturalWidth, image.naturalHeight]), [320, 240]);
    await page.waitForSelector("#keys-on");
    await until("the key is listened for", () => page.$eval("#keys", (keys) => !keys.hidden));
    await page.click("#keys-on");
    await says(page, "#keys-state", "Keys go to the program");
    await page.keyboard.press("ArrowUp");
    await until("the program has heard it", async () => (await text(page, "#output")) === "downup");
    await picture(page, `${name}-picture`);
    assert.deepEqual(await axe(page), []);
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    assert.equal(await page.$eval("#keys-on", (button) => button.getAttribute("aria-pressed")), "false");
    await page.click("#stop");
    await until("it has ended", () => page.$eval("#keys", (keys) => keys.hidden));
    await close(page);
  });

  it("lists running programs, and shows one again", async () => {
    const page = await here();
    await write(page, "long.py", "import time\nprint('begun', flush=True)\ntime.sleep(600)\n");
    await run(page);
    await says(page, "#output", "begun");
    await says(page, "#program-list", "long.py");
    const context = page.browserContext();
    const other = await open(stage.browser, stage.server.port, { context });
    await says(other, "#program-list", "long.py");
    await other.click('#program-list button[id^="show-"]');
    await says(other, "#output", "begun");
    await says(page, "#program-state", "others watching: 1");
    await other.click("#stop");
    await says(other, "#program-state", "Stopped");
    await says(page, "#program-state", "Stopped");
    await close(other);
    await close(page);
  });

  it("is used by keyboard alone: write, run, read, leave the editor", async () => {
    const page = await here();
    await page.focus(".cm-content");
    await ctrl(page, "KeyA");
    await page.keyboard.type("print(6 * 7)");
    await ctrl(page, "Enter");
    await says(page, "#output", "42");
    await page.focus(".cm-content");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement?.closest("#editor")), null);
    await page.focus("#split-main");
    const before = await page.$eval("#split-main", (bar) => Number(bar.getAttribute("aria-valuenow")));
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.$eval("#split-main", (bar) => Number(bar.getAttribute("aria-valuenow"))), before + 2);
    await close(page);
  });

  it("opens each example, and settings and help have no flaw of access", async () => {
    const page = await here();
    for (const [selector, shown] of [["#open-settings", "settings"], ["#open-help", "help"]]) {
      await page.click(selector);
      await page.waitForSelector("dialog[open]");
      assert.deepEqual(await axe(page), []);
      await picture(page, `${name}-${shown}`);
      await page.keyboard.press("Escape");
      await until("the dialog is gone", async () => !(await page.$("dialog")));
    }
    for (let index = 0; index < 5; index += 1) {
      await page.click("#open-help");
      await page.waitForSelector(".examples button");
      const file = await page.evaluate((at) => {
        const row = document.querySelectorAll(".examples li")[at];
        row.querySelector("button").click();
        return row.querySelector(".hint").textContent;
      }, index);
      await says(page, "#edit-status", file);
    }
    assert.equal((await page.$$("#tabs [role=tab]")).length, 5);
    await close(page);
  });

  for (const theme of ["light", "dark", "contrast"]) {
    it(`has no flaw of access in the theme ${theme}, wide and on a phone`, async () => {
      for (const [size, width, height] of [["wide", 1280, 800], ["phone", 320, 640]]) {
        const page = await here({ width, height, settings: { theme } });
        await write(page, `look-${theme}-${size}.py`, "import sys\nprint('out')\nprint('an error', file=sys.stderr)\n");
        await run(page);
        await says(page, "#program-state", "Finished");
        for (const view of size === "wide" ? ["output", "picture"] : ["files", "editor", "output", "picture", "terminal"]) {
          await page.click(`#views [data-view=${view}]`);
          if (view === "terminal") await says(page, ".xterm-rows", "$");
          assert.deepEqual(await axe(page), [], view);
          await picture(page, `${name}-${theme}-${size}-${view}`);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth);
          assert.ok(wide <= width, `${view} is ${wide} wide`);
        }
        await close(page);
      }
    });
  }

  it("shows hostile names and outputs as text, and keeps its width", async () => {
    const page = await here({ width: 320, height: 640 });
    const names = ["<img src=x onerror=alert(1)>.py", "\u202eyp.live", `${"a".repeat(200)}.txt`, "two\nlines.txt", "\u05d0\u05d1.py"];
    await page.evaluate((all) => Promise.all(all.map((name) =>
      fetch(`/files/${encodeURIComponent(name)}`, { method: "PUT", body: "x" }))), names);
    await write(page, "hostile.py", [
      "print('<script>alert(1)</script><b>bold</b>')", "print('\\u202egnp.exe')", "print('x' * 10000)",
      "print('\\x1b]0;title\\x07\\x1b[2J\\x00\\x08left')", ""].join("\n"));
    await run(page);
    await says(page, "#output", "left");
    assert.deepEqual(await page.$$eval("#output script, #output b, #tree img", (nodes) => nodes.length), 0);
    const shown = await text(page, "#output");
    assert.ok(shown.includes("<script>alert(1)</script><b>bold</b>") && !/[\u202e\x00\x1b]/.test(shown), shown.slice(0, 200));
    for (const view of ["output", "files"]) {
      await page.click(`#views [data-view=${view}]`);
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 320, view);
      assert.deepEqual(await axe(page), []);
      await picture(page, `${name}-hostile-${view}`);
    }
    // What would not be seen, or would turn others round, is shown as a number.
    for (const one of names) await says(page, "#tree", one.replace("\u202e", "‹202E›").replace("\n", "‹000A›"));
    await close(page);
  });

  it("is used at a zoom of 200 % without scrolling sideways", async () => {
    // What a zoom of a window of 1280 by 800 makes of it.
    const page = await here({ width: 640, height: 400, scale: 2 });
    for (const view of ["files", "editor", "output", "picture", "terminal"]) {
      await page.click(`#views [data-view=${view}]`);
      if (view === "terminal") await says(page, ".xterm-rows", "$");
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 640, view);
      assert.deepEqual(await axe(page), [], view);
      await picture(page, `${name}-zoom-${view}`);
    }
    await close(page);
  });

  it("speaks other languages, one of them from right to left", async () => {
    for (const [language, word, direction] of [["de", "Starten", "ltr"], ["fr", "Lancer", "ltr"], ["es", "Ejecutar", "ltr"], ["ar", "تشغيل", "rtl"]]) {
      const page = await here({ settings: { language } });
      assert.equal(await text(page, "#run"), word);
      assert.equal(await page.evaluate(() => document.documentElement.dir), direction);
      assert.deepEqual(await axe(page), []);
      await picture(page, `${name}-${language}`);
      await close(page);
    }
  });
}
