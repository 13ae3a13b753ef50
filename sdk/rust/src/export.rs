use std::cell::OnceCell;
use std::marker::PhantomData;

use crate::bindings::plugin::exports::tidegate::gateway::plugin::{Guest, Setup as SetupRecord};
use crate::bindings::{
    authorizer::exports::tidegate::gateway::authorizer,
    integration::exports::tidegate::gateway::integration,
    log_sink::exports::tidegate::gateway::log_sink,
    request_transform::exports::tidegate::gateway::request_transform,
    response_transform::exports::tidegate::gateway::response_transform,
    throttle::exports::tidegate::gateway::throttle,
    validator::exports::tidegate::gateway::validator,
};
use crate::types::{Edit, Plan};
use crate::{
    Admission, Authorizer, Configuration, Given, Integration, LogSink, Outcome, Plugin,
    RequestTransform, ResponseTransform, Throttle, Validator, Validity, Verdict,
};

/// Makes a component of a plugin: `export!(MyPlugin: authorizer, request_transform);`.
///
/// The steps are the names of their traits in snake case: `authorizer`, `throttle`, `validator`, `request_transform`,
/// `integration`, `response_transform`, `log_sink`. To be called once in a crate of `crate-type = ["cdylib"]`. Off wasm it
/// only checks that the plugin implements the steps, so that the crate can be tested natively.
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($step:ident),+ $(,)?) => {
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::std::cell::OnceCell<$plugin> = const { ::std::cell::OnceCell::new() };
            }

            impl $crate::Kept for $plugin {
                fn with<T>(use_it: impl FnOnce(&::std::cell::OnceCell<Self>) -> T) -> T {
                    INSTANCE.with(use_it)
                }
            }

            #[allow(dead_code)] // Named by the exports, of which there are none off wasm.
            type Component = $crate::Exported<$plugin>;

            #[cfg(target_family = "wasm")]
            $crate::bindings::plugin::export!(Component with_types_in $crate::bindings::plugin);
            $($crate::__export_step!($step, $plugin, Component);)+
        };
    };
}

/// Exports one step, or checks off wasm that it could be.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_step {
    (authorizer, $plugin:ident, $component:ident) => { $crate::__export_step!(@ authorizer Authorizer $plugin $component); };
    (throttle, $plugin:ident, $component:ident) => { $crate::__export_step!(@ throttle Throttle $plugin $component); };
    (validator, $plugin:ident, $component:ident) => { $crate::__export_step!(@ validator Validator $plugin $component); };
    (request_transform, $plugin:ident, $component:ident) => {
        $crate::__export_step!(@ request_transform RequestTransform $plugin $component);
    };
    (integration, $plugin:ident, $component:ident) => { $crate::__export_step!(@ integration Integration $plugin $component); };
    (response_transform, $plugin:ident, $component:ident) => {
        $crate::__export_step!(@ response_transform ResponseTransform $plugin $component);
    };
    (log_sink, $plugin:ident, $component:ident) => { $crate::__export_step!(@ log_sink LogSink $plugin $component); };
    (@ $module:ident $step:ident $plugin:ident $component:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::$module::export!($component with_types_in $crate::bindings::$module);
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            const fn implements<P: $crate::$step>() {}
            implements::<$plugin>()
        };
    };
}

/// Where an instance keeps its configured plugin. Implemented by [`export!`].
pub trait Kept: Plugin {
    /// Hands the place to `use_it`.
    fn with<T>(use_it: impl FnOnce(&OnceCell<Self>) -> T) -> T;

    /// Hands the configured plugin to a step's call.
    fn step<T>(call: impl FnOnce(&Self) -> Result<T, String>) -> Result<T, String> {
        Self::with(|kept| match kept.get() {
            Some(plugin) => call(plugin),
            None => Err("called before configure".into()),
        })
    }
}

/// The component of a plugin: what the generated exports call.
#[derive(Debug)]
pub struct Exported<P>(PhantomData<P>);

impl<P: Kept> Guest for Exported<P> {
    fn configure(configuration: String) -> Result<SetupRecord, String> {
        let configuration =
            Configuration::parse(&configuration).map_err(|error| error.to_string())?;
        let setup = P::configure(configuration).map_err(|error| error.to_string())?;
        P::with(|kept| kept.set(setup.plugin)).map_err(|_| "configured twice".to_string())?;
        Ok(setup.record)
    }
}

impl<P: Kept + Authorizer> authorizer::Guest for Exported<P> {
    fn authorize(given: Vec<Option<String>>) -> Result<Verdict, String> {
        P::step(|plugin| plugin.authorize(given.into()))
    }
}

impl<P: Kept + Throttle> throttle::Guest for Exported<P> {
    fn admit(given: Vec<Option<String>>) -> Result<Admission, String> {
        P::step(|plugin| plugin.admit(given.into()))
    }
}

impl<P: Kept + Validator> validator::Guest for Exported<P> {
    fn validate(given: Vec<Option<String>>) -> Result<Validity, String> {
        P::step(|plugin| plugin.validate(given.into()))
    }
}

impl<P: Kept + RequestTransform> request_transform::Guest for Exported<P> {
    fn transform_request(given: Vec<Option<String>>) -> Result<Outcome, String> {
        P::step(|plugin| plugin.transform_request(given.into()))
    }
}

impl<P: Kept + Integration> integration::Guest for Exported<P> {
    fn integrate(given: Vec<Option<String>>) -> Result<Plan, String> {
        P::step(|plugin| plugin.integrate(given.into()))
    }
}

impl<P: Kept + ResponseTransform> response_transform::Guest for Exported<P> {
    fn transform_response(given: Vec<Option<String>>) -> Result<Vec<Edit>, String> {
        P::step(|plugin| plugin.transform_response(given.into()))
    }
}

impl<P: Kept + LogSink> log_sink::Guest for Exported<P> {
    fn write(records: Vec<Vec<Option<String>>>) -> Result<(), String> {
        P::step(|plugin| plugin.write(records.into_iter().map(Given::from).collect()))
    }
}
