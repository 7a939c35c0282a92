// Results that are dates, which engines give as the number of a day.

const DAY = 86_400_000; // milliseconds
const EPOCH = Date.UTC(1899, 11, 30);
const LAST = 2_958_465; // the end of the year 9999
const DATE = /^\d{4}-\d{2}-\d{2}$/;
const OF_DATES = /^=(?:DATE|DATEVALUE|EDATE|EOMONTH|WORKDAY(?:\.INTL)?|TODAY)\(/i;
const OF_A_COLUMN = /^=(?:(?:MAX|MIN|LARGE|SMALL|INDEX|MAXIFS|MINIFS|FILTER|SORT|UNIQUE)\()?\$?([A-Z])\$?\d+(?::\$?\1\$?\d+)?(?![:\d])/i;

// The rows of texts that a formula gives, with dates as they are written, where the formula is one call that gives a
// date, or a value of a column of dates.
export function withDates(formula, { rows }, grid) {
  const column = OF_A_COLUMN.exec(formula)?.[1].toUpperCase().charCodeAt(0) - 65;
  const dates = isOneTerm(formula) && grid[0]?.length === 1 && (OF_DATES.test(formula) || isOfDates(rows.map((row) => row[column] ?? "")));
  return dates ? grid.map(([text]) => [written(text)]) : grid;
}

// Whether a formula is a call or a cell, and nothing else.
function isOneTerm(formula) {
  if (/^=\$?[A-Z]\$?\d+$/i.test(formula)) return true;
  let depth = 0;
  for (const [at, sign] of [...formula.replaceAll(/"(?:[^"]|"")*"/g, (text) => " ".repeat(text.length))].entries()) {
    depth += { "(": 1, ")": -1 }[sign] ?? 0;
    if (sign === ")" && depth === 0) return at === formula.length - 1;
  }
  return false;
}

function isOfDates(texts) {
  const filled = texts.filter((text) => text.trim());
  return filled.filter((text) => DATE.test(text.trim())).length > filled.length / 2;
}

function written(text) {
  const number = Number(text);
  return text && Number.isInteger(number) && number > 0 && number <= LAST ? new Date(EPOCH + number * DAY).toISOString().slice(0, 10) : text;
}
