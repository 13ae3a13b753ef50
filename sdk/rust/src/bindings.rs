//! What wit-bindgen makes of the WIT: one world of everything that can be imported, and one for each interface that can
//! be exported. A component gets the exports that its plugin names in `export!`, and of the imports those it calls.
#![allow(missing_docs)]

pub mod imports {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package tidegate:sdk-rust;
            world imports {
                import tidegate:gateway/types@0.1.0;
                import tidegate:gateway/request@0.1.0;
                import tidegate:gateway/request-body@0.1.0;
                import tidegate:gateway/response@0.1.0;
                import tidegate:gateway/response-body@0.1.0;
                import tidegate:gateway/log@0.1.0;
                import tidegate:gateway/crypto@0.1.0;
                import tidegate:gateway/jwks@0.1.0;
                import tidegate:gateway/rate-limit@0.1.0;
                import tidegate:gateway/quota@0.1.0;
                import tidegate:gateway/api-keys@0.1.0;
                import tidegate:gateway/shared-cache@0.1.0;
                import tidegate:gateway/http-client@0.1.0;
                import tidegate:gateway/secrets@0.1.0;
                import tidegate:gateway/metrics@0.1.0;
                import tidegate:gateway/log-output@0.1.0;
            }",
        generate_all,
        additional_derives: [PartialEq],
    });
}

pub mod plugin {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package tidegate:sdk-rust;
            world plugin-export {
                export tidegate:gateway/plugin@0.1.0;
            }",
        with: { "tidegate:gateway/types@0.1.0": super::imports::tidegate::gateway::types },
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "tidegate_plugin::bindings::plugin",
        runtime_path: "::tidegate_plugin::wit_bindgen::rt",
    });
}

pub mod authorizer {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package tidegate:sdk-rust;
            world authorizer-export {
                export tidegate:gateway/authorizer@0.1.0;
            }",
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "tidegate_plugin::bindings::authorizer",
        runtime_path: "::tidegate_plugin::wit_bindgen::rt",
    });
}

pub mod throttle {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package tidegate:sdk-rust;
            world throttle-export {
                export tidegate:gateway/throttle@0.1.0;
            }",
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "tidegate_plugin::bindings::throttle",
        runtime_path: "::tidegate_plugin::wit_bindgen::rt",
    });
}

pub mod validator {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package tidegate:sdk-rust;
            world validator-export {
                export tidegate:gateway/validator@0.1.0;
            }",
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "tidegate_plugin::bindings::validator",
        runtime_path: "::tidegate_plugin::wit_bindgen::rt",
    });
}

pub mod request_transform {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package tidegate:sdk-rust;
            world request-transform-export {
                export tidegate:gateway/request-transform@0.1.0;
            }",
        with: { "tidegate:gateway/types@0.1.0": super::imports::tidegate::gateway::types },
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "tidegate_plugin::bindings::request_transform",
        runtime_path: "::tidegate_plugin::wit_bindgen::rt",
    });
}

pub mod integration {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package tidegate:sdk-rust;
            world integration-export {
                export tidegate:gateway/integration@0.1.0;
            }",
        with: { "tidegate:gateway/types@0.1.0": super::imports::tidegate::gateway::types },
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "tidegate_plugin::bindings::integration",
        runtime_path: "::tidegate_plugin::wit_bindgen::rt",
    });
}

pub mod response_transform {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package tidegate:sdk-rust;
            world response-transform-export {
                export tidegate:gateway/response-transform@0.1.0;
            }",
        with: { "tidegate:gateway/types@0.1.0": super::imports::tidegate::gateway::types },
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "tidegate_plugin::bindings::response_transform",
        runtime_path: "::tidegate_plugin::wit_bindgen::rt",
    });
}

pub mod log_sink {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package tidegate:sdk-rust;
            world log-sink-export {
                export tidegate:gateway/log-sink@0.1.0;
            }",
        generate_all,
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "tidegate_plugin::bindings::log_sink",
        runtime_path: "::tidegate_plugin::wit_bindgen::rt",
    });
}
