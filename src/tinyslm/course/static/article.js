// The chapter on the article's model: which outputs change when one token changes.

widgets.reach = (root, { faces, variants }) => {
  const names = Object.keys(variants);
  let [variant, token] = [names[0], 0];
  const said = element("p", { className: "said", "aria-live": "polite" });
  const place = element("div", { className: "scroll" });
  const draw = () => {
    const head = faces.map((name, column) =>
      element("th", { scope: "col", className: column === token ? "chosen" : "" }, [element("code", {}, [name])]),
    );
    const rows = variants[variant].map((row, number) =>
      element("tr", {}, [
        element("th", { scope: "row" }, [element("code", {}, [faces[number]])]),
        ...row.map((one, column) => {
          const look = [one ? "on" : "off", column === token ? "chosen" : ""].join(" ");
          return element("td", { className: look }, [one ? "●" : "·"]);
        }),
      ]),
    );
    const caption = element("caption", {}, ["Columns: the token that changes. Rows: the output at each token."]);
    const table = element("table", { className: "reach" }, [
      caption,
      element("thead", {}, [element("tr", {}, [element("td"), ...head])]),
      element("tbody", {}, rows),
    ]);
    place.replaceChildren(table);
    const changed = variants[variant].flatMap((row, number) => (row[token] ? [number + 1] : []));
    const where = changed.length === 1 ? `output ${changed[0]} only` : `outputs ${changed.join(", ")}`;
    said.textContent = `${variant}: if token ${token + 1} (${faces[token]}) changes, so does ${where}.`;
    if (changed.length > 1) said.textContent = said.textContent.replace("so does", "so do");
  };
  const choose = (number) => {
    variant = names[number];
    draw();
  };
  const move = (number) => {
    token = number - 1;
    draw();
  };
  const range = { min: 1, max: faces.length, step: 1, value: 1 };
  root.append(
    element("div", { className: "controls" }, [choice("the block", names, choose), slider("token", range, move)]),
    said,
    place,
  );
  draw();
};
