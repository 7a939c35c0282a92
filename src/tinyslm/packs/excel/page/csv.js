// Tables as text: what spreadsheets read and write as CSV, and what they copy (tab-separated).

const SEPARATORS = [",", ";", "\t", "|"];

// The rows of a text, as lists of texts. The separator is the one that occurs most in the first line.
export function parse(text, separator = separatorOf(text)) {
  const rows = [];
  let row = [];
  let cell = "";
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (quoted) {
      if (character !== '"') cell += character;
      else if (text[at + 1] === '"') cell += text[(at += 1)];
      else quoted = false;
    } else if (character === '"' && !cell) quoted = true;
    else if (character === separator || character === "\n" || character === "\r") {
      row.push(cell);
      cell = "";
      if (character === separator) continue;
      if (character === "\r" && text[at + 1] === "\n") at += 1;
      rows.push(row);
      row = [];
    } else cell += character;
  }
  if (cell || row.length) rows.push([...row, cell]);
  return rows;
}

function separatorOf(text) {
  const line = text.split(/[\r\n]/, 1)[0].replaceAll(/"(?:[^"]|"")*"/g, "");
  const counts = SEPARATORS.map((one) => line.split(one).length);
  return SEPARATORS[counts.indexOf(Math.max(...counts))];
}

// Rows as CSV, with the mark by which spreadsheets know UTF-8.
export function format(rows) {
  const written = rows.map((row) => row.map((cell) => (/[",;\t\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)).join(","));
  return `\ufeff${written.join("\r\n")}\r\n`;
}

// The text of a file: UTF-16 with its mark, UTF-8, or else that of older spreadsheets in Western Europe; null if it is
// no text, such as a workbook.
export function decoded(bytes) {
  const [first, second] = new Uint8Array(bytes, 0, Math.min(2, bytes.byteLength));
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)) {
    return new TextDecoder(first === 0xff ? "utf-16le" : "utf-16be").decode(bytes);
  }
  if (new Uint8Array(bytes).includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}
