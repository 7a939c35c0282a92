// The views, as tabs (https://www.w3.org/WAI/ARIA/apg/patterns/tabs/).

import { byId } from "./dom.js";

const VIEWS = ["chat", "write", "look"];

export class Tabs {
  constructor() {
    for (const view of VIEWS) {
      const tab = byId(`${view}-tab`);
      tab.addEventListener("click", () => this.show(view));
      tab.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
        const forward = event.key === "ArrowRight" ? 1 : VIEWS.length - 1;
        const other = VIEWS[(VIEWS.indexOf(view) + forward) % VIEWS.length];
        this.show(other);
        byId(`${other}-tab`).focus();
      });
    }
  }

  get chosen() {
    return VIEWS.find((view) => !byId(view).hidden);
  }

  show(chosen) {
    for (const view of VIEWS) {
      const tab = byId(`${view}-tab`);
      tab.ariaSelected = String(view === chosen);
      tab.tabIndex = view === chosen ? 0 : -1;
      byId(view).hidden = view !== chosen;
    }
  }
}
