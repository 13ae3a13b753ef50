//! `tidegate plugin build`: the author's files, the language's compiler, and what comes with the binary.

mod c;
mod go;
mod javascript;
mod other;
mod python;
mod rust;
mod zig;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tidegate_sandbox::Inspection;
use tidegate_sandbox::component::{CASES_SECTION, SCHEMA_SECTION};

use super::language::Language;
use super::manifest::{Kind, Manifest};
use super::{embedded, encode, lines};
use crate::cases;

/// Builds, and says what came of it.
pub fn run(folder: &Path, json: bool) -> Result<ExitCode> {
    let manifest = Manifest::read(folder)?;
    let began = Instant::now();
    let bytes = build(&manifest)?;
    let component = manifest.component();
    if json {
        println!(
            "{}",
            serde_json::json!({ "component": component, "bytes": bytes })
        );
    } else {
        println!(
            "{}: {} KiB, in {:.1} s",
            component.display(),
            bytes.div_ceil(1024),
            began.elapsed().as_secs_f64()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the component and gives its size.
pub fn build(manifest: &Manifest) -> Result<usize> {
    let work = manifest.build_folder();
    std::fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    let source = manifest.folder.join(&manifest.source);
    if !source.is_file() && manifest.language != Language::Other {
        bail!("there is no {}, the plugin's source", source.display());
    }
    lay_out_library(manifest)?;
    let component = match manifest.language {
        Language::Rust => rust::build(manifest),
        Language::C | Language::Cpp => c::build(manifest),
        Language::Go => go::build(manifest),
        Language::Javascript | Language::Typescript => javascript::build(manifest),
        Language::Python => python::build(manifest),
        Language::Zig => zig::build(manifest),
        Language::Other => other::build(manifest),
    }?;
    let component = lines::reduce(&component, manifest);
    finish(manifest, component, &manifest.component())
}

/// Writes what an author's editor looks for: the guest library beside the contract.
pub fn lay_out_library(manifest: &Manifest) -> Result<()> {
    let library = manifest.build_folder().join("library");
    match manifest.language {
        Language::Rust => rust::lay_out_library(manifest),
        Language::C => embedded::lay_out("sdk/c/library", &library),
        Language::Cpp => {
            embedded::lay_out("sdk/c/library", &library)?;
            embedded::lay_out("sdk/cpp/library", &library)
        }
        Language::Go => go::lay_out(manifest),
        Language::Javascript | Language::Typescript => {
            embedded::lay_out("sdk/javascript/library", &library)
        }
        Language::Python => embedded::lay_out("sdk/python/library", &library),
        Language::Zig => embedded::lay_out("sdk/zig/library", &library),
        Language::Other => Ok(()),
    }
}

/// Writes the schema and the cases into the component, sees that a node could load it, and puts it into place at once.
pub fn finish(manifest: &Manifest, mut component: Vec<u8>, output: &Path) -> Result<usize> {
    if let Some(schema) = &manifest.schema {
        component = encode::with_section(component, SCHEMA_SECTION, schema);
    }
    let cases = manifest.case_files()?;
    if !cases.is_empty() {
        component = encode::with_section(component, CASES_SECTION, &cases::section(&cases)?);
    }
    let inspection = Inspection::of(&component)?;
    match manifest.kind {
        Kind::Steps(_) => inspection.check_plugin()?,
        Kind::Function => drop(inspection.handles()?),
    }
    for step in manifest.steps() {
        if !inspection.implements(*step) {
            bail!("plugin.toml names the step {step}, and the component does not export it");
        }
    }
    // A rename: a node that watches the file never sees half of it.
    let draft = output.with_extension("wasm.draft");
    std::fs::write(&draft, &component).with_context(|| draft.display().to_string())?;
    std::fs::rename(&draft, output).with_context(|| output.display().to_string())?;
    Ok(component.len())
}

/// `authorizer` as `AUTHORIZER`, `request-transform` as `REQUEST_TRANSFORM`: a name for a macro.
fn constant(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}
