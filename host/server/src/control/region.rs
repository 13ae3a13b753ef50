//! What a node has in common with others: it serves what its origins do, or tells others what it serves.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use tidegate_model::config::Node;

use super::Control;
use crate::membership::Membership;
use crate::memory;
use crate::node::{apply_state, offer_secrets, upstream_settings};
use crate::serving::Serving;
use crate::sync::Manifest;
use crate::sync::publish;
use crate::versions::Components;

impl Control {
    /// Serves what an origin does; what does not deploy changes nothing.
    pub(super) async fn adopt(&mut self, manifest: &Manifest) -> Result<()> {
        let Some(membership) = self.followed().cloned() else {
            bail!("this node follows no other");
        };
        let (node, components) = followed_node(&self.own, &membership, Some(manifest))?;
        let upstreams = upstream_settings(&node)?;
        let before = self.serving.load_full();
        offer_secrets(&node, &self.services)?;
        let deployed = self
            .deployer
            .deploy(
                &node,
                &components,
                Some(manifest.clone()),
                Some(&before.stable),
            )
            .await
            .map_err(|problems| anyhow::anyhow!("{problems}"))?;
        apply_state(&node, &self.services, &self.store)?;
        self.directory.update(upstreams).context("upstreams")?;
        // On the disk before it serves: a node that was killed comes back with it.
        membership.publisher.publish(manifest.clone())?;
        self.node = node;
        self.publish(Serving::only(Arc::new(deployed)));
        self.taken_over().await; // what is reported as served is
        self.try_again().await;
        Ok(())
    }

    /// What it has in common with others, where it serves what those do.
    pub(super) fn followed(&self) -> Option<&Arc<Membership>> {
        self.membership
            .as_ref()
            .filter(|membership| membership.follows)
    }

    /// An origin tells other nodes what it serves from now on; not what is on trial.
    pub(super) fn tell_others(&self, serving: &Serving) {
        let membership = self
            .membership
            .as_ref()
            .filter(|membership| !membership.follows);
        let (Some(membership), Some(manifest)) = (membership, &serving.stable.manifest) else {
            return;
        };
        let current = membership.publisher.current();
        if current.is_some_and(|current| *current.id == *serving.stable.published) {
            return;
        }
        if let Err(error) = membership.publisher.publish(manifest.clone()) {
            tracing::error!("other nodes are not told of this snapshot: {error:#}");
        }
    }
}

/// What a node that follows others serves by, with `manifest` from them; nothing of an API where there is none yet.
///
/// # Errors
/// What is wrong with the snapshot.
pub(crate) fn followed_node(
    own: &Node,
    membership: &Membership,
    manifest: Option<&Manifest>,
) -> Result<(Node, Components)> {
    let Some(manifest) = manifest else {
        return Ok((own.clone(), Components::new()));
    };
    let files = &membership.publisher.files;
    let node = manifest.node(own, files.directory());
    let node = node.map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let version = |(plugin, hash): (&String, &String)| (plugin.clone(), files.path(hash));
    Ok((node, manifest.versions.iter().map(version).collect()))
}

/// What other nodes are to be told, once it serves here.
///
/// # Errors
/// Where a file that the configuration names cannot be read or kept.
pub(crate) async fn draw_up(
    membership: &Membership,
    path: &Path,
    name: &str,
    node: &Node,
    components: &Components,
) -> Result<Manifest> {
    let publisher = membership.publisher.clone();
    let (path, name, node) = (path.to_owned(), name.to_owned(), node.clone());
    let components = components.clone();
    let drawing = memory::spawn_blocking(move || {
        let files = &publisher.files;
        let draft = publish::assemble(files, &path, &node, &components)?;
        let before = match publisher.current() {
            Some(published) => Some(published.manifest.clone()),
            None => files.current().unwrap_or_default(), // of the run before
        };
        let now_ms = crate::link::told::milliseconds_of(SystemTime::now());
        Ok(draft.finish(&name, before.as_ref(), now_ms))
    });
    drawing.await.context("drawing up a snapshot")?
}
