// A program's output as lines of plain text: without colours and other codes of terminals, with carriage
// returns done, as progress bars need them. Without DOM.

/** @typedef {"stdout" | "stderr" | "compile" | "note"} Stream */
/** @typedef {{text: string, stream: Stream, id: number}} Line */

/** Longer lines are broken. */
const LONGEST = 4096;
/** Characters of all lines that are kept: browsers take long to lay out many. */
const MOST_TEXT = 1024 * 1024;
// CSI, then OSC and other strings with their ends, then short ones (ECMA-48, 5.4 and 5.6).
const CODES = /\x1b\[[0-?]*[ -\/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -\/]*[0-Z\\`-~]/g;
const UNFINISHED = /\x1b(?:\[[0-?]*[ -\/]*|[\]PX^_][^\x07\x1b]{0,4096}\x1b?|[ -\/]*)?$/;
const INVISIBLE = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]/g;

/** Takes text as it comes, and keeps the newest lines. */
export class Lines {
  /** @param {number} most */
  constructor(most) {
    this.most = most;
    /** @type {Line[]} */
    this.lines = [];
    this.first = 0;
    this.next = 0;
    /** The smallest id of a line that has changed since this was set to `next`. */
    this.changed = 0;
    this.open = false;
    this.column = 0;
    /** The beginning of a code whose rest has not come, by stream. @type {Record<string, string>} */
    this.rest = {};
  }

  clear() {
    this.lines = [];
    this.first = this.changed = this.next;
    this.open = false;
    this.rest = {};
  }

  /** @param {string} text @param {Stream} stream */
  push(text, stream) {
    const begin = Math.max(lastLines(text, this.most + 1), text.length - MOST_TEXT);
    if (begin > 0) {
      // A flood: only the newest lines are ever seen.
      this.lines = [];
      this.open = false;
      this.rest[stream] = "";
    }
    let all = (this.rest[stream] ?? "") + text.slice(begin);
    this.rest[stream] = "";
    const unfinished = UNFINISHED.exec(all);
    if (unfinished) {
      this.rest[stream] = unfinished[0];
      all = all.slice(0, unfinished.index);
    }
    if (all.includes("\x1b")) all = all.replace(CODES, "");
    const pieces = all.split("\n");
    pieces.forEach((piece, index) => {
      const isLast = index === pieces.length - 1;
      if (piece || !isLast) this.write(piece, stream);
      if (!isLast) this.open = false;
    });
    let [first, room] = [this.lines.length, MOST_TEXT];
    while (first > 0 && this.lines.length - first < this.most && room >= 0) {
      first -= 1;
      room -= this.lines[first]?.text.length ?? 0;
    }
    this.lines.splice(0, first);
    this.first = this.lines[0]?.id ?? this.next;
  }

  /** @param {string} piece @param {Stream} stream */
  write(piece, stream) {
    let line = this.lines.at(-1);
    if (!this.open || !line || line.stream !== stream) line = this.begin(stream);
    this.changed = Math.min(this.changed, line.id);
    piece.split("\r").forEach((part, index) => {
      if (index > 0) this.column = 0;
      let visible = part.replace(INVISIBLE, "");
      while (visible) {
        const room = LONGEST - this.column;
        const fits = visible.slice(0, room);
        visible = visible.slice(room);
        const { text } = /** @type {Line} */ (line);
        /** @type {Line} */ (line).text = text.slice(0, this.column) + fits + text.slice(this.column + fits.length);
        this.column += fits.length;
        if (visible) line = this.begin(stream);
      }
    });
  }

  /** @param {Stream} stream */
  begin(stream) {
    const line = { text: "", stream, id: this.next };
    this.next += 1;
    this.column = 0;
    this.open = true;
    this.lines.push(line);
    return line;
  }
}

/**
 * Where so many lines begin that are the last of a text; the one without an end counts.
 * @param {string} text
 * @param {number} count
 */
export function lastLines(text, count) {
  let place = text.length;
  for (let left = count; left > 0; left -= 1) {
    if (place <= 0) return 0;
    place = text.lastIndexOf("\n", place - 1);
  }
  return place + 1;
}

/**
 * Words as a shell takes them: apart at spaces, together in quotes.
 * @param {string} text
 */
export function words(text) {
  const found = [];
  const pattern = /(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+/gs;
  for (const [word] of text.matchAll(pattern)) {
    found.push(word.replace(/"((?:[^"\\]|\\.)*)"|'([^']*)'|\\(.)/gs, (_, double, single, one) =>
      double !== undefined ? double.replace(/\\(["\\])/g, "$1") : (single ?? one)));
  }
  return found;
}
