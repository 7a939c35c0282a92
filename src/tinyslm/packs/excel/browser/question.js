// What a model is asked about a sheet, as in tinyslm's `packs/excel/sheets.py`, byte for byte: a test and the check of
// every page compare them.

const SHOWN = 3; // different texts of a column that a model sees
const SHOWN_KEYS = 2; // the same, if all are different
const LONGEST_VALUE = 40; // characters
const DIGITS = 10; // of a number
const MOST_DIGITS = 17; // that tell numbers apart
const EXACT = 60; // digits, more than there are to look at
const EPOCH = Date.UTC(1899, 11, 30);
const DAY = 86_400_000; // milliseconds

// Spaces and numbers are those of Python, which differ from JavaScript's.
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const SPACES = new RegExp(`[${SPACE}]+`, "gu");
const ENDS = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "gu");
const NUMBER = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/;
const NUMBER_TEXT = /^-?\p{Nd}+(?:[.,]\p{Nd}+)?$/u;
const DATE = /^([0-9]{4})-([0-9]{2})-([0-9]{2})$/;

// sheet: { headers, rows } of texts; the rows have as many cells as there are headers.
export function question({ headers, rows }, request) {
  const lines = headers.map((header, column) => {
    const name = header.replaceAll(SPACES, " ").replaceAll(ENDS, "") || "(no header)";
    return `${name} ${String.fromCharCode(65 + column)}: ${first(rows.map((row) => cellOf(row[column] ?? ""))).join(" | ")}`;
  });
  return `${[...lines, `rows 2 to ${rows.length + 1}`].join("\n")}\n\n${request}`;
}

// A text as spreadsheets read it: { kind, value, text }, or null for nothing.
export function cellOf(text) {
  const bare = text.replaceAll(ENDS, "");
  if (!bare) return null;
  if (NUMBER.test(bare) && Number.isFinite(Number(bare))) return { kind: "number", value: Number(bare) + 0 };
  const day = DATE.test(text) ? dayOf(text) : null;
  if (day !== null) return { kind: "date", value: day };
  const upper = text.toUpperCase();
  return upper === "TRUE" || upper === "FALSE" ? { kind: "boolean", value: upper === "TRUE" } : { kind: "text", value: text };
}

// The number by which spreadsheets know a date; null if there is no such day.
function dayOf(text) {
  const [, year, month, day] = DATE.exec(text).map(Number);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  const exists = year > 0 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  return exists ? (date.getTime() - EPOCH) / DAY : null;
}

// The first values of a column as a model reads them; if there are blanks, one of them.
function first(cells) {
  const filled = cells.filter((cell) => cell !== null);
  const texts = [...new Set(filled.filter(({ kind }) => kind === "text").map(({ value }) => value))];
  const words = texts.filter((text) => !NUMBER_TEXT.test(text.replaceAll(ENDS, ""))).slice(0, texts.length < filled.length ? SHOWN : SHOWN_KEYS);
  const shown = words.length ? words.map(plainText) : texts.length ? [plainText(texts[0])] : filled.slice(0, 1).map(plain);
  return filled.length === cells.length ? shown : [...shown, "(blank)"];
}

function plain({ kind, value }) {
  if (kind === "date") return "date";
  return kind === "boolean" ? String(value).toUpperCase() : plainNumber(value);
}

function plainText(text) {
  const characters = [...text];
  const cut = characters.length <= LONGEST_VALUE ? text : `${characters.slice(0, LONGEST_VALUE - 1).join("")}…`;
  return NUMBER_TEXT.test(cut.replaceAll(ENDS, "")) ? `'${cut}` : cut.replaceAll("\n", " ");
}

// Python's f"{value:.10g}", with as many digits as are asked for.
export function plainNumber(value, digits = DIGITS) {
  if (value === 0) return "0";
  const [mantissa, exponent] = toDigits(Math.abs(value), digits).split("e");
  const power = Number(exponent);
  const kept = mantissa.replace(".", "").replace(/0+$/, "");
  const sign = value < 0 ? "-" : "";
  if (power < -4 || power >= digits) {
    const point = kept.length > 1 ? `${kept[0]}.${kept.slice(1)}` : kept;
    return `${sign}${point}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  }
  if (power < 0) return `${sign}0.${"0".repeat(-power - 1)}${kept}`;
  const whole = kept.slice(0, power + 1).padEnd(power + 1, "0");
  return kept.length > power + 1 ? `${sign}${whole}.${kept.slice(power + 1)}` : `${sign}${whole}`;
}

// Python's round(value, 6).
export function rounded(value) {
  const count = Number(value.toExponential().split("e")[1]) + 7;
  return count < 1 || count > MOST_DIGITS ? Number(value.toFixed(6)) : Math.sign(value) * Number(toDigits(Math.abs(value), count));
}

// A positive number with as many digits, and its exponent. JavaScript rounds halves up, Python to an even digit.
function toDigits(value, count) {
  const [mantissa, exponent] = value.toExponential(EXACT).split("e");
  const digits = mantissa.replace(".", "");
  const half = digits[count] === "5" && !/[1-9]/.test(digits.slice(count + 1));
  if (half && Number(digits[count - 1]) % 2 === 0) return `${digits[0]}.${digits.slice(1, count)}e${exponent}`;
  return value.toExponential(count - 1);
}
