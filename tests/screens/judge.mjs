// Compares the screens of kept programs with xterm.js: `node judge.mjs KEPT_SCREEN [--show] [NAME]...`.
//
// KEPT_SCREEN is the example of that name of the frontend. At random cut points of each recording a fresh
// xterm.js gets our snapshot, and has to look like one that has seen everything. Then both get the rest.
// --show prints the first misses. Without names it also tries the sequences of differences.mjs.

import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { gunzipSync } from 'node:zlib';
import { differences } from './differences.mjs';

const require = createRequire(import.meta.url);
const { Terminal } = require('@xterm/headless');
const { Unicode11Addon } = require('@xterm/addon-unicode11');

const CUTS = 200;
const LEAST_EQUAL = 0.995;
const MOST_SHOWN = 3;
const recordings = new URL('./recordings/', import.meta.url);

// mulberry32: the same cuts each time.
function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function terminal(rows, columns) {
  const made = new Terminal({ rows, cols: columns, allowProposedApi: true });
  made.loadAddon(new Unicode11Addon());
  made.unicode.activeVersion = '11';
  made.onTitleChange((title) => { made.lastTitle = title; });
  return made;
}

const write = (term, text) => new Promise((done) => term.write(text, done));

// Each write takes a millisecond, so what comes without another size between becomes one.
async function play(term, steps) {
  let text = '';
  for (const [kind, first, second] of steps) {
    if (kind === 'o') {
      text += first;
    } else {
      await write(term, text);
      text = '';
      term.resize(second, first);
    }
  }
  await write(term, text);
}

// What a cell looks like. One that was never written looks like a blank.
function look(cell) {
  const colour = (mode, value) => (mode === 0 ? '' : `${mode.toString(16)}:${value}`);
  const attributes = {
    bold: cell.isBold(), italic: cell.isItalic(), dim: cell.isDim(), inverse: cell.isInverse(),
    // Not of the public interface, as the version is pinned.
    underline: cell.isUnderline() && cell.getUnderlineStyle(),
    underlineColour: cell.isUnderline() && cell.getUnderlineColor(),
    blink: cell.isBlink(), hidden: cell.isInvisible(), struck: cell.isStrikethrough(),
    overline: cell.isOverline(), link: cell.extended?.urlId ?? 0,
  };
  const on = Object.entries(attributes).filter(([, value]) => value)
    .map(([name, value]) => `${name} ${value}`);
  return JSON.stringify([
    cell.getChars() || ' ', cell.getWidth(), colour(cell.getFgColorMode(), cell.getFgColor()),
    colour(cell.getBgColorMode(), cell.getBgColor()), on.join(', '),
  ]);
}
const LOOK = ['chars', 'width', 'foreground', 'background', 'attributes'];

const looks = new Map();
function remembered(cell) {
  if (cell.isCombined() || cell.hasExtendedAttrs()) return look(cell);
  const key = `${cell.content},${cell.fg},${cell.bg}`;
  if (!looks.has(key)) looks.set(key, look(cell));
  return looks.get(key);
}

// All that can be seen of a terminal, and its modes, as pairs of a name and a text.
function state(term) {
  const buffer = term.buffer.active;
  const cells = [];
  let cell;
  for (let row = 0; row < term.rows; row += 1) {
    const line = buffer.getLine(buffer.baseY + row);
    for (let column = 0; column < term.cols; column += 1) {
      cell = line.getCell(column, cell);
      cells.push(remembered(cell));
    }
  }
  const { coreService } = term._core;
  return {
    cells,
    rest: [
      ['buffer', buffer.type], ['cursor', `${buffer.cursorY},${buffer.cursorX}`],
      ...Object.entries(term.modes).map(([name, value]) => [`mode ${name}`, String(value)]),
      ['mode hidden cursor', String(coreService.isCursorHidden)], ['title', term.lastTitle ?? ''],
      ['cursor shape', String(coreService.decPrivateModes.cursorStyle ?? '')],
    ],
  };
}

// The first difference, as its kind and a text, or undefined.
function difference(wanted, found, columns) {
  for (const [place, [name, value]] of wanted.rest.entries()) {
    const other = found.rest[place][1];
    if (other !== value) return [name, `${name}: ${value}, and ours ${other}`];
  }
  const place = wanted.cells.findIndex((cell, index) => cell !== found.cells[index]);
  if (place < 0) return undefined;
  const [cell, ours] = [wanted.cells[place], found.cells[place]];
  const values = JSON.parse(ours);
  const kind = LOOK[JSON.parse(cell).findIndex((value, index) => value !== values[index])];
  const where = `${Math.floor(place / columns)},${place % columns}`;
  return [kind, `cell ${where}: ${cell}, and ours ${ours}`];
}

// Runs the example over steps, and asks for a snapshot after those of the places.
function snapshots(program, { rows, columns }, pieces) {
  return new Promise((done, failed) => {
    const child = spawn(program, [String(rows), String(columns)], { stdio: ['pipe', 'pipe', 'inherit'] });
    const output = [];
    child.stdout.on('data', (data) => output.push(data));
    child.on('error', failed);
    child.on('close', (code) => {
      if (code !== 0) failed(new Error(`${program} ended with ${code}`));
      else done(Buffer.concat(output).toString().trim().split('\n').map((line) => JSON.parse(line)));
    });
    const lines = pieces.flatMap((piece) => [...piece, ['s']]).map((step) => JSON.stringify(step));
    child.stdin.end(`${lines.join('\n')}\n`);
  });
}

// Whether a cut before this place would part a character in two.
const parts = (text, place) => /[\ud800-\udbff]/.test(text[place - 1] ?? '');

// Cuts the steps at places counted in characters of all output: pieces, one more than there are cuts.
function cut(steps, places) {
  const pieces = [[]];
  const left = [...places];
  let before = 0;
  for (const [kind, ...values] of steps) {
    if (kind !== 'o') {
      pieces.at(-1).push([kind, ...values]);
      continue;
    }
    const [text] = values;
    let start = 0;
    while (left.length > 0 && left[0] <= before + text.length) {
      let end = left.shift() - before;
      if (parts(text, end)) end += 1;
      if (end > start) pieces.at(-1).push(['o', text.slice(start, end)]);
      pieces.push([]);
      start = Math.max(start, end);
    }
    if (start < text.length) pieces.at(-1).push(['o', text.slice(start)]);
    before += text.length;
  }
  return pieces;
}

async function judge(program, recording, places) {
  const pieces = cut(recording.steps, places);
  const ours = await snapshots(program, recording, pieces.slice(0, -1));
  const reference = terminal(recording.rows, recording.columns);
  const wanted = [];
  for (const piece of pieces.slice(0, -1)) {
    await play(reference, piece);
    wanted.push([state(reference), reference.rows, reference.cols]);
  }
  await play(reference, pieces.at(-1));
  const end = state(reference);
  const results = [];
  for (const [place, [snapshot]] of ours.entries()) {
    const [at, rows, columns] = wanted[place];
    const fresh = terminal(rows, columns);
    await write(fresh, snapshot);
    const atCut = difference(at, state(fresh), columns);
    await play(fresh, pieces.slice(place + 1).flat());
    const atEnd = difference(end, state(fresh), reference.cols);
    fresh.dispose();
    results.push({ cut: places[place], atCut, atEnd });
  }
  reference.dispose();
  return { results, sizes: ours.map(([text]) => text.length), times: ours.map(([, time]) => time) };
}

const length = (steps) => steps.reduce((sum, [kind, text]) => sum + (kind === 'o' ? text.length : 0), 0);
const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

// Places after the first character and up to the last, in their order.
function randomPlaces(steps, seed) {
  const random = seeded(seed);
  const all = length(steps);
  return Array.from({ length: CUTS }, () => 1 + Math.floor(random() * all)).sort((a, b) => a - b);
}

function causes(differences) {
  const counts = new Map();
  for (const [kind] of differences) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts].map(([kind, count]) => `${kind} ${count}`).join(', ');
}

async function judgeRecording(program, name, seed, show) {
  const recording = JSON.parse(gunzipSync(readFileSync(new URL(`${name}.json.gz`, recordings))));
  const { results, sizes, times } = await judge(program, recording, randomPlaces(recording.steps, seed));
  const missed = results.filter(({ atCut }) => atCut);
  const missedEnds = results.filter(({ atEnd }) => atEnd);
  const kinds = causes(results.flatMap(({ atCut, atEnd }) => [atCut ?? atEnd].filter((each) => each)));
  const characters = length(recording.steps);
  console.log(`${name}: ${CUTS - missed.length} of ${CUTS} equal at the cut, `
    + `${CUTS - missedEnds.length} at the end; `
    + `${characters} characters, snapshots ${median(sizes)} (at most ${Math.max(...sizes)}), `
    + `${median(times)} us (at most ${Math.max(...times)})${kinds ? `; first misses: ${kinds}` : ''}`);
  for (const { cut: place, atCut, atEnd } of [...missed, ...missedEnds].slice(0, show ? MOST_SHOWN : 0)) {
    console.log(`  after ${place}: ${atCut?.[1] ?? 'equal'}; at the end: ${atEnd?.[1] ?? 'equal'}`);
  }
  return [CUTS - missed.length, CUTS - missedEnds.length];
}

// What is known to get lost. A row that no longer does is out of date.
async function judgeDifferences(program) {
  const page = readFileSync(new URL('./README.md', import.meta.url), 'utf8');
  let wrong = 0;
  for (const { name, steps } of differences) {
    const all = steps.map((step) => (typeof step === 'string' ? ['o', step] : step));
    const recording = { rows: 24, columns: 80, steps: [...all, ['o', ' ']] };
    const { results: [{ atCut, atEnd }] } = await judge(program, recording, [length(all)]);
    const known = page.includes(`| ${name} |`);
    const [, lost] = atCut ?? atEnd ?? [];
    console.log(`lost: ${name}: ${lost ?? 'NO LONGER'}${known ? '' : ', AND NOT IN README.md'}`);
    if (!(atCut ?? atEnd) || !known) wrong += 1;
  }
  return wrong;
}

async function main([program, ...rest]) {
  if (!program) throw new Error('usage: node judge.mjs KEPT_SCREEN [--show] [NAME]...');
  const all = readdirSync(recordings).map((file) => file.replace('.json.gz', '')).sort();
  const names = rest.filter((each) => each !== '--show');
  let [atCut, atEnd] = [0, 0];
  const judged = names.length > 0 ? names : all;
  for (const name of judged) {
    const equal = await judgeRecording(program, name, all.indexOf(name), rest.includes('--show'));
    atCut += equal[0];
    atEnd += equal[1];
  }
  const total = judged.length * CUTS;
  console.log(`all: ${atCut} of ${total} equal at the cut, ${atEnd} at the end`);
  const wrong = names.length > 0 ? 0 : await judgeDifferences(program);
  const enough = Math.min(atCut, atEnd) >= total * LEAST_EQUAL;
  if (!enough) console.log(`FAILED: fewer than ${LEAST_EQUAL * 100} % are equal`);
  if (wrong) console.log(`FAILED: ${wrong} rows of differences.mjs are out of date`);
  process.exitCode = enough && !wrong ? 0 : 1;
}

await main(process.argv.slice(2));
