//! The languages that a plugin can be written in.

use clap::ValueEnum;
use serde::Deserialize;

/// A language with a template and a way to be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Rust,
    C,
    Cpp,
    Go,
    Javascript,
    Typescript,
    Python,
    Zig,
    /// Any other: plugin.toml has the command that makes the core module.
    #[value(skip)]
    Other,
}

impl Language {
    /// As it is written in plugin.toml.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::Go => "go",
            Self::Javascript => "javascript",
            Self::Typescript => "typescript",
            Self::Python => "python",
            Self::Zig => "zig",
            Self::Other => "other",
        }
    }

    /// Its folder in sdk/.
    pub fn sdk(self) -> &'static str {
        match self {
            Self::Typescript => "javascript",
            other => other.name(),
        }
    }

    /// Whether its components import all that their world does: an interpreter cannot know what a script will call.
    pub fn takes_its_whole_world(self) -> bool {
        matches!(self, Self::Javascript | Self::Typescript | Self::Python)
    }

    /// How its files end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Rust => "rs",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::Go => "go",
            Self::Javascript => "js",
            Self::Typescript => "ts",
            Self::Python => "py",
            Self::Zig => "zig",
            Self::Other => "",
        }
    }

    /// The author's file, where plugin.toml names no other.
    pub fn source(self) -> String {
        match self {
            Self::Rust => "src/lib.rs".to_owned(),
            other => format!("plugin.{}", other.extension()),
        }
    }
}
