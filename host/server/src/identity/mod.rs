//! Who a node is to others: keys, certificates, and how a new node gets its first one.
//!
//! One origin holds the [`Authority`] that signs certificates. A node's [`Identity`] is its key, its certificate and the
//! authority's; what a certificate says is a [`Peer`]. A new node gets it with a one-time [`JoinToken`] ([`join`]), and asks
//! for the next one over the link while the old one holds ([`Identity::keep_renewed`]). Start at [`Identity`] for the two ends
//! of a connection, at [`Authority::answer_join`] for what a token can do.
//!
//! The private key of a node never leaves its machine. There is no revocation: a certificate holds for [`LIFETIME`] at most.

mod authority;
pub mod join;
mod ledger;
mod own;
mod peer;
mod token;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use authority::{Authority, JoinError, Wanted};
pub use own::{ClientAuth, Identity, Renewal};
pub use peer::{Peer, PeerError, Role};
pub use token::{JoinToken, TokenError};

use serde::{Deserialize, Serialize};

/// The name in the certificate of every origin, and of no edge: what a node verifies when it links to one.
pub const ORIGIN_NAME: &str = "origin.tidegate.internal";

/// Where an origin takes join requests, by POST over HTTP/2 at its link's TCP port.
pub const JOIN_PATH: &str = "/tidegate/link/v1/join";

/// Join and renewal requests that are longer are none.
pub const REQUEST_BYTES_MAX: usize = 16 << 10;

/// How long a node's certificate holds: a node may be off for three weeks and still renew it.
pub const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// What an authority answers with. Both are PEM.
#[derive(Debug, Serialize, Deserialize)]
struct Issued {
    certificate: String,
    authority: String,
}

/// What a new node sends; it has the secret, and is not to be shown.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinRequest {
    token: String,
    /// base64url.
    secret: String,
    /// DER, base64url.
    csr: String,
    name: String,
    role: Role,
    region: String,
}

fn directory(data: &Path) -> PathBuf {
    data.join("identity")
}

fn node_file(data: &Path) -> PathBuf {
    directory(data).join("node.pem")
}

/// Makes the directory of keys, which nobody but its owner may enter.
fn make_directory(data: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory(data))
}

#[cfg(test)]
mod tests;
