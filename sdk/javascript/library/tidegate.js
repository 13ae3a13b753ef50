// What a Tidegate plugin in JavaScript or TypeScript is written with. The types, and what they mean, are in tidegate.d.ts.

import * as host from "tidegate:gateway/request@0.1.0";
import { write } from "tidegate:gateway/log@0.1.0";
import { told, traced } from "./told.js";
import { decode, encode } from "./utf8.js";

// A plugin's instances all begin from one snapshot, and the host hands out no random numbers.
Math.random = () => {
  throw new Error("a plugin has no random numbers: each of its instances would draw the same ones");
};

const orUndefined = (value) => value ?? undefined;

/** Text as octets, octets as they are. */
export const octets = (value) => (typeof value === "string" ? encode(value) : value);

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
    id,
    context: Object.entries(options.context ?? {}),
    usageIdentifierKey: options.usageIdentifierKey,
  },
});
export const unauthorized = (challenge) => ({ tag: "unauthorized", val: challenge });
export const forbidden = (reason) => ({ tag: "forbidden", val: reason });

export const admit = () => ({ tag: "admit" });
export const reject = (retryMs) => ({ tag: "reject", val: retryMs });
export const exceeded = (renewsInMs) => ({ tag: "exceeded", val: renewsInMs });

export const valid = () => ({ tag: "valid" });
export const invalidParameters = (message) => ({ tag: "invalid-parameters", val: message });
export const invalidBody = (message) => ({ tag: "invalid-body", val: message });
export const unsupportedMediaType = () => ({ tag: "unsupported-media-type" });

export const setHeader = (name, value) => ({ tag: "set-header", val: [name, value] });
export const appendHeader = (name, value) => ({ tag: "append-header", val: [name, value] });
export const removeHeader = (name) => ({ tag: "remove-header", val: name });
export const renameHeader = (from, to) => ({ tag: "rename-header", val: [from, to] });
export const setQueryParameter = (name, value) => ({ tag: "set-query-parameter", val: [name, value] });
export const removeQueryParameter = (name) => ({ tag: "remove-query-parameter", val: name });
export const renameQueryParameter = (from, to) => ({ tag: "rename-query-parameter", val: [from, to] });
export const setPath = (path) => ({ tag: "set-path", val: path });
export const setStatus = (status) => ({ tag: "set-status", val: status });
export const setBody = (body) => ({ tag: "set-body", val: octets(body) });

const response = ({ status = 200, headers = {}, body = "" }) => ({
  status,
  headers: Object.entries(headers),
  body: octets(body),
});

export const respond = (answer) => ({ tag: "respond", val: response(answer) });
export const forward = ({ uri, method, edits = [], timeoutMs }) => ({
  tag: "forward",
  val: { uri, method, edits, timeoutMs },
});
export const invoke = (name, { edits = [], timeoutMs } = {}) => ({
  tag: "invoke",
  val: { function: name, edits, timeoutMs },
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

const steps = {
  authorizer: { authorize: (decide) => decide },
  throttle: { admit: (decide) => decide },
  validator: { validate: (decide) => decide },
  "request-transform": {
    transformRequest: (decide) => (...arguments_) => {
      const outcome = decide(...arguments_);
      return Array.isArray(outcome) ? { tag: "edits", val: outcome } : outcome;
    },
  },
  integration: { integrate: (decide) => decide },
  "response-transform": { transformResponse: (decide) => decide },
};

export const exportStep = (plugin, step) => {
  if (step === "log-sink") {
    return { write: telling((records) => plugin.write(records.map(named), configuration)) };
  }
  const [[name, adapt]] = Object.entries(steps[step]);
  if (typeof plugin[name] !== "function") {
    throw new Error(`the plugin has no function ${name}, which plugin.toml's step ${step} calls`);
  }
  const decide = adapt((given) => plugin[name]({ configuration, given, request }));
  return { [name]: telling((values) => decide(named(values))) };
};
