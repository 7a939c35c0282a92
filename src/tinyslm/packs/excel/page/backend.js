// The model and the engine of this page: those of the server. In a page without one, `../browser/backend.js` takes the
// place of this file.

import * as api from "../api.js";

export { ServerError } from "../api.js";

export async function models() {
  return (await api.models()).map((one) => one.id);
}

// What the model writes: yields { text, finish }. sheet: { headers, rows } of texts.
export async function* write(sheet, request, model, signal) {
  const question = await api.post("packs/excel/question", { ...sheet, request }, signal);
  for await (const { choices } of api.chat({ model, temperature: 0, ...question }, signal)) {
    for (const { delta, finish_reason: finish } of choices) yield { text: delta.content ?? "", finish };
  }
}

// The rows of texts that a formula gives, { grid }, or { error }: why it is not computed.
export function compute(sheet, formula, fill) {
  return api.post("packs/excel/value", { ...sheet, formula, fill });
}
