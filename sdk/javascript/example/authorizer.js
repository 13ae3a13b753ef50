// Admits who sends `authorization: let-me-in`.

import { header } from "tidegate:gateway/request@0.1.0";

export const plugin = {
  configure(configuration) {
    JSON.parse(configuration);
    return { reads: [], standing: {} };
  },
};

export const authorizer = {
  authorize(given) {
    const word = header("authorization");
    if (word == null) return { tag: "unauthorized", val: undefined };
    if (word !== "let-me-in") return { tag: "forbidden", val: "another word" };
    return { tag: "allow", val: { id: "friend", context: [], usageIdentifierKey: undefined } };
  },
};
