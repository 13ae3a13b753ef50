// Sends requests to one of two upstreams, or answers all of them while both are closed.

import { definePlugin, forward, removeHeader, respond } from "tidegate";

export default definePlugin({
  // The host hands them over with each call, which costs half of what asking for them does.
  reads: () => ({ path: "path", query: "queryString", previewing: "header:x-preview" }),

  integrate({ configuration: { upstream, preview, closed, "timeout-ms": timeoutMs }, given }) {
    if (closed !== undefined) {
      return respond({ status: 503, headers: { "content-type": "text/plain" }, body: closed });
    }
    const { path, query, previewing } = given;
    const previewed = preview !== undefined && previewing !== undefined;
    return forward({
      uri: `http://${previewed ? preview : upstream}${path}${query === undefined ? "" : `?${query}`}`,
      edits: previewed ? [removeHeader("x-preview")] : [],
      timeoutMs,
    });
  },
});
