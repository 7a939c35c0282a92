// What the page keeps in this browser: between two visits, or as long as a tab is open ("sessionStorage"). A browser
// that stores nothing, or too little, is no error.

const PREFIX = "tinyslm.";

export function kept(name, store = "localStorage") {
  try {
    return JSON.parse(window[store].getItem(PREFIX + name));
  } catch {
    return null;
  }
}

// Says whether it is kept; if not (full, or forbidden), the value lives as long as the page.
export function keep(name, value, store = "localStorage") {
  try {
    if (value === null) window[store].removeItem(PREFIX + name);
    else window[store].setItem(PREFIX + name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

// The names of what is kept between two visits that begin so.
export function names(beginning) {
  try {
    const found = Object.keys(window.localStorage).filter((name) => name.startsWith(PREFIX + beginning));
    return found.map((name) => name.slice(PREFIX.length));
  } catch {
    return [];
  }
}
