// Key sets of identity providers; capability and grant: jwks.
import { fetch as fetchText } from "tidegate:gateway/jwks@0.1.0";

export const fetch = (uri, { refresh = false } = {}) => JSON.parse(fetchText(uri, refresh));
