//! What a cache that many viewers share decides: one file for each question of RFC 9111. Nothing is kept here, and time
//! comes in as an argument, in seconds since 1970.
//!
//! In the order of a request: [`policy`] (whose rules hold on its route), [`key`] (what is stored of it), [`vary`] (which
//! of several), [`reuse`] (whether it may be served now), [`validate`] and [`range`] (as which response). Where the origin
//! is asked: [`forward`] (what it may be told), [`targeted`] and [`directives`] (what it says), [`freshness`] (for how
//! long), [`storable`] (whether at all), [`invalidate`] (what else is no longer true), [`status`] (what viewers are told).

pub mod date;
pub mod directives;
pub mod forward;
pub mod freshness;
pub mod invalidate;
pub mod key;
pub mod piece;
pub mod policy;
pub mod range;
pub mod reuse;
pub mod status;
pub mod storable;
pub mod targeted;
pub mod validate;
pub mod vary;

pub use policy::Policy;
