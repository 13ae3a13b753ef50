// Gives the request's body in capital letters.

import { read } from "tidegate:gateway/request-body@0.1.0";

export const plugin = {
  configure(configuration) {
    JSON.parse(configuration);
    return { reads: [], standing: {} };
  },
};

export const requestTransform = {
  transformRequest(given) {
    const body = read().map((byte) => (byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte));
    return { tag: "edits", val: [{ tag: "set-body", val: body }] };
  },
};
