// Demands a header, and a body of one media type that is not too long.

import { definePlugin, invalidBody, invalidParameters, unsupportedMediaType, valid } from "tidegate";
import { read } from "tidegate/request-body";

export default definePlugin({
  configure: (given) => ({
    header: given.header ?? "idempotency-key",
    mediaType: given["media-type"] ?? "application/json",
    bodyBytesMax: given["body-bytes-max"] ?? 1024,
  }),

  // The host hands them over with each call, which costs half of what asking for them does.
  reads: ({ header }) => ({ named: `header:${header}`, contentType: "header:content-type" }),

  validate({ configuration: { header, mediaType, bodyBytesMax }, given: { named, contentType = "" } }) {
    if (named === undefined) return invalidParameters(`the header ${header} is missing`);
    const [type = ""] = contentType.split(";");
    if (type.trim().toLowerCase() !== mediaType) return unsupportedMediaType();
    if (read().length > bodyBytesMax) return invalidBody(`the body is over ${bodyBytesMax} bytes`);
    return valid();
  },
});
