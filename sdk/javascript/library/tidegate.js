// What a Tidegate plugin in JavaScript or TypeScript is written with. The types, and what they mean, are in tidegate.d.ts.

import * as host from "tidegate:gateway/request@0.1.0";
import { write } from "tidegate:gateway/log@0.1.0";
import { told, traced } from "./told.js";
import { decode, encode } from "./utf8.js";

// A plugin's instances all begin from one snapshot, and the host hands out no random numbers.
Math.random = () => {
  throw new Error("a plugin has no random numbers: each of its instances would draw the same ones");
};

// Nor a clock: a step knows when its request came.
const clockless = () => {
  throw new Error('a plugin has no clock; request.context("requestTimeEpoch") is when the request came, in milliseconds');
};
globalThis.Date = class extends Date {
  constructor(...time) {
    if (time.length === 0) clockless();
    super(...time);
  }
  static now() {
    clockless();
  }
};

const orUndefined = (value) => value ?? undefined;

/** Text as octets, octets as they are. */
export const octets = (value) => {
  if (typeof value === "string") return encode(value);
  if (value instanceof Uint8Array) return value;
  throw new TypeError(`${shown(value)} is neither text nor a Uint8Array`);
};

const shown = (value) => {
  if (typeof value?.then === "function") return "a promise (a step has to answer at once: it cannot be async)";
  return typeof value === "function" ? "a function" : (JSON.stringify(value) ?? String(value));
};

// The host takes texts for texts and numbers for numbers, and whatever else would be a trap that says nothing.
const asText = (what, value) => {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  throw new TypeError(`${what} is ${shown(value)}, and not a text`);
};
const asNumber = (what, value) => {
  if (Number.isInteger(value) && value >= 0) return value;
  throw new TypeError(`${what} is ${shown(value)}, and not a whole number`);
};
const asTextIfAny = (what, value) => (value === undefined || value === null ? undefined : asText(what, value));
const asNumberIfAny = (what, value) => (value === undefined || value === null ? undefined : asNumber(what, value));
const asEdit = (edit) => {
  if (typeof edit?.tag === "string" && "val" in edit) return edit;
  throw new TypeError(`${shown(edit)} is no edit: setHeader(…) makes one, and its like`);
};
const asFields = (what, fields) => Object.entries(fields).map(([name, value]) => [name, asText(`${what} ${name}`, value)]);

/** Octets as text. */
export const text = decode;

export { fromBase64url } from "./base64url.js";
export { hex } from "./hex.js";

export const request = {
  get method() {
    return host.method();
  },
  get path() {
    return host.path();
  },
  get queryString() {
    return orUndefined(host.queryString());
  },
  header: (name) => orUndefined(host.header(name)),
  headers: () => host.headers(),
  queryParameter: (name) => orUndefined(host.queryParameter(name)),
  queryParameters: () => host.queryParameters(),
  pathParameter: (name) => orUndefined(host.pathParameter(name)),
  pathParameters: () => host.pathParameters(),
  stageVariable: (name) => orUndefined(host.stageVariable(name)),
  context: (name) => orUndefined(host.context(name)),
};

const level = (name) => (message) => write(name, String(message));

export const log = {
  trace: level("trace"),
  debug: level("debug"),
  info: level("info"),
  warn: level("warn"),
  error: level("error"),
};

export const allow = (id, options = {}) => ({
  tag: "allow",
  val: {
    id: asText("the principal's id", id),
    context: asFields("the context's", options.context ?? {}),
    usageIdentifierKey: asTextIfAny("usageIdentifierKey", options.usageIdentifierKey),
  },
});
export const unauthorized = (challenge) => ({ tag: "unauthorized", val: asTextIfAny("the challenge", challenge) });
export const forbidden = (reason) => ({ tag: "forbidden", val: asTextIfAny("the reason", reason) });

export const admit = () => ({ tag: "admit" });
export const reject = (retryMs) => ({ tag: "reject", val: asNumber("retryMs", retryMs) });
export const exceeded = (renewsInMs) => ({ tag: "exceeded", val: asNumber("renewsInMs", renewsInMs) });

export const valid = () => ({ tag: "valid" });
export const invalidParameters = (message) => ({ tag: "invalid-parameters", val: asText("the message", message) });
export const invalidBody = (message) => ({ tag: "invalid-body", val: asText("the message", message) });
export const unsupportedMediaType = () => ({ tag: "unsupported-media-type" });

const ofOne = (tag) => (name) => ({ tag, val: asText(tag, name) });
const ofTwo = (tag) => (name, value) => ({ tag, val: [asText(`the name of ${tag}`, name), asText(`${tag} ${name}`, value)] });

export const setHeader = ofTwo("set-header");
export const appendHeader = ofTwo("append-header");
export const removeHeader = ofOne("remove-header");
export const renameHeader = ofTwo("rename-header");
export const setQueryParameter = ofTwo("set-query-parameter");
export const removeQueryParameter = ofOne("remove-query-parameter");
export const renameQueryParameter = ofTwo("rename-query-parameter");
export const setPath = ofOne("set-path");
export const setStatus = (status) => ({ tag: "set-status", val: asNumber("the status", status) });
export const setBody = (body) => ({ tag: "set-body", val: octets(body) });

const response = ({ status = 200, headers = {}, body = "" }) => ({
  status: asNumber("the status", status),
  headers: asFields("the header", headers),
  body: octets(body),
});

export const respond = (answer) => ({ tag: "respond", val: response(answer) });
export const forward = ({ uri, method, edits = [], timeoutMs }) => ({
  tag: "forward",
  val: {
    uri: asText("the uri", uri),
    method: asTextIfAny("the method", method),
    edits: edits.map(asEdit),
    timeoutMs: asNumberIfAny("timeoutMs", timeoutMs),
  },
});
export const invoke = (name, { edits = [], timeoutMs } = {}) => ({
  tag: "invoke",
  val: {
    function: asText("the function", name),
    edits: edits.map(asEdit),
    timeoutMs: asNumberIfAny("timeoutMs", timeoutMs),
  },
});

/** Keeps the types of a plugin together; gives it back as it is. */
export const definePlugin = (plugin) => plugin;

// ---- What the generated entry module calls. ----

let configuration;
let names = [];

export const exportPlugin = (plugin) => ({
  configure(document) {
    try {
      const given = JSON.parse(document);
      configuration = plugin.configure ? plugin.configure(given) : given;
      const reads = plugin.reads ? plugin.reads(configuration) : {};
      names = Object.keys(reads);
      return { reads: Object.values(reads).map(reading), standing: {} };
    } catch (error) {
      throw told(error);
    }
  },
});

/** A step's error is a text: anything else that is thrown would trap. */
const telling = (call) => (values) => {
  try {
    return call(values);
  } catch (error) {
    log.error(traced(error));
    throw told(error);
  }
};

const reading = (expression) => {
  const [, kind, name] = /^(method|path|queryString|(?:header|queryParameter|pathParameter|stageVariable|context)):?(.*)$/.exec(expression) ?? [];
  if (!kind) throw new Error(`${expression} is no reading; one is header:x-name`);
  const tag = kind.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return name ? { tag, val: name } : { tag };
};

const named = (values) => Object.fromEntries(names.map((name, place) => [name, orUndefined(values[place])]));

/** An answer that one of these functions made. */
const madeBy = (...makers) => {
  const tags = makers.map((maker) => maker.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`));
  return (name, answer) => {
    if (tags.includes(answer?.tag)) return answer;
    throw new TypeError(`${name} answered ${shown(answer)}: it has to return what ${makers.join(", ")} make`);
  };
};
const edits = (name, answer) => {
  if (Array.isArray(answer)) return answer.map(asEdit);
  throw new TypeError(`${name} answered ${shown(answer)}: it has to return a list of edits`);
};

const steps = {
  authorizer: { authorize: madeBy("allow", "unauthorized", "forbidden") },
  throttle: { admit: madeBy("admit", "reject", "exceeded") },
  validator: { validate: madeBy("valid", "invalidParameters", "invalidBody", "unsupportedMediaType") },
  "request-transform": {
    transformRequest: (name, answer) =>
      answer?.tag === "respond" ? answer : { tag: "edits", val: edits(name, answer) },
  },
  integration: { integrate: madeBy("respond", "forward", "invoke") },
  "response-transform": { transformResponse: edits },
};

export const exportStep = (plugin, step) => {
  if (step === "log-sink") {
    return { write: telling((records) => plugin.write(records.map(named), configuration)) };
  }
  const [[name, checked]] = Object.entries(steps[step]);
  if (typeof plugin[name] !== "function") {
    throw new Error(`the plugin has no function ${name}, which plugin.toml's step ${step} calls`);
  }
  const decide = (given) => plugin[name]({ configuration, given, request });
  return { [name]: telling((values) => checked(name, decide(named(values)))) };
};
