//! JavaScript and TypeScript: esbuild puts the author's modules and the library into one, componentize-qjs that and QuickJS
//! into a component. Both are packages of npm's, installed into the plugin's folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

use super::super::manifest::{Kind, Manifest};
use super::super::{component, embedded, encode, tool};

pub fn build(manifest: &Manifest) -> Result<Vec<u8>> {
    tool::find("node", GET)?;
    let settings = match manifest.kind {
        Kind::Steps(_) => &STEPS,
        Kind::Function => &FUNCTION,
    };
    let work = manifest.build_folder();
    let library = work.join("library");
    let entry = work.join("entry.js");
    embedded::write_changed(&entry, entry_module(manifest).as_bytes())?;

    let bundle = work.join("bundle.js");
    let metafile = work.join("bundle.json");
    let mut esbuild = Command::new(installed(manifest, "esbuild")?);
    esbuild
        .arg(&entry)
        .args([
            "--bundle",
            "--format=esm",
            "--target=es2023",
            "--log-level=warning",
            "--sourcemap=external",
            "--sources-content=false",
        ])
        .args(["--external:tidegate:*", "--external:host:*"])
        .args(settings.esbuild)
        .arg(format!("--alias:tidegate={}", library.display()))
        .arg(format!("--outfile={}", bundle.display()))
        .arg(format!("--metafile={}", metafile.display()))
        .current_dir(&manifest.folder);
    tool::run(&mut esbuild)?;
    check_capabilities(manifest, &metafile)?;
    append_lines(&bundle)?;

    let wit = work.join("wit");
    encode::lay_out_wit(manifest, &wit)?;
    if manifest.kind == Kind::Function {
        rename_packages(&wit)?;
    }
    let made = work.join("engine.wasm");
    let mut componentize = Command::new(installed(manifest, "componentize-qjs")?);
    componentize
        .arg("--wit")
        .arg(&wit)
        .arg("--js")
        .arg(&bundle)
        // Without it a component needs the component model's own concurrency, which steps run without.
        .args(["-n", "plugin", "--sync"])
        .args(settings.componentize)
        .arg("-o")
        .arg(&made);
    tool::run_quietly(&mut componentize)?;
    let mut bytes = std::fs::read(&made).with_context(|| made.display().to_string())?;
    if manifest.kind == Kind::Function {
        component::rename(&mut bytes, STAND_IN, WASI);
    }
    Ok(bytes)
}

/// Refuses a capability that is used and not named: the engine would look for a file.
fn check_capabilities(manifest: &Manifest, metafile: &Path) -> Result<()> {
    let text = std::fs::read_to_string(metafile)?;
    let metafile: Metafile =
        serde_json::from_str(&text).with_context(|| metafile.display().to_string())?;
    let imports = metafile.outputs.values().flat_map(|output| &output.imports);
    for import in imports {
        let interface = import.path.strip_prefix("tidegate:gateway/");
        let name = interface.and_then(|it| Some(it.split_once('@')?.0));
        if let Some(name) = name.filter(|name| manifest.lacks(name)) {
            bail!("plugin.toml: add \"{name}\" to `capabilities`");
        }
    }
    Ok(())
}

/// What esbuild tells of a bundle, as far as it is looked at.
#[derive(Deserialize)]
struct Metafile {
    outputs: BTreeMap<String, Output>,
}

#[derive(Deserialize)]
struct Output {
    imports: Vec<Import>,
}

#[derive(Deserialize)]
struct Import {
    path: String,
}

/// Tells the library which line of the author's files each line of the bundle is, for what it says of exceptions.
fn append_lines(bundle: &Path) -> Result<()> {
    let map = bundle.with_extension("js.map");
    let text = std::fs::read_to_string(&map).with_context(|| map.display().to_string())?;
    let map: SourceMap = serde_json::from_str(&text).with_context(|| map.display().to_string())?;
    let mut code = std::fs::read_to_string(bundle)?;
    let table = json!({ "files": map.files(), "lines": line_starts(&map.mappings) });
    code.push_str(&format!("globalThis.tidegateLines = {table};\n"));
    std::fs::write(bundle, code).with_context(|| bundle.display().to_string())
}

/// What of a source map is looked at (ECMA-426).
#[derive(Deserialize)]
struct SourceMap {
    sources: Vec<String>,
    mappings: String,
}

impl SourceMap {
    /// As the author knows them: the bundle is in build/.
    fn files(&self) -> Vec<String> {
        let sources = self.sources.iter();
        sources
            .map(|path| match path.strip_prefix("../") {
                Some(inside) => inside.to_owned(),
                None => format!("build/{path}"),
            })
            .collect()
    }
}

/// For each line of the bundle, the source and the line, from 1 on, that it begins with; none where it is of no source.
fn line_starts(mappings: &str) -> Vec<Option<(i64, i64)>> {
    let (mut source, mut line) = (0, 0);
    let mut starts = Vec::new();
    for of_line in mappings.split(';') {
        let mut start = None;
        for segment in of_line.split(',') {
            // Of a segment's numbers, all relative to the one before: column, source, line, column there.
            if let [_, source_step, line_step, ..] = vlq(segment)[..] {
                source += source_step;
                line += line_step;
                start.get_or_insert((source, line + 1));
            }
        }
        starts.push(start);
    }
    starts
}

/// The numbers of a segment: base64 digits of five bits each, the lowest first; the lowest bit of a number is its sign.
fn vlq(segment: &str) -> Vec<i64> {
    let mut numbers = Vec::new();
    let (mut number, mut shift) = (0_i64, 0);
    for digit in segment.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        number |= i64::from(value & 0x1f) << shift;
        shift += 5;
        if value & 0x20 == 0 || shift > 50 {
            let sign = if number & 1 == 1 { -1 } else { 1 };
            numbers.push(sign * (number >> 1));
            (number, shift) = (0, 0);
        }
    }
    numbers
}

/// What the two kinds differ in.
struct Settings {
    esbuild: &'static [&'static str],
    componentize: &'static [&'static str],
}

/// QuickJS asks for all of WASI, which plugins need nothing of.
const STEPS: Settings = Settings {
    esbuild: &[],
    componentize: &["--stub-wasi"],
};

/// The engine runs no reactions of promises within a call. With generators in the place of async functions, the library does.
const FUNCTION: Settings = Settings {
    esbuild: &[
        "--supported:async-await=false",
        "--supported:async-generator=false",
        "--supported:for-await=false",
    ],
    componentize: &[],
};

/// componentize-qjs runs the module once, against a WASI of its own that has no `wasi:http`: one of another name is left
/// alone until then. In the component the version sets it apart from the one that QuickJS asks for.
const STAND_IN: (&str, &str) = ("host:", "@0.2.12");
const WASI: (&str, &str) = ("wasi:", "@0.2.11");

fn rename_packages(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            rename_packages(&path)?;
        } else {
            let text = std::fs::read_to_string(&path)?.replace(WASI.0, STAND_IN.0);
            embedded::write_changed(&path, text.as_bytes())?;
        }
    }
    Ok(())
}

/// A tool that package.json names, installed where it is not there yet.
fn installed(manifest: &Manifest, name: &str) -> Result<PathBuf> {
    let look_up = || tool::look_up_in_node_modules(&manifest.folder, name);
    if let Some(program) = look_up().filter(|_| !is_outdated(manifest)) {
        return Ok(program);
    }
    let npm = tool::find("npm", GET)?;
    eprintln!("installing what package.json names into node_modules (once)");
    tool::run(
        Command::new(npm)
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&manifest.folder),
    )?;
    look_up().with_context(|| format!("package.json does not name {name}, which a build needs"))
}

/// Whether package.json was changed since it was installed here; what is in a folder above is somebody else's.
fn is_outdated(manifest: &Manifest) -> bool {
    let changed = |path: &str| {
        let metadata = manifest.folder.join(path).metadata();
        metadata.and_then(|metadata| metadata.modified())
    };
    match (
        changed("node_modules/.package-lock.json"),
        changed("package.json"),
    ) {
        (Ok(installed), Ok(wanted)) => installed < wanted,
        _ => false,
    }
}

/// The component's exports, each a few words over the library.
fn entry_module(manifest: &Manifest) -> String {
    let source = manifest.folder.join(&manifest.source);
    let source = serde_json::Value::from(source.display().to_string());
    if manifest.kind == Kind::Function {
        return format!(
            "import {{ serve }} from \"tidegate/function\";\nimport handler from {source};\n\n\
             export const incomingHandler = serve(handler);\n"
        );
    }
    let mut text = format!(
        "import plugin from {source};\n\
         import {{ exportPlugin, exportStep }} from \"tidegate\";\n\n\
         const configured = exportPlugin(plugin);\n\
         export {{ configured as plugin }};\n"
    );
    for step in manifest.steps() {
        let name = camel(step.name());
        text.push_str(&format!(
            "export const {name} = exportStep(plugin, \"{}\");\n",
            step.name()
        ));
    }
    text
}

/// `request-transform` as `requestTransform`.
fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        text.push_str(&word[..1].to_uppercase());
        text.push_str(&word[1..]);
    }
    text
}

const GET: &str =
    "Node.js with npm, from https://nodejs.org or your distribution (apt-get install nodejs npm)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_map_says_where_each_line_begins() {
        // Relative to the one before: the next source and line, back again, and 32 lines on, which is two digits.
        let starts = line_starts(";AACO,IAAM;ACCN;;ADDA;AAgCA");
        let expected = [
            None,
            Some((0, 2)),
            Some((1, 3)),
            None,
            Some((0, 2)),
            Some((0, 34)),
        ];
        assert_eq!(starts, expected);
    }
}
