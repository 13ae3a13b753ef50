// What is said of an exception.

/** In one line: its name and message, or what a function of the host answered. */
export const told = (error) => {
  const answer = error instanceof Error ? error.payload : error;
  if (answer === undefined) return String(error);
  if (typeof answer !== "object" || answer === null) return String(answer);
  const { tag, val } = answer;
  if (tag === undefined) return JSON.stringify(answer);
  return val === undefined || val === null ? tag : `${tag}: ${val}`;
};

/** The same, and where it was thrown, in the author's files. */
export const traced = (error) => (error instanceof Error ? `${told(error)}\n${located(error.stack)}` : told(error));

/** The engine knows lines of the bundle; `build` appends whose they are. */
const located = (stack) => {
  const { files, lines } = globalThis.tidegateLines ?? { files: [], lines: [] };
  return stack.trimEnd().replace(/[^\s()]*bundle\.js:(\d+)(:\d+)?/g, (place, number) => {
    const [file, line] = lines[number - 1] ?? [];
    return line === undefined ? place : `${files[file]}:${line}`;
  });
};
