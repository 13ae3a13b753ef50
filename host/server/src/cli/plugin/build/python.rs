//! Python: componentize-py puts the author's module, the library and CPython into a component. It is a package of pip's,
//! installed into a virtual environment in the plugin's folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::super::manifest::{Kind, Manifest};
use super::super::{embedded, encode, tool};

pub fn build(manifest: &Manifest) -> Result<Vec<u8>> {
    let tool = installed(manifest)?;
    let work = manifest.build_folder();
    let library = work.join("library");
    embedded::write_changed(&library.join("app.py"), app_module(manifest).as_bytes())?;
    let wit = work.join("wit");
    encode::lay_out_wit(manifest, &wit)?;
    let component = work.join("engine.wasm");
    let mut componentize = Command::new(tool);
    componentize
        .arg("-d")
        .arg(&wit)
        .args(["-w", "plugin", "componentize"])
        // CPython asks for all of WASI, which plugins need nothing of.
        .args((manifest.kind != Kind::Function).then_some("--stub-wasi"))
        .arg("-p")
        .arg(&library)
        .arg("-p")
        .arg(
            manifest
                .folder
                .join(&manifest.source)
                .parent()
                .unwrap_or(&manifest.folder),
        )
        .args(["app", "-o"])
        .arg(&component)
        .current_dir(&work);
    tool::run_quietly(&mut componentize)?;
    std::fs::read(&component).with_context(|| component.display().to_string())
}

/// componentize-py: the one on the path where it has the version that requirements.txt names, such as that of a virtual
/// environment in use, or the one of an environment of the plugin's own, made where it is not there yet.
fn installed(manifest: &Manifest) -> Result<PathBuf> {
    let requirements = manifest.folder.join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| requirements.display().to_string())?;
    let version = wanted
        .lines()
        .find_map(|line| line.trim().strip_prefix("componentize-py=="));
    if let Some(version) = version
        && let Some(there) = tool::look_up("componentize-py")
        && tool::version(&there).is_some_and(|found| found.ends_with(version))
    {
        return Ok(there);
    }
    let environment = manifest.folder.join(".venv");
    let made = environment.join("bin/componentize-py");
    let stamp = environment.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|known| known == wanted) {
        return Ok(made);
    }
    let python = tool::find("python3", GET)?;
    eprintln!("installing what requirements.txt names into .venv (once)");
    tool::run(Command::new(python).args(["-m", "venv"]).arg(&environment))?;
    tool::run(
        Command::new(environment.join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&requirements),
    )?;
    std::fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    Ok(made)
}

/// The module that componentize-py looks at: a class for each export.
fn app_module(manifest: &Manifest) -> String {
    let module = manifest
        .source
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    if manifest.kind == Kind::Function {
        return format!(
            "import {module} as author\n\nfrom tidegate import function\n\n\
             IncomingHandler = function.handler(author)\n"
        );
    }
    let mut text = format!(
        "import {module} as author\n\nfrom tidegate import export\n\nPlugin = export.plugin(author)\n"
    );
    for step in manifest.steps() {
        let class: String = step.name().split('-').map(capital).collect();
        let function = step.name().replace('-', "_");
        text.push_str(&format!("{class} = export.{function}()\n"));
    }
    text
}

fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

const GET: &str = "Python 3.10 or newer with venv (apt-get install python3-venv)";
