// A message that is being changed.

import { element } from "./dom.js";

// Replace what an article shows by a box with the message's text; `done` gets the new text.
export function edit(article, message, words, done, cancel) {
  const box = element("textarea", { value: message.content, rows: 3, dir: "auto", ariaLabel: "Text of the message" });
  const button = (name, className, act) => {
    const node = element("button", { type: "button", className }, [name]);
    node.addEventListener("click", act);
    return node;
  };
  const finish = () => box.value.trim() && done(box.value.trim());
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") cancel();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) finish();
  });
  const row = element("footer", { className: "row" }, [button(words, "", finish), button("Cancel", "quiet", cancel)]);
  article.classList.add("editing");
  article.replaceChildren(article.querySelector(".who"), box, row);
  box.style.height = `${Math.min(box.scrollHeight + 8, window.innerHeight / 2)}px`;
  box.focus();
}
