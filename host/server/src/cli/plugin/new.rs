//! `tidegate plugin new`: a plugin that builds, passes its cases, and is there to be changed.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use tidegate_sandbox::Step;

use super::build::lay_out_library;
use super::embedded;
use super::language::Language;
use super::manifest::{self, Manifest};

/// What there are templates for: all steps of the pipeline, and functions.
pub fn steps() -> impl Iterator<Item = &'static str> {
    Step::ALL.into_iter().map(Step::name).chain(["function"])
}

/// Writes the folder `name`.
pub fn run(language: Language, step: &str, name: &str) -> Result<ExitCode> {
    manifest::check_name(name)?;
    let folder = Path::new(name);
    ensure!(
        !folder.exists(),
        "{name} is there already; a new plugin wants a new folder"
    );
    let template = format!("sdk/{}/template", language.sdk());
    let extension = language.extension();
    let source = embedded::text(&format!("{template}/{step}.{extension}"));
    let source = source.expect("every language has every step");
    let write = |path: &str, text: &str| {
        embedded::write_changed(&folder.join(path), filled(text, name, step).as_bytes())
    };
    write(&language.source(), source)?;
    for (path, content) in embedded::below(&template) {
        // The others are the language's own files; those of steps have the step's name.
        let step_file = Path::new(path)
            .file_stem()
            .is_some_and(|stem| steps().any(|step| stem == step));
        let other_language = path == "tsconfig.json" && language != Language::Typescript;
        if !step_file && !other_language {
            write(path, &String::from_utf8_lossy(content))?;
        }
    }
    write(
        ".gitignore",
        "/build\n/target\n/node_modules\n/.venv\n__pycache__\n",
    )?;
    let schema = embedded::text(&format!("sdk/template/{step}.schema.json"));
    if let Some(schema) = schema {
        write("configuration.schema.json", schema)?;
    }
    if let Some(cases) = embedded::text(&format!("sdk/template/{step}.cases.toml")) {
        write("cases/first.toml", cases)?;
    }
    write(
        manifest::FILE,
        &manifest_text(language, step, name, schema.is_some()),
    )?;
    let manifest = Manifest::read(folder)?;
    lay_out_library(&manifest)?; // so that an editor finds it before the first build
    println!(
        "{name}/ has the {step} template in {}: edit {name}/{}, then `tidegate plugin test {name}`",
        language.name(),
        language.source()
    );
    Ok(ExitCode::SUCCESS)
}

fn manifest_text(language: Language, step: &str, name: &str, schema: bool) -> String {
    let capabilities: &[&str] = match step {
        _ if !language.takes_its_whole_world() => &[],
        "authorizer" => &["crypto"],
        "validator" | "request-transform" => &["request-body"],
        "log-sink" => &["log-output"],
        "throttle" => &["rate-limit", "quota"],
        _ => &[],
    };
    let mut text = format!(
        "name = \"{name}\"\nversion = \"0.1.0\"\nlanguage = \"{}\"\nsteps = [\"{step}\"]\n",
        language.name()
    );
    if language.takes_its_whole_world() && step != "function" {
        text.push_str(&format!(
            "# What it may ask the host for: request-body, crypto, shared-cache … A binding needs a grant for each but bodies.\n\
             capabilities = {capabilities:?}\n"
        ));
    }
    if schema {
        text.push_str("configuration = \"configuration.schema.json\"\n");
    }
    text
}

fn filled(text: &str, name: &str, step: &str) -> String {
    let dependency = match step {
        "function" => "wasip2 = \"1\"",
        _ => "tidegate-plugin = { path = \"build/contract/sdk/rust\" }",
    };
    text.replace("{{name}}", name)
        .replace("{{dependency}}", dependency)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_language_has_every_step() {
        for step in steps() {
            for language in Language::value_variants() {
                let folder = format!("sdk/{}/template", language.sdk());
                let source = format!("{folder}/{step}.{}", language.extension());
                assert!(embedded::text(&source).is_some(), "{source}");
            }
            let cases = format!("sdk/template/{step}.cases.toml");
            assert!(embedded::text(&cases).is_some(), "{cases}");
        }
    }
}
