// Says how long a response may be kept, and not what made it.

import { definePlugin, removeHeader, setHeader } from "tidegate";
import { response } from "tidegate/response";

export default definePlugin<{ "max-age"?: number }>({
  transformResponse({ configuration: { "max-age": maxAge = 60 } }) {
    const value = response.status < 400 ? `max-age=${maxAge}` : "no-store";
    return [setHeader("cache-control", value), removeHeader("server")];
  },
});
