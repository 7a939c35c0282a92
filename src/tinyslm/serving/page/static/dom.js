// Create elements, and make text safe to show.

export function element(name, properties = {}, children = []) {
  const node = document.createElement(name);
  Object.assign(node, properties);
  node.append(...children);
  return node;
}

export function byId(id) {
  return document.getElementById(id);
}

// Escape control characters except tab and newline, and marks that reverse the reading direction.
const UNSHOWABLE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

export function readable(text) {
  return text.toWellFormed().replaceAll("\r\n", "\n").replace(UNSHOWABLE, (mark) => {
    const code = mark.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

export function percent(share) {
  const value = 100 * share;
  return value >= 99.95 ? "100 %" : value >= 0.1 ? `${value.toFixed(1)} %` : value > 0 ? "< 0.1 %" : "0 %";
}
