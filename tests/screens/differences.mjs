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
  { name: 'bold and dim at once', steps: ['\x1b[1;2mx'] },
  { name: 'tab stops', steps: ['\x1b[5G\x1bH\r', '\tx'] },
  { name: 'reflow', steps: ['x'.repeat(100) + '\r\n\n', ['r', 24, 60], '\r'] },
  { name: 'national character sets', steps: ['\x1b(A#'] },
  { name: 'a character set that was saved', steps: ['\x0e\x1b8\x1b(0x'] },
  { name: 'emoji newer than Unicode 11', steps: ['\u{1fae0} x'] },
  { name: 'the colour of half a wide character', steps: ['\x1b[41m\u754c\x1b[m\x1b[2Gx'] },
  { name: 'the other half of a wide character', steps: ['\u754c\x1b[2G\x1b[@'] },
  { name: 'a saved cursor, and lines that leave the screen', steps: ['\x1b[9H\x1b7\x1b[24H\n\n\n\x1b8'] },
];
