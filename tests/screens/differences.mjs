// What a snapshot is known to lose, each with the shortest output that shows it. README.md has the causes.
//
// judge.mjs tries each, and fails where one is not lost any more: the row then belongs out of both files.

export const differences = [
  { name: 'blinking', steps: ['\x1b[5mx'] },
  { name: 'hidden text', steps: ['\x1b[8mx'] },
  { name: 'struck text', steps: ['\x1b[9mx'] },
  { name: 'a line above', steps: ['\x1b[53mx'] },
  { name: 'kinds of underline', steps: ['\x1b[4:3mx'] },
  { name: 'colours of underlines', steps: ['\x1b[4;58:5:1mx'] },
  { name: 'links', steps: ['\x1b]8;;http://example.org\x07x\x1b]8;;\x07'] },
  { name: 'tab stops', steps: ['\x1b[5G\x1bH\r', '\tx'] },
  { name: 'DECALN', steps: ['\x1b#8'] },
  { name: 'reflow', steps: ['x'.repeat(100) + '\r\n\n', ['r', 24, 60], '\r'] },
  { name: 'national character sets', steps: ['\x1b(A#'] },
  { name: 'bold and dim at once', steps: ['\x1b[1;2mx'] },
  { name: 'emoji newer than Unicode 11', steps: ['\u{1fae0} x'] },
  { name: 'what a wide character leaves at the end of a line', steps: ['\x1b[79Gab\x1b[80G\u754c'] },
  { name: 'dim beside bold', steps: ['\x1b[1mx\x1b[22;2my\r\n'] },
  { name: 'a saved cursor, and lines that leave the screen', steps: ['\x1b[9H\x1b7\x1b[24H\n\n\n\x1b8'] },
  { name: 'a cursor that was never saved, in origin mode', steps: ['\x1b[?6h\x1b[5;14ri\x1b[u\x1b[K'] },
  { name: 'blanks inserted at the end of a full line', steps: ['\x1b[1;79H\u754c\x1b[@'] },
];
