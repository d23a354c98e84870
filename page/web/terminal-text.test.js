import assert from "node:assert/strict";
import { test } from "node:test";
import { mayEndWithin, named, newest } from "./terminal-text.js";

test("plain lines that scroll away are left out, and nothing else is", () => {
  const lines = "one\r\ntwo\r\nthree\r\nfour\r\n";
  assert.equal(newest(lines, 2), "\r\nfour\r\n");
  assert.equal(newest(`${lines}$ `, 2), "\r\nfour\r\n$ ");
  for (const [text, count] of [
    [lines, 9], ["one\r\ntwo", 9], ["", 1], [lines.replaceAll("\r", ""), 2],
    [lines.replace("two", "t\x1b[31mwo"), 2], [lines.replace("two", "\x0eo"), 2], [lines.replace("one", "\u009b31m"), 2],
  ]) {
    assert.equal(newest(text, count), text, JSON.stringify(text));
  }
  assert.equal(newest(lines.replace("four", "\x1b[31m"), 2), "\r\n\x1b[31m\r\n");
});

test("a sequence near the end of a text may go on in the next", () => {
  assert.ok(mayEndWithin("a\x1b[3") && mayEndWithin(`\x1b]52;${"A".repeat(4000)}`));
  assert.ok(!mayEndWithin("") && !mayEndWithin(`\x1b[m${"a".repeat(4096)}`));
});

test("names show what would not be seen", () => {
  assert.equal(named("rtl\u202egpj.py"), "rtl‹202E›gpj.py");
  assert.equal(named(" a\n\u200b.py "), "␣a‹000A›‹200B›.py␣");
  for (const name of ["größe 1.py", "מה.py", "👩\u200d🚀.py", "a–b.py"]) assert.equal(named(name), name);
});
