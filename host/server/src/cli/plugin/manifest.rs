//! `plugin.toml`: what a plugin is, in a few lines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tidegate_sandbox::Step;
use tidegate_sandbox::component::{PACKAGE, VERSION};

use super::language::Language;

/// A plugin's folder and what its `plugin.toml` says.
#[derive(Debug)]
pub struct Manifest {
    pub folder: PathBuf,
    pub name: String,
    pub version: String,
    pub language: Language,
    pub kind: Kind,
    /// Interfaces of the host that it imports beside `request`, `response` and `log`; of use to interpreters only, since
    /// the others import what they call.
    pub capabilities: Vec<String>,
    /// The JSON Schema of its configuration, checked, as one line.
    pub schema: Option<String>,
    /// The author's file.
    pub source: PathBuf,
    /// What makes the core module, program and arguments, in any other language; empty in those that are known.
    pub command: Vec<String>,
}

/// What the component is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// It implements steps of the pipeline.
    Steps(Vec<Step>),
    /// It is a `wasi:http` function.
    Function,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    name: String,
    version: String,
    language: Language,
    steps: Vec<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    configuration: Option<PathBuf>,
    source: Option<PathBuf>,
    #[serde(default)]
    command: Vec<String>,
}

impl Manifest {
    /// Reads the file and all that it names.
    ///
    /// # Errors
    ///
    /// What an author has to mend.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{} cannot be read; is this a plugin's folder? `tidegate plugin new` makes one",
                path.display()
            )
        })?;
        let folder = std::fs::canonicalize(folder)?;
        Self::parse(&text, folder).with_context(|| path.display().to_string())
    }

    fn parse(text: &str, folder: PathBuf) -> Result<Self> {
        let file: ManifestFile = toml::from_str(text)?;
        check_name(&file.name)?;
        let schema = match &file.configuration {
            Some(path) => Some(read_schema(&folder.join(path))?),
            None => None,
        };
        for capability in &file.capabilities {
            ensure!(
                CAPABILITIES.contains(&capability.as_str()),
                "there is no capability \"{capability}\"; there are {}",
                CAPABILITIES.join(", ")
            );
        }
        let kind = Kind::parse(&file.steps)?;
        ensure!(
            file.command.is_empty() != (file.language == Language::Other),
            "`command` is for the language \"other\", which needs it: the program and its arguments that write {CORE}"
        );
        Ok(Self {
            kind,
            source: file.source.unwrap_or_else(|| file.language.source().into()),
            name: file.name,
            version: file.version,
            language: file.language,
            command: file.command,
            capabilities: file.capabilities,
            schema,
            folder,
        })
    }

    /// Where everything goes that is made.
    pub fn build_folder(&self) -> PathBuf {
        self.folder.join("build")
    }

    /// The core module of the languages that make one.
    pub fn core(&self) -> PathBuf {
        self.folder.join(CORE)
    }

    /// The component.
    pub fn component(&self) -> PathBuf {
        self.build_folder().join(format!("{}.wasm", self.name))
    }

    /// Its files of cases, in order; none where it has no folder of them.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be read.
    pub fn case_files(&self) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("cases");
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("{} cannot be read", folder.display()))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
            .collect();
        files.sort();
        Ok(files)
    }

    /// The steps; none of a function.
    pub fn steps(&self) -> &[Step] {
        match &self.kind {
            Kind::Steps(steps) => steps,
            Kind::Function => &[],
        }
    }

    /// Whether this is a capability that it does not name; functions have none.
    pub fn lacks(&self, capability: &str) -> bool {
        self.kind != Kind::Function
            && CAPABILITIES.contains(&capability)
            && !self.capabilities.iter().any(|it| it == capability)
    }

    /// The WIT of the world `plugin`, in a package of its own.
    pub fn world(&self) -> String {
        if self.kind == Kind::Function {
            // The others print by the C library, or their engine does.
            let more: &[&str] = match self.language {
                Language::Javascript | Language::Typescript => &["cli/stderr", "random/random"],
                Language::Zig => &["cli/stderr"],
                _ => &[],
            };
            let import = |interface: &&str| format!("    import wasi:{interface}@{WASI};\n");
            let more: String = more.iter().map(import).collect();
            return format!(
                "package author:plugin;\n\nworld plugin {{\n    import wasi:http/types@{WASI};\n{more}    \
                 export wasi:http/incoming-handler@{WASI};\n}}\n"
            );
        }
        let mut world = String::from("package author:plugin;\n\nworld plugin {\n");
        let mut line = |what: &str, interface: &str| {
            world.push_str(&format!("    {what} {PACKAGE}/{interface}@{VERSION};\n"));
        };
        let steps = self.steps();
        line("import", "log");
        line("import", "request");
        if self.language.takes_its_whole_world() {
            if steps.contains(&Step::ResponseTransform) {
                line("import", "response");
            }
            self.capabilities
                .iter()
                .for_each(|capability| line("import", capability));
        } else {
            // A linker drops what is not called.
            line("import", "response");
            CAPABILITIES
                .iter()
                .for_each(|capability| line("import", capability));
        }
        line("export", "plugin");
        for step in steps {
            line("export", step.name());
        }
        world.push_str("}\n");
        world
    }
}

impl Kind {
    /// What the names of steps come to.
    pub fn parse(names: &[String]) -> Result<Self> {
        if names == ["function"] {
            return Ok(Self::Function);
        }
        let mut steps = Vec::new();
        for name in names {
            let Some(step) = Step::ALL.into_iter().find(|step| step.name() == name) else {
                let all: Vec<&str> = Step::ALL.into_iter().map(Step::name).collect();
                bail!(
                    "there is no step \"{name}\"; there are {}, and `function` alone",
                    all.join(", ")
                );
            };
            steps.push(step);
        }
        ensure!(!steps.is_empty(), "`steps` names no step");
        Ok(Self::Steps(steps))
    }
}

/// Refuses what cannot be a file's, a package's and a binding's name alike.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    ensure!(
        name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
            && !name.ends_with('-')
            && name.len() <= 64
            && name.bytes().all(plain),
        "\"{name}\" cannot be a plugin's name: at most 64 lower case letters, digits and dashes, a letter first"
    );
    Ok(())
}

fn read_schema(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the configuration's schema, {}", path.display()))?;
    let schema: serde_json::Value =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    if let Err(error) = jsonschema::validator_for(&schema) {
        bail!("{} is no JSON Schema: {error}", path.display());
    }
    Ok(schema.to_string())
}

pub const FILE: &str = "plugin.toml";

/// The version of WASI that functions are built for: the one whose WIT comes with the binary.
const WASI: &str = "0.2.12";

/// Where a compiler puts the core module, in the plugin's folder.
const CORE: &str = "build/core.wasm";

/// Interfaces that need naming, since interpreters and generated bindings take their whole world.
const CAPABILITIES: &[&str] = &[
    "request-body",
    "response-body",
    "crypto",
    "jwks",
    "rate-limit",
    "quota",
    "api-keys",
    "shared-cache",
    "http-client",
    "secrets",
    "metrics",
    "log-output",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest> {
        Manifest::parse(text, PathBuf::from("/nowhere"))
    }

    #[test]
    fn a_world_has_what_the_manifest_names() {
        let manifest = parse(
            "name = 'a'\nversion = '1.0.0'\nlanguage = 'python'\nsteps = ['authorizer']\ncapabilities = ['crypto']",
        )
        .unwrap();
        assert_eq!(
            manifest.world(),
            "package author:plugin;\n\nworld plugin {\n    import tidegate:gateway/log@0.1.0;\n    \
             import tidegate:gateway/request@0.1.0;\n    import tidegate:gateway/crypto@0.1.0;\n    \
             export tidegate:gateway/plugin@0.1.0;\n    export tidegate:gateway/authorizer@0.1.0;\n}\n"
        );
        assert_eq!(manifest.source, Path::new("plugin.py"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("name = 'A'", "\"A\" cannot be a plugin's name"),
            ("steps = ['authoriser']", "no step \"authoriser\""),
            ("steps = []", "names no step"),
            ("steps = ['function', 'throttle']", "no step \"function\""),
            ("capabilities = ['crypt']", "no capability \"crypt\""),
            ("language = 'cobol'", "unknown variant `cobol`"),
            ("stepz = []", "unknown field `stepz`"),
            (
                "command = ['make']",
                "`command` is for the language \"other\"",
            ),
            ("language = 'other'", "which needs it"),
        ];
        for (line, expected) in cases {
            let key = line.split(' ').next().unwrap();
            let defaults = [
                "name = 'a'",
                "version = '1.0.0'",
                "language = 'c'",
                "steps = ['throttle']",
            ];
            let others = defaults.iter().filter(|default| !default.starts_with(key));
            let text = others.copied().chain([line]).collect::<Vec<_>>().join("\n");
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
