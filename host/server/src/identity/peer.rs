//! What a node's certificate says of it.

use std::fmt;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tidegate_model::config;
use x509_parser::extensions::GeneralName;

/// What the holder of a certificate may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Edge,
    /// Also a node that is both.
    Origin,
}

/// A node, as its certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    pub name: String,
    pub role: Role,
    pub region: String,
}

/// Why a certificate is no node's.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("the certificate names no node")]
    NoNode,
    #[error("\"{0}\" is no node's name, role and region")]
    Node(String),
}

impl Role {
    /// `edge` or `origin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Origin => "origin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edge => "an edge",
            Self::Origin => "an origin",
        })
    }
}

impl From<config::Role> for Role {
    fn from(role: config::Role) -> Self {
        match role {
            config::Role::Edge => Self::Edge,
            config::Role::Origin | config::Role::All => Self::Origin,
        }
    }
}

impl Peer {
    /// Whether name and region can stand in a certificate.
    pub(super) fn is_nameable(&self) -> bool {
        config::is_node_name(&self.name) && config::is_node_name(&self.region)
    }

    /// `tidegate://node/NAME?role=ROLE&region=REGION`. Neither name nor region has anything to be escaped.
    pub(super) fn uri(&self) -> String {
        let Self { name, role, region } = self;
        format!("{SCHEME}{name}?role={}&region={region}", role.as_str())
    }

    fn of_uri(uri: &str) -> Option<Self> {
        let (name, rest) = uri.strip_prefix(SCHEME)?.split_once("?role=")?;
        let (role, region) = rest.split_once("&region=")?;
        let role = [Role::Edge, Role::Origin]
            .into_iter()
            .find(|known| known.as_str() == role)?;
        let peer = Self {
            name: name.to_owned(),
            role,
            region: region.to_owned(),
        };
        peer.is_nameable().then_some(peer)
    }

    /// Reads a certificate, which was verified before.
    pub(super) fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, PeerError> {
        let (rest, certificate) =
            x509_parser::parse_x509_certificate(certificate).map_err(|_| PeerError::Unreadable)?;
        if !rest.is_empty() {
            return Err(PeerError::Unreadable);
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| PeerError::Unreadable)?
            .ok_or(PeerError::NoNode)?;
        let mut uris = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => Self::of_uri(uri).ok_or_else(|| PeerError::Node(uri.to_owned())),
            _ => Err(PeerError::NoNode),
        }
    }
}

const SCHEME: &str = "tidegate://node/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_certificate_is_read_to_the_letter_or_not_at_all() {
        let peer = Peer {
            name: "edge-1.paris".to_owned(),
            role: Role::Edge,
            region: "eu-west".to_owned(),
        };
        assert_eq!(
            peer.uri(),
            "tidegate://node/edge-1.paris?role=edge&region=eu-west"
        );
        assert_eq!(Peer::of_uri(&peer.uri()), Some(peer));
        let none_of_ours = [
            "",
            "https://node/a?role=edge&region=x",
            "tidegate://node/?role=edge&region=x",
            "tidegate://node/a?role=Edge&region=x",
            "tidegate://node/a?role=all&region=x",
            "tidegate://node/a?role=edge&region=",
            "tidegate://node/a?region=x&role=edge",
            "tidegate://node/a?role=edge&region=x&region=y",
            "tidegate://node/a?role=edge&region=x#f",
            "tidegate://node/a/b?role=edge&region=x",
            "tidegate://node/a%20?role=edge&region=x",
            "tidegate://node/a?role=edge&region=x ",
        ];
        for uri in none_of_ours {
            assert_eq!(Peer::of_uri(uri), None, "{uri}");
        }
    }
}
