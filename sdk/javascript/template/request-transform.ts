// Gives the body in capital letters, after a prefix.

import { definePlugin, setBody, setHeader, text } from "tidegate";
import { read } from "tidegate/request-body";

export default definePlugin<{ prefix?: string }>({
  transformRequest({ configuration: { prefix = "> " } }) {
    const body = text(read());
    if (body === "") return [];
    return [setBody(prefix + body.toUpperCase()), setHeader("x-changed", "yes")];
  },
});
