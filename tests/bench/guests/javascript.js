// Counts five headers: the authorizer of the benchmark's case `guest-javascript`.

import { allow, definePlugin, forbidden } from "tidegate";

const names = ["x-one", "x-two", "x-three", "x-four", "x-five"];

export default definePlugin({
  authorize({ request }) {
    return names.every((name) => request.header(name) !== undefined) ? allow("five") : forbidden("fewer");
  },
});
