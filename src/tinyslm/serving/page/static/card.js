// What is known of a model, as a sheet.

import * as api from "./api.js";
import { byId, element, readable } from "./dom.js";

export class Card {
  constructor(model) {
    this.model = model;
    byId("open-card").addEventListener("click", () => this.open());
  }

  async open() {
    const name = this.model();
    byId("card-heading").textContent = readable(name);
    byId("card-body").replaceChildren(element("p", { className: "faint" }, ["Reading …"]));
    byId("card").showModal();
    try {
      const { sections } = await api.card(name);
      byId("card-body").replaceChildren(...sections.flatMap(section));
    } catch (error) {
      byId("card-body").replaceChildren(element("p", { className: "error" }, [error.message]));
    }
  }
}

function section({ title, rows }) {
  const cells = rows.flatMap(([name, value]) => [element("dt", {}, [name]), element("dd", {}, [readable(value)])]);
  return [element("h3", {}, [title]), element("dl", {}, cells)];
}
