// The difference of two texts, line by line. Without DOM.

/** @typedef {{kind: "same" | "mine" | "theirs", text: string}} Change */

/** Above this many places the middle is shown as replaced as a whole. */
const MOST_PLACES = 4_000_000;

/**
 * @param {string} mine
 * @param {string} theirs
 * @returns {Change[]}
 */
export function difference(mine, theirs) {
  const a = mine.split("\n");
  const b = theirs.split("\n");
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const left = a.slice(start, a.length - end);
  const right = b.slice(start, b.length - end);
  /** @type {(kind: Change["kind"]) => (text: string) => Change} */
  const as = (kind) => (text) => ({ kind, text });
  return [
    ...a.slice(0, start).map(as("same")),
    ...middle(left, right),
    ...a.slice(a.length - end).map(as("same")),
  ];
}

/**
 * By the longest common subsequence.
 * @param {string[]} a
 * @param {string[]} b
 * @returns {Change[]}
 */
function middle(a, b) {
  if (a.length * b.length > MOST_PLACES) {
    return [
      ...b.map((text) => /** @type {Change} */ ({ kind: "theirs", text })),
      ...a.map((text) => /** @type {Change} */ ({ kind: "mine", text })),
    ];
  }
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width);
  const at = (/** @type {number} */ i, /** @type {number} */ j) => lengths[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  /** @type {Change[]} */
  const changes = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      changes.push({ kind: "same", text: a[i] ?? "" });
      i += 1;
      j += 1;
    } else if (i >= a.length || (j < b.length && at(i, j + 1) >= at(i + 1, j))) {
      changes.push({ kind: "theirs", text: b[j] ?? "" });
      j += 1;
    } else {
      changes.push({ kind: "mine", text: a[i] ?? "" });
      i += 1;
    }
  }
  return changes;
}
