//! What every node of a region serves from, kept the same.
//!
//! An origin [`publish`]es what it serves as a [`Manifest`]: a configuration without anything of the machine's, and files by
//! their hash. Edges, and origins that belong to another one, [`follow`] it: they fetch what they lack, deploy it as if it
//! were their own, and keep it on their disk. What else nodes tell each other of what they serve goes the same ways: purges
//! one way, and [`nodes`]' reports the other.

pub mod files;
pub mod follow;
pub mod manifest;
pub mod nodes;
pub mod publish;
pub mod purges;
pub mod trial;

pub use manifest::Manifest;

use std::path::{Path, PathBuf};

/// Where the snapshot is kept.
pub fn directory(data: &Path) -> PathBuf {
    data.join("snapshot")
}
