import assert from "node:assert/strict";
import { test } from "node:test";
import { difference } from "./difference.js";
import { Lines, lastLines, words } from "./lines.js";

const texts = (lines) => lines.lines.map(({ text }) => text);

test("pieces become lines, wherever they were cut", () => {
  const lines = new Lines(10);
  for (const piece of ["on", "e\ntw", "o\n", "\nthree"]) lines.push(piece, "stdout");
  assert.deepEqual(texts(lines), ["one", "two", "", "three"]);
});

test("a carriage return writes over the line", () => {
  const lines = new Lines(10);
  lines.push("100 %\r5", "stdout");
  lines.push("0\r\ndone\n", "stdout");
  assert.deepEqual(texts(lines), ["500 %", "done"]);
});

test("codes of terminals are left out, also those cut in two", () => {
  const lines = new Lines(10);
  lines.push("\x1b[1;31mred\x1b[", "stdout");
  lines.push("0m \x1b]0;title\x07end\x07\n", "stdout");
  assert.deepEqual(texts(lines), ["red end"]);
});

test("streams have lines of their own", () => {
  const lines = new Lines(10);
  lines.push("a", "stdout");
  lines.push("b\n", "stderr");
  lines.push("c\n", "stdout");
  assert.deepEqual(lines.lines.map(({ text, stream }) => `${stream} ${text}`), ["stdout a", "stderr b", "stdout c"]);
});

test("a flood leaves the newest lines", () => {
  const lines = new Lines(3);
  lines.push(Array.from({ length: 1000 }, (_, n) => `${n}\n`).join(""), "stdout");
  assert.deepEqual(texts(lines), ["997", "998", "999"]);
  lines.push("\x1b[", "stdout");
  lines.push("a\nb\nc\n\nd", "stdout");
  assert.deepEqual(texts(lines), ["c", "", "d"]);
});

test("long lines are fewer", () => {
  const lines = new Lines(5000);
  const [one, many] = ["x".repeat(100_000), 400];
  for (let n = 0; n < many; n += 1) lines.push(one, "stdout");
  lines.push("\nend", "stdout");
  const size = lines.lines.reduce((sum, { text }) => sum + text.length, 0);
  assert.ok(size > 1_000_000 && size < 1_100_000, String(size));
  lines.push(one.repeat(many), "stdout");
  lines.push("\nend\n", "stdout");
  assert.equal(lines.lines.at(-1)?.text, "end");
  assert.ok(lines.lines.length < 300, String(lines.lines.length));
});

test("the last lines of a text begin where they begin", () => {
  const begins = (text, count) => text.slice(lastLines(text, count));
  for (const [text, count, last] of [
    ["a\nb\nc", 2, "b\nc"], ["a\nb\nc\n", 2, "c\n"], ["a\nb\nc", 3, "a\nb\nc"], ["a\nb", 9, "a\nb"], ["", 1, ""],
    ["\n", 1, ""], ["\n", 2, "\n"], ["\n\na", 2, "\na"],
  ]) {
    assert.equal(begins(text, count), last, JSON.stringify([text, count]));
  }
});

test("arguments are words, as in a shell", () => {
  assert.deepEqual(words("one \"two three\" 'it is' a\\ b \"\""), ["one", "two three", "it is", "a b", ""]);
});

test("a difference tells lines of one text from those of the other", () => {
  assert.deepEqual(difference("a\nb\nc", "a\nx\nc"), [
    { kind: "same", text: "a" }, { kind: "theirs", text: "x" }, { kind: "mine", text: "b" }, { kind: "same", text: "c" },
  ]);
});
