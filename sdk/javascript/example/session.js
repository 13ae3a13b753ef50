// Lets in who has a session: asks the service that keeps them, and remembers for a minute what it said.

import { allow, definePlugin, forbidden, text, unauthorized } from "tidegate";
import { fetch } from "tidegate/http-client";
import { count } from "tidegate/metrics";
import { get as secret } from "tidegate/secrets";
import * as cache from "tidegate/shared-cache";

const REMEMBERED_MS = 60_000;

export default definePlugin({
  reads: () => ({ token: "header:x-session", method: "method" }),

  authorize({ configuration: { service }, given: { token, method } }) {
    if (token === undefined) return unauthorized("Session");
    if (method === "DELETE") cache.remove(token); // after this request there is no such session
    const known = cache.get(token);
    if (known) {
      count("remembered", 1);
      return allow(text(known));
    }
    count("asked", 1);
    const id = ask(service, token);
    if (id === undefined) return forbidden("no such session");
    cache.set(token, id, REMEMBERED_MS);
    return allow(id);
  },
});

/** Whose session it is. */
const ask = (service, token) => {
  const headers = { authorization: `Bearer ${secret("sessions")}` };
  const { status, body } = fetch(service, { method: "POST", headers, body: token, timeoutMs: 2000 });
  if (status === 404) return undefined;
  if (status !== 200) throw new Error(`the service answered ${status}`);
  return JSON.parse(text(body)).id;
};
