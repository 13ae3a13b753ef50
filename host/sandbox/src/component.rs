//! Looks at components: what one is, what it exports, what it asks for.
//!
//! The host goes by what a component exports, not by what its file is called. All of this happens before anything is
//! compiled, so a wrong component is refused at once and by name.

use std::fmt;

use wasmparser::{Encoding, Parser, Payload};
use wasmtime::component::InstancePre;

use crate::debug_information::DebugInformation;
use crate::grants::Grants;
use crate::instance::StepState;
use crate::shared_code::Code;

/// The WIT package of the contract.
pub const PACKAGE: &str = "tidegate:gateway";
/// The version of the contract that this host speaks.
pub const VERSION: &str = "0.1.0";
/// The custom section of a component that holds the JSON Schema of its configuration.
pub const SCHEMA_SECTION: &str = "tidegate:configuration-schema";

/// The custom section of a component that holds its own cases, for its embedder to run.
pub const CASES_SECTION: &str = "tidegate:cases";

/// A step of the pipeline that a component can implement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Decides whether a request may proceed, and who sends it.
    Authorizer,
    /// Decides whether there is capacity.
    Throttle,
    /// Decides whether a request is what the definition says.
    Validator,
    /// Changes a request before the integration.
    RequestTransform,
    /// Decides what answers a request.
    Integration,
    /// Changes a response.
    ResponseTransform,
    /// Writes down what happened.
    LogSink,
}

impl Step {
    /// All of them, in the order of the pipeline.
    pub const ALL: [Self; 7] = [
        Self::Authorizer,
        Self::Throttle,
        Self::Validator,
        Self::RequestTransform,
        Self::Integration,
        Self::ResponseTransform,
        Self::LogSink,
    ];

    /// The WIT interface's name.
    pub fn name(self) -> &'static str {
        self.export().0
    }

    /// The WIT interface and its function.
    pub(crate) fn export(self) -> (&'static str, &'static str) {
        match self {
            Self::Authorizer => ("authorizer", "authorize"),
            Self::Throttle => ("throttle", "admit"),
            Self::Validator => ("validator", "validate"),
            Self::RequestTransform => ("request-transform", "transform-request"),
            Self::Integration => ("integration", "integrate"),
            Self::ResponseTransform => ("response-transform", "transform-response"),
            Self::LogSink => ("log-sink", "write"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a plugin needs for its calls, as what it imports tells. Read for each request, so bindings have a copy at hand.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Any function that it imports may wait: it is called in the form that gives way to others only.
    pub waits: bool,
    /// It reads the bodies of requests: only then does the embedder collect them.
    pub request_body: bool,
    /// It reads the bodies of responses.
    pub response_body: bool,
}

/// A compiled plugin: a component that implements one or more steps.
pub struct Plugin {
    pub(crate) inspection: Inspection,
    pub(crate) pre: InstancePre<StepState>,
    /// How its calls are made.
    pub needs: Needs,
    /// SHA-256 of the component, in hex.
    pub hash: String,
    /// Size of the machine code, in bytes.
    pub code_bytes: usize,
    pub(crate) _code: Code,
}

impl Plugin {
    /// The steps that it implements.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        Step::ALL.into_iter().filter(|step| self.implements(*step))
    }

    /// Whether it implements `step`.
    pub fn implements(&self, step: Step) -> bool {
        self.inspection.implements(step)
    }

    /// The JSON Schema of its configuration, as it says by itself.
    pub fn schema(&self) -> Option<&str> {
        self.inspection.schema.as_deref()
    }

    /// The cases that it carries, in its embedder's own format.
    pub fn cases(&self) -> Option<&str> {
        self.inspection.cases.as_deref()
    }

    /// The names of what it imports, with versions.
    pub fn imports(&self) -> impl Iterator<Item = &str> {
        self.inspection.imports.iter().map(String::as_str)
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("hash", &self.hash)
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

/// Why bytes are not a component that the host can run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LoadError {
    /// Not WebAssembly at all.
    #[error("this is not WebAssembly: it starts with {0:02x?}, not with \\0asm")]
    NotWasm(Vec<u8>),
    /// A core module.
    #[error(
        "this is a core module, not a component: encode it with the WIT world (a Rust plugin: build it for wasm32-wasip2)"
    )]
    CoreModule,
    /// Cut off or corrupt.
    #[error("the component is damaged: {0}")]
    Damaged(String),
    /// Built against another version of the contract.
    #[error(
        "the component speaks {found}; this node speaks {PACKAGE}@{VERSION}: build it against this node's wit/"
    )]
    Version {
        /// What it imports or exports.
        found: String,
    },
    /// Exports nothing that the host can call.
    #[error(
        "the component exports {0}, and no step of {PACKAGE}@{VERSION} (authorizer, throttle, validator, …)"
    )]
    NoStep(String),
    /// Exports a step but not how it is configured.
    #[error("the component exports no {PACKAGE}/plugin@{VERSION}, through which it is configured")]
    NoConfigure,
    /// Exports no `wasi:http` handler.
    #[error(
        "the component exports {0}, and no wasi:http/incoming-handler (0.2) or wasi:http/handler (0.3)"
    )]
    NoHandler(String),
    /// Imports something that the host does not have, or of another shape.
    #[error("the component imports what this node does not offer: {0}")]
    Import(String),
    /// Reading it would take a thread's whole stack.
    #[error(
        "the component's debug information nests functions deeper than any compiler inlines them: strip it"
    )]
    DebugInformation,
    /// The compiler refused it.
    #[error("the component does not compile: {0}")]
    Compile(String),
}

/// The version of `wasi:http` that a function is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handles {
    /// `incoming-handler`.
    Http02,
    /// `handler`.
    Http03,
}

/// What a component says of itself: its top-level imports and exports, the schema of its configuration, and its cases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Names of what it imports, with versions.
    pub imports: Vec<String>,
    /// Names of what it exports, with versions.
    pub exports: Vec<String>,
    /// The JSON Schema of its configuration.
    pub schema: Option<String>,
    /// Its own cases.
    pub cases: Option<String>,
}

impl Inspection {
    /// Reads the names that a component imports and exports, and refuses what is no component or speaks another version.
    ///
    /// # Errors
    ///
    /// By name: not WebAssembly, a core module, damaged, another version.
    pub fn of(bytes: &[u8]) -> Result<Self, LoadError> {
        if !bytes.starts_with(b"\0asm") {
            return Err(LoadError::NotWasm(bytes[..bytes.len().min(4)].to_vec()));
        }
        let damaged = |error: wasmparser::BinaryReaderError| LoadError::Damaged(error.to_string());
        let mut found = Self::default();
        let mut depth = 0_usize;
        let mut debug_information = DebugInformation::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(damaged)? {
                Payload::Version {
                    encoding: Encoding::Module,
                    ..
                } if depth == 0 => return Err(LoadError::CoreModule),
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                    depth += 1;
                    debug_information = DebugInformation::default();
                }
                Payload::End(_) => {
                    depth = depth.saturating_sub(1);
                    if std::mem::take(&mut debug_information).is_too_deep() {
                        return Err(LoadError::DebugInformation);
                    }
                }
                Payload::CustomSection(section) if depth > 0 => {
                    debug_information.add(section.name(), section.data());
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        found
                            .imports
                            .push(import.map_err(damaged)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        found
                            .exports
                            .push(export.map_err(damaged)?.name.name.to_owned());
                    }
                }
                Payload::CustomSection(section) if depth == 0 => {
                    let place = match section.name() {
                        SCHEMA_SECTION => &mut found.schema,
                        CASES_SECTION => &mut found.cases,
                        _ => continue,
                    };
                    let text = std::str::from_utf8(section.data()).map_err(|_| {
                        LoadError::Damaged(format!("its section {} is no text", section.name()))
                    })?;
                    *place = Some(text.to_owned());
                }
                _ => {}
            }
        }
        found.check_version()?;
        Ok(found)
    }

    fn check_version(&self) -> Result<(), LoadError> {
        let ours = |name: &&String| name.starts_with(PACKAGE);
        let speaks_it = |name: &&String| {
            name.rsplit_once('@')
                .is_some_and(|(_, version)| version == VERSION)
        };
        match self
            .exports
            .iter()
            .chain(&self.imports)
            .filter(ours)
            .find(|name| !speaks_it(name))
        {
            Some(found) => Err(LoadError::Version {
                found: found.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Whether it exports the interface of `step`.
    pub fn implements(&self, step: Step) -> bool {
        self.exports
            .contains(&format!("{PACKAGE}/{}@{VERSION}", step.name()))
    }

    /// The `wasi:http` that it handles requests of.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoHandler`].
    pub fn handles(&self) -> Result<Handles, LoadError> {
        let exports = |prefix: &str| self.exports.iter().any(|it| it.starts_with(prefix));
        if exports("wasi:http/incoming-handler@0.2.") {
            Ok(Handles::Http02)
        } else if exports("wasi:http/handler@0.3.") {
            Ok(Handles::Http03)
        } else {
            Err(LoadError::NoHandler(self.listing()))
        }
    }

    /// The capabilities that a binding must be granted, by the names of their interfaces.
    pub fn grants_needed(&self) -> impl Iterator<Item = &str> {
        self.imports
            .iter()
            .filter(|import| !Grants::default().allows(import))
            .map(|import| {
                let name = import.split('@').next().unwrap_or(import);
                name.strip_prefix(PACKAGE)
                    .map_or(name, |rest| rest.trim_start_matches('/'))
            })
    }

    /// Refuses a component that has no step, or no way to be configured.
    ///
    /// # Errors
    ///
    /// [`LoadError::NoStep`] or [`LoadError::NoConfigure`].
    pub fn check_plugin(&self) -> Result<(), LoadError> {
        let exports = |interface: &str| {
            self.exports
                .contains(&format!("{PACKAGE}/{interface}@{VERSION}"))
        };
        if !Step::ALL.into_iter().any(|step| exports(step.name())) {
            return Err(LoadError::NoStep(self.listing()));
        }
        if !exports("plugin") {
            return Err(LoadError::NoConfigure);
        }
        Ok(())
    }

    /// The exports, for an error message.
    pub(crate) fn listing(&self) -> String {
        if self.exports.is_empty() {
            "nothing".to_owned()
        } else {
            self.exports.join(", ")
        }
    }

    pub(crate) fn imports_interface(&self, interface: &str) -> bool {
        self.imports
            .contains(&format!("{PACKAGE}/{interface}@{VERSION}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debug_information::nested;

    #[test]
    fn what_is_no_component_is_refused_by_name() {
        let cases: [(&[u8], LoadError); 4] = [
            (b"", LoadError::NotWasm(vec![])),
            (b"#!/bin/sh", LoadError::NotWasm(b"#!/b".to_vec())),
            (b"\0asm\x01\0\0\0", LoadError::CoreModule),
            (
                b"\0asm\x0d\0\x01\0",
                LoadError::NoStep("nothing".to_owned()),
            ),
        ];
        for (bytes, expected) in cases {
            let error = Inspection::of(bytes)
                .and_then(|found| found.check_plugin())
                .expect_err("refused");
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn debug_information_that_nests_too_deep_is_refused() {
        let section = |id: u8, content: &[u8]| {
            let length = u32::try_from(content.len()).unwrap();
            let low = u8::try_from(length & 0x7f).unwrap() | 0x80; // LEB128 in two octets
            [&[id, low, u8::try_from(length >> 7).unwrap()], content].concat()
        };
        let custom = |name: &str, content: &[u8]| {
            let length = u8::try_from(name.len()).unwrap();
            section(0, &[&[length], name.as_bytes(), content].concat())
        };
        for (depth, expected) in [(200, None), (300, Some(LoadError::DebugInformation))] {
            let (info, abbreviations) = nested(depth);
            let module = [
                b"\0asm\x01\0\0\0".to_vec(),
                custom(".debug_abbrev", &abbreviations),
                custom(".debug_info", &info),
            ];
            let component = [
                b"\0asm\x0d\0\x01\0".to_vec(),
                section(1, &module.concat()),
                section(1, b"\0asm\x01\0\0\0"),
            ];
            let found = Inspection::of(&component.concat());
            assert_eq!(found.err(), expected, "{depth}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let found = Inspection {
            imports: vec!["tidegate:gateway/request@0.2.0".to_owned()],
            ..Inspection::default()
        };
        let error = found.check_version().expect_err("refused");
        assert_eq!(
            error,
            LoadError::Version {
                found: "tidegate:gateway/request@0.2.0".to_owned()
            }
        );
    }
}
