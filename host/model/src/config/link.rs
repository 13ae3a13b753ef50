//! `[link]` and `[[origin]]`: where this node takes other nodes, and which origins it belongs to.

use std::net::SocketAddr;

use serde::Deserialize;
use toml::Spanned;

use super::listener::address_of;
use super::source::Source;

/// What a node does of a request's way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Edge and origin in one process.
    #[default]
    All,
    /// Owns APIs, runs integrations and keeps state.
    Origin,
    /// Near clients: TLS, routing, gatekeeping and cache; what is left is asked of an origin.
    Edge,
}

/// Where an origin takes other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// UDP and TCP. Port 0 takes a free one.
    pub address: SocketAddr,
    /// `host:port` under which other nodes reach it, for join tokens.
    pub names: Vec<String>,
}

/// An origin that this node links to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `host:port`; an IPv6 address in brackets.
    pub address: String,
}

impl Role {
    /// `all`, `origin` or `edge`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Origin => "origin",
            Self::Edge => "edge",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct LinkFile {
    /// `address:port`, for UDP and TCP. Required: which interface faces the network is nothing to guess.
    address: Option<Spanned<String>>,
    /// `host:port`, each a way to `address` from other machines. Default none: `tidegate node token --origin` names them.
    names: Option<Vec<Spanned<String>>>,
}

impl LinkFile {
    pub(super) fn compile(file: Spanned<Self>, source: &mut Source) -> Option<Link> {
        let span = file.span();
        let file = file.into_inner();
        let Some(address) = file.address else {
            source.missing(&span, "link", "address");
            return None;
        };
        let names = file.names.unwrap_or_default();
        Some(Link {
            address: address_of(&address, source)?,
            names: names
                .into_iter()
                .filter_map(|name| host_and_port("link: `names`", name, source))
                .collect(),
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct OriginFile {
    /// `host:port` of an origin's `[link]`. Required.
    address: Option<Spanned<String>>,
}

impl OriginFile {
    pub(super) fn compile(files: Vec<Spanned<Self>>, source: &mut Source) -> Vec<Origin> {
        let mut origins: Vec<Origin> = Vec::new();
        for file in files {
            let span = file.span();
            let Some(address) = file.into_inner().address else {
                source.missing(&span, "origin", "address");
                continue;
            };
            let Some(address) = host_and_port("origin: `address`", address, source) else {
                continue;
            };
            if origins.iter().any(|other| other.address == address) {
                source.problem(&span, format!("origin \"{address}\" is there twice"));
            }
            origins.push(Origin { address });
        }
        origins
    }
}

/// Whether `text` is `host:port`, as names of origins are: a name or an address, and a port that is not 0.
pub fn is_host_and_port(text: &str) -> bool {
    let Ok(authority) = text.parse::<http::uri::Authority>() else {
        return false;
    };
    let port = authority.port_u16().is_some_and(|port| port > 0);
    port && !authority.host().is_empty() && !text.contains('@')
}

fn host_and_port(what: &str, text: Spanned<String>, source: &mut Source) -> Option<String> {
    if is_host_and_port(text.get_ref()) {
        return Some(text.into_inner());
    }
    let message = format!("{what}: \"{}\" is not a host and a port", text.get_ref());
    let hint = Some("write \"origin.example:7443\" or \"[2001:db8::1]:7443\"".to_owned());
    source.problem_with_hint(&text.span(), message, hint);
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Node, Role, parse};

    fn with(rest: &str) -> Result<Node, String> {
        let text = format!("[[listener]]\naddress = '127.0.0.1:0'\n{rest}");
        parse(Path::new("n.toml"), &text).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_node_is_alone_unless_it_says_otherwise() {
        let node = with("").unwrap();
        assert_eq!(
            (node.role, node.link, node.origins),
            (Role::All, None, vec![])
        );
    }

    #[test]
    fn an_origin_says_where_it_takes_edges_and_an_edge_where_its_origins_are() {
        let origin = with(
            "[node]\nrole = 'origin'\n[link]\naddress = '[::]:7443'\nnames = ['a.example:7443', '[2001:db8::1]:7443']",
        )
        .unwrap();
        let link = origin.link.unwrap();
        assert_eq!(origin.role, Role::Origin);
        assert_eq!(link.address.to_string(), "[::]:7443");
        assert_eq!(link.names, ["a.example:7443", "[2001:db8::1]:7443"]);

        let edge = with(
            "[node]\nrole = 'edge'\n[[origin]]\naddress = 'a.example:7443'\n[[origin]]\naddress = '192.0.2.1:7443'",
        )
        .unwrap();
        let addresses = edge.origins.iter().map(|origin| origin.address.as_str());
        assert_eq!(edge.role, Role::Edge);
        assert_eq!(
            addresses.collect::<Vec<_>>(),
            ["a.example:7443", "192.0.2.1:7443"]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        let edge = "[node]\nrole = 'edge'\n[[origin]]\naddress = 'a:1'\n";
        let cases = [
            (
                "[node]\nrole = 'egde'",
                "n.toml:4: unknown value `egde`; did you mean \"edge\"?",
            ),
            (
                "[node]\nrole = 'edge'",
                "n.toml:4: node: an edge needs an origin; write `[[origin]]`",
            ),
            ("[link]\nnames = []", "n.toml:3: link: `address` is missing"),
            (
                "[link]\naddress = '7443'",
                "n.toml:4: \"7443\" is not an address and port",
            ),
            (
                "[link]\naddress = '[::]:1'\nnames = ['a']",
                "n.toml:5: link: `names`: \"a\" is not a host and a port",
            ),
            ("[[origin]]", "n.toml:3: origin: `address` is missing"),
            (
                "[[origin]]\naddress = 'a'",
                "n.toml:4: origin: `address`: \"a\" is not a host and a port",
            ),
            ("[[origin]]\naddress = 'a:0'", "\"a:0\" is not"),
            ("[[origin]]\naddress = 'a:65536'", "\"a:65536\" is not"),
            ("[[origin]]\naddress = 'u@a:1'", "\"u@a:1\" is not"),
            ("[[origin]]\naddress = ':1'", "\":1\" is not"),
            (
                "[[origin]]\naddress = 'https://a:1'",
                "\"https://a:1\" is not",
            ),
            (
                "[[origin]]\naddress = 'a:1'\n[[origin]]\naddress = 'a:1'",
                "n.toml:5: origin \"a:1\" is there twice",
            ),
            (
                &format!("{edge}[link]\naddress = '[::]:1'"),
                "n.toml:7: link: an edge takes no nodes",
            ),
            (
                &format!("{edge}[[api]]\nid = 'a'"),
                "n.toml:7: api: an edge has none of its own; it comes from",
            ),
            (
                &format!("{edge}[function.f]\ncomponent = 'a'"),
                "n.toml:7: function: an edge has none of its own; it comes from",
            ),
            (
                &format!("{edge}[plugin.p]\ncomponent = 'a'"),
                "n.toml:7: plugin: an edge has none of its own; it comes from",
            ),
            (
                &format!("{edge}[[key]]\nname = 'a'"),
                "n.toml:7: key: an edge has none of its own; it comes from",
            ),
            ("[node]\nname = 'a b'", "n.toml:4: node: `name`"),
            ("[node]\nname = ''", "n.toml:4: node: `name`"),
        ];
        for (text, expected) in cases {
            let problems = with(text).unwrap_err();
            assert!(problems.contains(expected), "{text}: {problems}");
        }
    }
}
