// What the page keeps in this browser between two visits. A browser that stores nothing, or too little, is no error.

const PREFIX = "tinyslm.";

export function kept(name) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name));
  } catch {
    return null;
  }
}

export function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Full, or forbidden: the value lives as long as the page.
  }
}
