// Text with control characters, made visible in one short line.

/** @param {string} text */
export function visible(text) {
  const short = text.length > 80 ? `…${text.slice(-80)}` : text;
  return short.replace(/[\r\n]/g, "⏎").replace(/[\x00-\x1f]/g, (character) => String.fromCharCode(character.charCodeAt(0) + 0x2400));
}
