// A function that greets.

import { type Handler, Response } from "tidegate/function";

const text = (content: string, status = 200) =>
  new Response(content, { status, headers: { "content-type": "text/plain" } });

export default {
  fetch(request) {
    if (request.path !== "/greet") return text(`there is no ${request.path}\n`, 404);
    return text(`Hello, ${request.query.get("name") ?? "world"}!\n`);
  },
} satisfies Handler;
