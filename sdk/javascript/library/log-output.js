// Where log records go; capability and grant: log-output.
export { write } from "tidegate:gateway/log-output@0.1.0";
