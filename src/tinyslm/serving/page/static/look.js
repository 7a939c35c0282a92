// "Look inside": the tokens of a text, their probabilities, their alternatives, and attention.

import * as api from "./api.js";
import { byId, element, percent, readable } from "./dom.js";
import { HeatMap } from "./heatmap.js";
import { STEPS, bars, face, step } from "./tokens.js";

const LEGEND = {
  probability: ["unlikely", "likely"],
  attention: ["no attention", "full attention"],
};

export class Look {
  constructor(model) {
    this.model = model;
    this.map = new HeatMap((row) => this.choose(row));
    this.list = byId("tokens");
    byId("look-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.text(byId("look-text").value);
    });
    this.list.addEventListener("keydown", (event) => this.move(event));
    this.list.addEventListener("pointerover", (event) => this.pointed(event.target));
    this.list.addEventListener("focusin", (event) => this.pointed(event.target));
    this.list.addEventListener("click", (event) => this.pointed(event.target));
    for (const select of ["layer", "head"]) byId(select).addEventListener("change", () => this.attend());
    for (const radio of document.getElementsByName("colour")) radio.addEventListener("change", () => this.colour());
  }

  text(text) {
    return this.ask({ text }, "Write a text first.", text);
  }

  conversation(messages) {
    return this.ask({ messages }, "There is no conversation yet.", messages.length);
  }

  async ask(what, nothing, something) {
    if (!something) {
      this.say(nothing);
      return;
    }
    this.say("Reading …");
    const model = this.model();
    try {
      this.show(await api.look({ model, ...what }), model);
    } catch (error) {
      this.say(error.message);
      byId("look-result").hidden = true;
    }
  }

  say(text) {
    byId("look-status").textContent = text;
  }

  show(found, model) {
    Object.assign(this, { found, read: model, weights: null });
    this.say(found.left_out ? `The last ${found.tokens.length} tokens; ${found.left_out} earlier tokens are omitted.` : "");
    this.list.replaceChildren(...found.tokens.flatMap((token, place) => this.piece(token, place)));
    options("layer", found.layers, []);
    options("head", found.heads, [["", "mean of all"]]);
    byId("loss").tBodies[0].replaceChildren(...found.loss_by_kind.map(lossRow));
    byId("loss").hidden = !found.loss_by_kind.length;
    byId("look-result").hidden = false;
    this.choose(found.tokens.length - 1);
    this.colour();
    this.attend();
    if (matchMedia("(max-width: 52rem)").matches) byId("look-result").scrollIntoView({ block: "start" });
  }

  // A token, followed by a line break if it ends a line.
  piece(token, place) {
    const words = [`Token ${place + 1}: ${spoken(token)}`];
    if (token.logprob !== null) words.push(`probability ${percent(Math.exp(token.logprob))}`, `rank ${token.rank}`);
    const node = element("span", { className: `token ${token.kind}`, role: "option", tabIndex: -1, ariaLabel: words.join(", ") }, [
      element("span", { className: "face" }, [face(token)]),
    ]);
    node.dataset.place = String(place);
    node.dataset.kind = token.token_kind;
    const ends = token.kind === "text" && token.text.endsWith("\n");
    return ends ? [node, document.createElement("br")] : [node];
  }

  get nodes() {
    return this.list.querySelectorAll(".token");
  }

  // Colours by probability, or by the attention of the chosen token.
  colour() {
    const by = this.by();
    const row = this.weights?.[this.chosen] ?? [];
    this.nodes.forEach((node, place) => {
      const { logprob } = this.found.tokens[place];
      const share = by === "attention" ? (row[place] ?? 0) : logprob === null ? null : Math.exp(logprob);
      node.style.setProperty("--share", String(share ?? 0));
      node.dataset.step = share === null ? "" : String(by === "attention" ? attended(share) : step(share));
    });
    this.list.dataset.by = by;
    byId("legend").replaceChildren(...(by === "kind" ? kinds(this.found.tokens) : legend(by)));
  }

  by() {
    return [...document.getElementsByName("colour")].find((radio) => radio.checked).value;
  }

  pointed(target) {
    const node = target.closest(".token");
    if (node) this.choose(Number(node.dataset.place));
  }

  choose(place) {
    const { nodes } = this;
    const before = nodes[this.chosen];
    if (before) {
      before.tabIndex = -1;
      before.ariaSelected = "false";
    }
    this.chosen = place;
    nodes[place].tabIndex = 0;
    nodes[place].ariaSelected = "true";
    this.map.row(place);
    this.detail(place);
    if (this.by() === "attention") this.colour();
  }

  move(event) {
    const last = this.nodes.length - 1;
    const steps = { ArrowRight: this.chosen + 1, ArrowLeft: this.chosen - 1, Home: 0, End: last };
    let place = steps[event.key];
    if (event.key === "ArrowDown" || event.key === "ArrowUp") place = this.beyond(event.key === "ArrowDown" ? 1 : -1);
    if (place === undefined) return;
    event.preventDefault();
    this.nodes[Math.min(last, Math.max(0, place))].focus();
  }

  // The token above or below the chosen one.
  beyond(direction) {
    const { nodes } = this;
    const from = nodes[this.chosen].getBoundingClientRect();
    let best = this.chosen;
    let line = null;
    for (let at = this.chosen + direction; nodes[at]; at += direction) {
      const box = nodes[at].getBoundingClientRect();
      if (Math.abs(box.top - from.top) < from.height / 2) continue;
      line ??= box.top;
      if (Math.abs(box.top - line) > from.height / 2) break;
      const distance = (place) => Math.abs(nodes[place].getBoundingClientRect().left - from.left);
      if (best === this.chosen || distance(at) < distance(best)) best = at;
    }
    return best;
  }

  // The alternatives of a token; for the last one, also the predictions for the next.
  detail(place) {
    const token = this.found.tokens[place];
    const body = byId("detail-body");
    body.replaceChildren(element("p", { className: "chosen" }, [element("code", {}, [face(token)]), ` ${about(token)}`]));
    if (token.logprob === null) body.append(element("p", { className: "faint" }, ["The first token has no context, so it has no probability."]));
    else body.append(bars(token.top, (one) => one.id === token.id, `Likeliest tokens in place of ${spoken(token)}`));
    if (place === this.found.tokens.length - 1) {
      body.append(element("h4", {}, ["Next token"]), bars(this.found.next, () => false, "Likeliest tokens after the text"));
    }
  }

  async attend() {
    this.asking?.abort();
    const controller = (this.asking = new AbortController());
    const status = byId("attention-status");
    const ids = this.found.tokens.map((token) => token.id);
    const head = byId("head").value;
    status.textContent = "Computing …";
    try {
      const request = { model: this.read, ids, layer: Number(byId("layer").value), head: head === "" ? null : Number(head) };
      const { weights } = await api.lookAttention(request, controller.signal);
      status.textContent = "";
      this.weights = weights;
      const where = `layer ${request.layer}, ${head === "" ? "mean of all heads" : `head ${head}`}`;
      this.map.show(this.found.tokens.map(face), weights, where);
      this.map.row(this.chosen);
      this.colour();
    } catch (error) {
      if (!controller.signal.aborted) status.textContent = error.message;
    }
  }
}

function options(id, count, first) {
  const select = byId(id);
  const kept = select.value;
  const all = [...first, ...Array.from({ length: count }, (_, number) => [String(number + 1), String(number + 1)])];
  select.replaceChildren(...all.map(([value, words]) => element("option", { value }, [words])));
  if (all.some(([value]) => value === kept)) select.value = kept;
}

function attended(share) {
  return Math.min(STEPS - 1, Math.ceil(share * (STEPS - 1)));
}

function legend(by) {
  const [low, high] = LEGEND[by];
  const steps = Array.from({ length: STEPS }, (_, number) => {
    const swatch = element("i", { className: "swatch" });
    swatch.dataset.step = String(number);
    return swatch;
  });
  const scale = element("span", { className: "scale", ariaHidden: "true" }, steps);
  scale.dataset.by = by;
  return [low, scale, high];
}

function lossRow({ kind, tokens, bits_per_token: bits, share }) {
  const name = element("th", { scope: "row" }, [swatch(kind), kind]);
  return element("tr", {}, [name, ...[String(tokens), bits.toFixed(2), percent(share)].map((text) => element("td", {}, [text]))]);
}

function kinds(tokens) {
  const found = [...new Set(tokens.map((token) => token.token_kind))];
  return found.map((kind) => element("span", { className: "scale kind" }, [swatch(kind), kind]));
}

function swatch(kind) {
  const node = element("i", { className: "swatch", ariaHidden: "true" });
  node.dataset.kind = kind;
  return node;
}

function about(token) {
  const number = `token ${token.id}`;
  if (token.logprob === null) return number;
  return `${number} · ${percent(Math.exp(token.logprob))} · rank ${token.rank}`;
}

function spoken(token) {
  if (token.kind === "bytes") return `bytes ${token.text}`;
  const words = readable(token.text).replaceAll("\n", " line end ").replaceAll("\t", " tab ");
  return token.kind === "special" ? `special ${words}` : words.trim() ? `"${words}"` : words.length ? `${words.length} spaces` : "nothing";
}
