// Tokens as they are drawn, here and in other views.

import { element, percent, readable } from "./dom.js";

export const STEPS = 6;

// A token with visible spaces and line ends; bytes and special tokens are marked.
export function face(token) {
  if (token.kind === "bytes") return `⟨${token.text}⟩`;
  if (token.kind === "special") return readable(token.text);
  return readable(token.text).replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "∅";
}

// The step of the colour scale for a probability.
export function step(share) {
  return [0.001, 0.01, 0.1, 0.3, 0.7, Infinity].findIndex((bound) => share < bound);
}

// Tokens with bars for their probabilities; `isThis` marks one; `act`, if given, makes buttons of those it returns.
export function bars(tops, isThis, label, act = () => null) {
  const rows = tops.map((token) => {
    const share = Math.exp(token.logprob);
    const bar = element("i", { className: "bar", ariaHidden: "true" });
    bar.style.setProperty("--share", String(share));
    const words = [element("code", {}, [face(token)]), element("span", { className: "number" }, [percent(share)]), bar];
    const chosen = act(token);
    if (!chosen) return element("li", { className: isThis(token) ? "this" : "" }, words);
    const button = element("button", { type: "button", className: "quiet choice" }, words);
    button.addEventListener("click", chosen);
    return element("li", { className: isThis(token) ? "this" : "" }, [button]);
  });
  return element("ol", { className: "bars", ariaLabel: label }, rows);
}
