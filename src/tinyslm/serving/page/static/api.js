// Requests to the server. All of them go to the origin of the page.

const KEY = "tinyslm.key";

export function storedKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function storeKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

// An error response; `param` names the field of the request that it is about.
export class ServerError extends Error {
  constructor(message, { status = 0, param = null, code = null } = {}) {
    super(message);
    Object.assign(this, { status, param, code });
  }
}

export async function models() {
  const { data } = await (await call("v1/models")).json();
  return data;
}

export function look(request) {
  return post("look", request);
}

export function lookAttention(request, signal) {
  return post("look/attention", request, signal);
}

export async function card(model) {
  return (await call(`card/${encodeURIComponent(model)}`)).json();
}

// The answer of a page's own kind of request.
export async function post(path, request, signal) {
  return (await call(path, request, signal)).json();
}

// The chunks of an answer as they arrive.
export function chat(request, signal) {
  return chunks("v1/chat/completions", request, signal);
}

// The chunks of a text's continuation as they arrive.
export function complete(request, signal) {
  return chunks("v1/completions", request, signal);
}

async function* chunks(path, request, signal) {
  const response = await call(path, { ...request, stream: true }, signal);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message, chunk.error);
    yield chunk;
  }
}

async function call(path, body, signal) {
  const headers = {};
  const key = storedKey();
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      signal,
      body: body && JSON.stringify(body),
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached. Is it still running?");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const { status } = response;
  try {
    const { error } = await response.json();
    return new ServerError(error.message, { status, param: error.param, code: error.code });
  } catch {
    return new ServerError(`The server answered ${status} ${response.statusText}.`, { status });
  }
}

// The data of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): what the parser
// does not need here, such as event names, is skipped.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  let data = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (waiting + value).split(/\r\n|\n|\r(?!$)/);
    waiting = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line === "" && data.length) {
        yield data.join("\n");
        data = [];
      }
    }
  }
}
