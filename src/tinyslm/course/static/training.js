// The chapter on training: a step of any size, the snapshots of a run, and the quiz on faults.

// The loss after one step along the gradient, by the size of the step.
widgets.step = (root, { rates, losses, before, dim }) => {
  const shown = losses.map((loss) => (loss === null ? null : Math.min(loss, 2.5 * before + 1)));
  const title = "Loss on the sentence after one step";
  const figure = chart({
    series: [
      { name: "after the step", x: rates, y: shown },
      { name: "before it", x: [rates[0], rates.at(-1)], y: [before, before] },
    ],
    title,
    xTitle: "learning rate",
    scales: ["log", "linear"],
  });
  const said = element("p", { className: "said", "aria-live": "polite" });
  const act = (number) => {
    const loss = losses[number];
    figure.change({ mark: rates[number] });
    const change = loss === null ? "" : loss < before ? " It is better." : " It is worse.";
    const now = loss === null ? "infinite or not a number" : loss.toFixed(4);
    said.textContent = `Learning rate ${rates[number]}: the loss goes from ${before.toFixed(4)} to ${now}.${change}`;
  };
  const best = losses.reduce((found, one, place) => (one !== null && one < losses[found] ? place : found), 0);
  const range = { min: 0, max: rates.length - 1, step: 1, value: best };
  root.append(slider("learning rate", range, act, (number) => String(rates[number])), said, figure);
  act(best);
};

// What the model made of the sentence and of a prompt after some updates.
widgets.snapshots = (root, { curve, faces, snapshots, prompt }) => {
  const figure = chart({ ...curve, scales: ["root", "linear"], xTitle: "updates" });
  const said = element("p", { className: "said", "aria-live": "polite" });
  const tokens = element("ol", { className: "token-view", "aria-label": "Probability of each token of the sentence" });
  const text = element("pre", { dir: "auto" });
  const act = (number) => {
    const { step, shares, loss, sample } = snapshots[number];
    figure.change({ mark: step });
    const updates = step ? `After ${step.toLocaleString("en")} updates` : "Before the first update";
    said.textContent = `${updates}, the loss on the sentence is ${loss.toFixed(3)}.`;
    tokens.replaceChildren(
      ...faces.map((face, place) => {
        const share = place ? shares[place - 1] : null;
        const fill = element("i", { "aria-hidden": "true" });
        fill.style.height = `${100 * (share ?? 0)}%`;
        const number = share === null ? "given" : percent(share);
        return element("li", {}, [fill, element("code", {}, [face]), element("span", {}, [number])]);
      }),
    );
    text.replaceChildren(element("b", {}, [prompt]), sample);
  };
  const last = snapshots.length - 1;
  const range = { min: 0, max: last, step: 1, value: last };
  const sample = element("figure", { className: "sample" }, [
    element("figcaption", {}, ["The model continues a prompt, with the same random seed each time"]),
    text,
  ]);
  const name = (number) => snapshots[number].step.toLocaleString("en");
  root.append(slider("updates", range, act, name), said, figure, tokens, sample);
  act(last);
};

// A card for each run: its curves, what it writes, and a choice of what is wrong with it.
widgets.quiz = (root, { steps, guessing, ranges, runs, choices }) => {
  const right = new Set();
  const score = element("p", { className: "said", role: "status" });
  const tell = () => (score.textContent = `${right.size} of ${runs.length} are right.`);
  const cards = runs.map(({ letter, losses, gradients, text, answer, hint, why }, number) => {
    const verdict = element("p", { className: "verdict", role: "status" });
    const common = { xTitle: "updates", scales: ["log", "linear"], height: 170 };
    const loss = chart({
      ...common,
      series: [
        { name: "training loss", x: steps, y: losses },
        { name: "guessing", x: [steps[0], steps.at(-1)], y: [guessing, guessing] },
      ],
      title: `Run ${letter}: loss`,
      range: ranges.losses,
    });
    const norm = chart({
      ...common,
      series: [{ name: "gradient", x: steps, y: gradients }],
      title: `Run ${letter}: norm of the gradient`,
      range: ranges.gradients,
      scales: ["log", "log"],
      height: 140,
    });
    const judge = (place) => {
      const given = place - 1;
      right.delete(number);
      if (given === answer) right.add(number);
      verdict.textContent = given < 0 ? "" : given === answer ? `✓ Right. ${why}` : `✗ Wrong. ${hint}`;
      tell();
    };
    const picker = choice(`Run ${letter} is`, ["choose", ...choices], judge);
    const sample = element("figure", { className: "sample" }, [
      element("figcaption", {}, ["What it generates after training"]),
      element("pre", {}, [text]),
    ]);
    const show = () => {
      picker.querySelector("select").value = answer + 1;
      judge(answer + 1);
    };
    return { show, node: element("section", { "aria-label": `Run ${letter}` }, [loss, norm, sample, picker, verdict]) };
  });
  const all = element("button", { type: "button" }, ["Show all answers"]);
  all.addEventListener("click", () => cards.forEach(({ show }) => show()));
  const grid = element("div", { className: "side-by-side quiz" }, cards.map(({ node }) => node));
  root.append(grid, element("div", { className: "controls" }, [score, all]));
  tell();
};
