// Markdown as DOM nodes. What a model writes is data: it becomes text nodes inside a few kinds of elements, never
// markup. Images, HTML and links to anything but web pages and mail addresses stay the text that they are.

import { element, readable } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}>\s?(.*)$/;
const RULE = /^ {0,3}([-*_])( *\1){2,}\s*$/;
const DEEPEST = 12;

export function render(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks(readable(text).split("\n"), 0));
  return fragment;
}

function blocks(lines, depth) {
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    const [node, next] = block(lines, at, depth);
    if (node) nodes.push(node);
    at = next;
  }
  return nodes;
}

// The block that begins at a line, and the line after it.
function block(lines, at, depth) {
  const line = lines[at];
  if (!line.trim()) return [null, at + 1];
  const fence = FENCE.exec(line);
  if (fence) return code(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    // The page has headings of its own above these.
    const level = Math.min(6, heading[1].length + 2);
    return [element(`h${level}`, { dir: "auto" }, inline(heading[2])), at + 1];
  }
  if (RULE.test(line)) return [element("hr"), at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return quote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return list(lines, at, depth);
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !begins(lines[end])) end += 1;
  return [element("p", { dir: "auto" }, inline(lines.slice(at, end).join("\n"))), end];
}

function begins(line) {
  return FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || ITEM.test(line) || RULE.test(line);
}

function code(lines, at, [, fence, language]) {
  let end = at + 1;
  const closing = (line) => line.trim().startsWith(fence) && !line.trim().slice(fence.length).replaceAll(fence[0], "");
  while (end < lines.length && !closing(lines[end])) end += 1;
  const name = language.trim();
  const body = element("pre", { tabIndex: 0, ariaLabel: name ? `Code, ${name}` : "Code", role: "region" }, [
    element("code", {}, [lines.slice(at + 1, end).join("\n")]),
  ]);
  return [body, end + 1];
}

function quote(lines, at, depth) {
  const inside = [];
  let end = at;
  for (let found; end < lines.length && (found = QUOTE.exec(lines[end])); end += 1) inside.push(found[1]);
  return [element("blockquote", {}, blocks(inside, depth + 1)), end];
}

function list(lines, at, depth) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const numbered = /\d/.test(mark);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const found = ITEM.exec(lines[end]);
    if (!found || found[1].length !== indent.length || /\d/.test(found[2]) !== numbered) break;
    const inside = [found[3]];
    end += 1;
    // What is indented further belongs to the item.
    while (end < lines.length && (further(lines[end], indent) || (!lines[end].trim() && further(lines[end + 1], indent)))) {
      inside.push(lines[end].slice(indent.length + 2));
      end += 1;
    }
    items.push(element("li", { dir: "auto" }, tight(blocks(inside, depth + 1))));
    if (end + 1 < lines.length && !lines[end].trim() && ITEM.test(lines[end + 1])) end += 1;
  }
  const node = element(numbered ? "ol" : "ul", {}, items);
  if (numbered && mark !== "1.") node.start = parseInt(mark, 10);
  return [node, end];
}

function further(line, indent) {
  return line !== undefined && line.trim() !== "" && line.startsWith(`${indent}  `);
}

// An item that begins with a paragraph begins with its words.
function tight(nodes) {
  const [first, ...rest] = nodes;
  return first?.tagName === "P" ? [...first.childNodes, ...rest] : nodes;
}

// In order of precedence, if several begin at the same place.
const SPANS = [
  [/(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)/y, ([, , words]) => element("code", {}, [words.trim() || words])],
  [/\\([!-/:-@[-`{-~])/y, ([, mark]) => mark],
  [/(?<!!)\[([^[\]]{1,500})\]\(\s*<?([^\s()<>]{1,2000})>?(?:\s+"[^"]*")?\s*\)/y, ([, words, url]) => link(words, url)],
  [/<(https?:\/\/[^\s<>]{1,2000}|mailto:[^\s<>]{1,500})>/y, ([, url]) => link(url, url)],
  [/\*\*(?=\S)([^\n]{1,2000}?\S)\*\*|(?<!\w)__(?=\S)([^\n]{1,2000}?\S)__(?!\w)/y, (f) => element("strong", {}, inline(f[1] ?? f[2]))],
  [/\*(?=[^\s*])([^*\n]{1,2000}?[^\s*])\*|\*([^\s*])\*|(?<!\w)_(?=[^\s_])([^_\n]{1,2000}?)_(?!\w)/y, (f) => element("em", {}, inline(f[1] ?? f[2] ?? f[3]))],
  [/https?:\/\/[^\s<>()"'`\]]{1,2000}[^\s<>()"'`\].,;:!?]/y, ([url]) => link(url, url)],
];
const MARKS = /[`\\[<*_h]/g;

function inline(text) {
  const nodes = [];
  let plain = 0;
  MARKS.lastIndex = 0;
  for (let mark; (mark = MARKS.exec(text)); ) {
    const found = spanAt(text, mark.index);
    if (!found) continue;
    const [node, length] = found;
    nodes.push(text.slice(plain, mark.index), node);
    plain = mark.index + length;
    // Spans within this one were found by calls of this function, which moved the mark.
    MARKS.lastIndex = plain;
  }
  nodes.push(text.slice(plain));
  return nodes.filter((node) => node !== "");
}

function spanAt(text, at) {
  for (const [pattern, make] of SPANS) {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) continue;
    const node = make(found);
    if (node !== null) return [node, found[0].length];
  }
  return null;
}

// A link that shows its target; null unless the target is a web page or a mail address.
function link(words, url) {
  let target;
  try {
    target = new URL(url);
  } catch {
    return null;
  }
  if (!["http:", "https:", "mailto:"].includes(target.protocol)) return null;
  const node = element("a", { href: target.href, rel: "noopener noreferrer", target: "_blank" }, [words]);
  if (words === url || words === target.href) return node;
  return element("span", {}, [node, element("span", { className: "target" }, [` (${target.href})`])]);
}
