// The response's content; capability: response-body. Naming it makes the host collect the body before each call.
export { read } from "tidegate:gateway/response-body@0.1.0";
