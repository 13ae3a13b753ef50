//! The commands of README.md, so that none of them grows stale.

use std::collections::BTreeSet;
use std::path::Path;

/// The lines of the shell blocks of a Markdown text, continued lines joined, prompts and comments left out.
pub fn commands(markdown: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let (mut inside, mut continued) = (false, false);
    for line in markdown.lines() {
        let line = line.trim();
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside && matches!(language.trim(), "sh" | "shell" | "bash" | "console");
            continued = false;
            continue;
        }
        let line = line.strip_prefix("$ ").unwrap_or(line);
        if !inside || line.is_empty() || line.starts_with('#') {
            continue;
        }
        let text = line.strip_suffix('\\').unwrap_or(line).trim_end();
        match commands.last_mut().filter(|_| continued) {
            Some(command) => *command = format!("{command} {text}"),
            None => commands.push(text.to_owned()),
        }
        continued = line.ends_with('\\');
    }
    commands
}

/// The blocks of a Markdown text in this language, each with its first line's number.
pub fn blocks(markdown: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut open = None;
    for (at, line) in markdown.lines().enumerate() {
        match (line.trim().strip_prefix("```"), open) {
            (Some(found), None) => {
                open = Some(found.trim() == language);
                if open == Some(true) {
                    blocks.push((at + 2, String::new()));
                }
            }
            (Some(_), Some(_)) => open = None,
            (None, Some(true)) => {
                if let Some((_, text)) = blocks.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            (None, _) => {}
        }
    }
    blocks
}

/// A node's configuration and a definition that hold the README's snippets in the places that it says: `tidegate check`
/// reads them, key by key. `component` is what the snippet's plugin is.
pub fn with_snippets(markdown: &str, component: &Path) -> (String, String) {
    let all = |language| {
        blocks(markdown, language)
            .into_iter()
            .map(|(_, text)| text)
            .collect::<String>()
    };
    let mut configuration = String::from(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[api]]\nid = \"readme\"\ndefinition = \"readme.openapi.yaml\"\n[api.stage.test]\n",
    );
    for line in all("toml").lines() {
        match line.trim_start().starts_with("component = ") {
            true => configuration.push_str(&format!("component = {:?}\n", component)),
            false => configuration.push_str(&format!("{line}\n")),
        }
    }
    let definition = format!(
        "openapi: 3.0.3\ninfo: {{ title: readme, version: \"1\" }}\n{}paths:\n  /a:\n    get:\n      responses: {{}}\n      x-amazon-apigateway-integration: {{ type: mock }}\n",
        all("yaml")
    );
    (configuration, definition)
}

/// What a line of the README is proved by.
#[derive(Debug, PartialEq, Eq)]
pub enum Proof {
    /// `cargo verify` runs it by another step (the demo, the build, this very command).
    Elsewhere,
    /// To be run as it stands, with `tidegate` as the binary just built.
    Run(Vec<String>),
    /// Nothing shows that it works.
    None(String),
}

/// The lines about regions, which a test of tests/it/sync.rs types.
pub fn typed_by_tests(markdown: &str) -> BTreeSet<String> {
    let section = markdown.split_once("**Deploy regions.**");
    let section = section.map_or("", |(_, rest)| rest);
    let end = section.find("\nHow it is made:").unwrap_or(section.len());
    commands(&section[..end]).into_iter().collect()
}

/// Decides how `command` is proved. `aliases`: the cargo aliases of the project; `tried`: the lines that the demo prints and
/// checks; `typed`: those that a test types.
pub fn proof(
    command: &str,
    aliases: &BTreeSet<String>,
    tried: &BTreeSet<String>,
    typed: &BTreeSet<String>,
) -> Proof {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["git", "clone", ..]
        | ["cd", ..]
        | ["rustup", ..]
        | ["sudo", "apt-get", ..]
        | ["apt-get", ..] => Proof::Elsewhere,
        // The node by way of cargo is the node that was just built.
        ["cargo", "run", "-p", "tidegate", "--", ..] => {
            let node = words.iter().skip(5).copied();
            let command = std::iter::once("tidegate").chain(node).collect::<Vec<_>>();
            proof(&command.join(" "), aliases, tried, typed)
        }
        ["cargo", "build" | "test" | "install", ..] => Proof::Elsewhere,
        ["cargo", alias, ..] if aliases.contains(*alias) => Proof::Elsewhere,
        ["cargo", alias, ..] => Proof::None(format!("there is no cargo alias {alias}")),
        ["curl", ..] if tried.contains(command) => Proof::Elsewhere,
        _ if typed.contains(command) => Proof::Elsewhere,
        ["curl", ..] => Proof::None("`cargo demo` prints no such line".into()),
        ["tidegate", "check", ..] | ["tidegate", .., "--help"] => {
            Proof::Run(words.iter().map(|word| (*word).to_owned()).collect())
        }
        ["tidegate", "serve", file, ..] => {
            Proof::Run(["tidegate", "check", file].map(String::from).into())
        }
        _ => Proof::None("no step of `cargo verify` runs it".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shell_blocks_count_and_continued_lines_are_one_command() {
        let text = "a\n```sh\n# comment\ncargo demo\ncurl -i \\\n  http://x\n```\n```toml\n[node]\n```\n```console\n$ cargo verify\n```\n";
        assert_eq!(
            commands(text),
            ["cargo demo", "curl -i http://x", "cargo verify"]
        );
    }

    #[test]
    fn blocks_of_a_language_are_found_with_their_place() {
        let text = "a\n```toml\n[node]\n```\n```\n[none]\n```\n```toml\nb = 1\nc = 2\n```\n";
        let found = [(3, "[node]\n"), (9, "b = 1\nc = 2\n")];
        assert_eq!(
            blocks(text, "toml"),
            found.map(|(line, text)| (line, text.to_owned()))
        );
        assert!(blocks(text, "yaml").is_empty());
    }

    #[test]
    fn a_line_that_nothing_runs_is_named() {
        let aliases = BTreeSet::from(["demo".to_owned()]);
        let tried = BTreeSet::from(["curl -i http://x".to_owned()]);
        let typed = typed_by_tests(
            "```sh\nmake\n```\n**Deploy regions.** A\n```sh\ntidegate node list\n```\nHow it is made:\n```sh\nmake\n```\n",
        );
        let cases = [
            ("tidegate node list", true),
            ("tidegate node dance", false),
            ("cargo demo --release", true),
            ("cargo dmeo", false),
            ("curl -i http://x", true),
            ("curl -i http://y", false),
            ("make", false),
            ("cargo run -p tidegate -- dance", false),
            ("cargo run -p other", false),
        ];
        for (command, proved) in cases {
            assert_eq!(
                !matches!(proof(command, &aliases, &tried, &typed), Proof::None(_)),
                proved,
                "{command}"
            );
        }
        let checked = proof(
            "cargo run -p tidegate -- check configs/minimal.toml",
            &aliases,
            &tried,
            &typed,
        );
        assert_eq!(
            checked,
            Proof::Run(
                ["tidegate", "check", "configs/minimal.toml"]
                    .map(String::from)
                    .into()
            )
        );
        let served = proof(
            "tidegate serve configs/minimal.toml",
            &aliases,
            &tried,
            &typed,
        );
        assert_eq!(
            served,
            Proof::Run(
                ["tidegate", "check", "configs/minimal.toml"]
                    .map(String::from)
                    .into()
            )
        );
    }
}
