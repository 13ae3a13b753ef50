//! `tidegate plugin inspect`: all that a component says of itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidegate_sandbox::component::{PACKAGE, VERSION};
use tidegate_sandbox::{Inspection, Runtime, Settings, Step};

use crate::cases;

/// Prints it.
pub fn run(component: &Path, cache: Option<PathBuf>, json: bool) -> Result<ExitCode> {
    let description = Description::of(component, cache)?;
    if json {
        println!("{}", description.json());
    } else {
        print!("{}", description.text());
    }
    Ok(ExitCode::SUCCESS)
}

/// What a component is.
pub struct Description {
    inspection: Inspection,
    bytes: usize,
    hash: String,
    code_bytes: Option<usize>,
    waits: Option<bool>,
}

impl Description {
    /// Reads and loads it, as a node would.
    ///
    /// # Errors
    ///
    /// By name: what a node would refuse it for.
    pub fn of(file: &Path, kept: Option<PathBuf>) -> Result<Self> {
        let component = std::fs::read(file).with_context(|| file.display().to_string())?;
        let inspection = Inspection::of(&component).with_context(|| file.display().to_string())?;
        let runtime = Runtime::new(Settings {
            instances_max: 8,
            artifacts: kept.or_else(|| beside(file)),
            ..Settings::default()
        })?;
        let mut description = Self {
            bytes: component.len(),
            hash: String::new(),
            code_bytes: None,
            waits: None,
            inspection,
        };
        let named = || file.display().to_string();
        if description.inspection.handles().is_ok() {
            description.hash = runtime
                .function(&component)
                .with_context(named)?
                .hash
                .clone();
        } else {
            let plugin = runtime.plugin(&component).with_context(named)?;
            description.hash = plugin.hash.clone();
            description.code_bytes = Some(plugin.code_bytes);
            description.waits = Some(plugin.needs.waits);
        }
        Ok(description)
    }

    fn steps(&self) -> Vec<&'static str> {
        Step::ALL
            .into_iter()
            .filter(|step| self.inspection.implements(*step))
            .map(Step::name)
            .collect()
    }

    /// What it is, and what goes in and out.
    pub fn summary(&self) -> String {
        let mut text = format!("{}\n", self.line());
        write_line(
            &mut text,
            "size",
            &format!("{} KiB", self.bytes.div_ceil(1024)),
        );
        for export in &self.inspection.exports {
            write_line(&mut text, "exports", export);
        }
        for import in &self.inspection.imports {
            write_line(&mut text, "imports", import);
        }
        text
    }

    fn line(&self) -> String {
        let grants: Vec<&str> = self.inspection.grants_needed().collect();
        let what = match self.waits {
            None => "a function (wasi:http)".to_owned(),
            Some(_) => format!(
                "a plugin for {PACKAGE}@{VERSION}: {}",
                self.steps().join(", ")
            ),
        };
        match grants.as_slice() {
            [] => format!("{what}; it needs no grant"),
            [grant] => format!("{what}; it needs the grant {grant}"),
            grants => format!("{what}; it needs the grants {}", grants.join(", ")),
        }
    }

    /// The summary, and what only this command looks at.
    fn text(&self) -> String {
        let mut text = self.summary();
        write_line(&mut text, "sha256", &self.hash);
        if let Some(code) = self.code_bytes {
            write_line(
                &mut text,
                "machine code",
                &format!("{} KiB", code.div_ceil(1024)),
            );
        }
        match self.waits {
            Some(true) => write_line(&mut text, "calls", "may wait; made asynchronously"),
            Some(false) => write_line(&mut text, "calls", "never wait; made synchronously"),
            None => {}
        }
        let cases = match self.cases() {
            Some(count) => format!("{count}, which a node runs before it serves another version"),
            None => "none in the component".to_owned(),
        };
        write_line(&mut text, "cases", &cases);
        let schema = self.inspection.schema.as_deref();
        write_line(
            &mut text,
            "configuration",
            schema.unwrap_or("no schema in the component"),
        );
        text
    }

    /// How many cases it carries.
    fn cases(&self) -> Option<usize> {
        let suites = cases::carried(self.inspection.cases.as_deref()?).ok()?;
        Some(suites.iter().map(|(_, suite)| suite.cases.len()).sum())
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let schema: Option<Value> = self
            .inspection
            .schema
            .as_deref()
            .and_then(|schema| serde_json::from_str(schema).ok());
        json!({
            "kind": if self.waits.is_some() { "plugin" } else { "function" },
            "contract": self.waits.map(|_| format!("{PACKAGE}@{VERSION}")),
            "steps": self.steps(),
            "grants": self.inspection.grants_needed().collect::<Vec<_>>(),
            "exports": self.inspection.exports,
            "imports": self.inspection.imports,
            "sha256": self.hash,
            "bytes": self.bytes,
            "code_bytes": self.code_bytes,
            "waits": self.waits,
            "cases": self.cases(),
            "configuration_schema": schema,
        })
    }
}

fn write_line(text: &mut String, name: &str, value: &str) {
    text.push_str(&format!("  {name:<14} {value}\n"));
}

/// The folder beside a component that `test` keeps machine code in.
fn beside(component: &Path) -> Option<PathBuf> {
    let folder = component.parent()?.join(ARTIFACTS);
    folder.is_dir().then_some(folder)
}

/// In a plugin's build folder: what was compiled of the newest build.
pub const ARTIFACTS: &str = "cache";
