//! Rust types for the WIT contract, generated from `wit/`.
//!
//! Exports are looked up by hand (`component.rs`): a plugin exports some of the steps, and each is called in the
//! synchronous or the asynchronous form.

/// The steps and capabilities of `tidegate:gateway`.
#[expect(missing_docs, reason = "documented in wit/")]
pub mod gateway {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "tidegate:gateway/host",
        imports: {
            "tidegate:gateway/jwks": async,
            "tidegate:gateway/http-client": async,
            "tidegate:gateway/quota": async | trappable,
            "tidegate:gateway/rate-limit": trappable,
            "tidegate:gateway/request": trappable,
            "tidegate:gateway/request-body": trappable,
            "tidegate:gateway/response": trappable,
            "tidegate:gateway/response-body": trappable,
        },
    });
}

/// `wasi:keyvalue`, for functions.
#[expect(missing_docs, reason = "documented in wit/")]
pub mod keyvalue {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "tidegate:gateway/function-imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": crate::capabilities::keyvalue::Bucket,
            "wasi:keyvalue/atomics.cas": crate::capabilities::keyvalue::Cas,
        },
    });
}
