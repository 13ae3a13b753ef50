// The request's content; capability: request-body. Naming it makes the host collect the body before each call.
export { read } from "tidegate:gateway/request-body@0.1.0";
