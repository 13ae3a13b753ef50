//! A response as it is kept: as few allocations as can be, and none that holds on to more than its own.
//!
//! A million small responses are kept by their overhead, not by their content. The fields' values stand in one block; the
//! list of their names is shared by all responses that have the same ones, which is most of an origin's.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_model::cache::piece;
use tidegate_model::cache::range::Part;
use tidegate_model::cache::reuse::Span;

use super::store::Mark;

/// A response, immutable.
#[derive(Debug, Clone)]
pub struct Stored {
    pub fields: Fields,
    pub body: Bytes,
    pub span: Span,
    /// When it was asked for.
    pub asked: Mark,
    pub rare: Option<Box<Rare>>,
    pub status: StatusCode,
    /// Somebody has marked it stale.
    pub purged: bool,
    /// It leaves memory encrypted only.
    pub encrypted: bool,
}

/// What most responses do not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rare {
    /// Which part of the representation the body is, where it is not the whole.
    pub part: Option<Part>,
    /// What of the request selects it among others of its URL.
    pub selected_by: Option<SelectedBy>,
    /// The names that it can be purged by.
    pub tags: Box<[Box<[u8]>]>,
}

/// The names that a response varies on, and what the request said in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedBy {
    pub names: Box<[HeaderName]>,
    pub values: Box<[u8]>,
}

/// Header fields, packed.
#[derive(Debug, Clone)]
pub struct Fields {
    /// Boxed, so that who points at it takes one word.
    names: Arc<Box<[HeaderName]>>,
    /// A [`piece`] for each value.
    packed: Bytes,
}

/// The lists of names that are in use.
#[derive(Debug, Default)]
pub struct Shapes(Mutex<HashSet<Arc<Box<[HeaderName]>>>>);

impl Fields {
    /// Packs fields.
    pub fn pack(headers: &HeaderMap, shapes: &Shapes) -> Self {
        let names = headers.iter().map(|(name, _)| name.clone()).collect();
        let lengths = headers.values().map(HeaderValue::len);
        let mut packed = Vec::with_capacity(lengths.map(piece::bytes).sum());
        for value in headers.values() {
            piece::write(&mut packed, value.as_bytes());
        }
        Self {
            names: shapes.share(names),
            packed: packed.into_boxed_slice().into(),
        }
    }

    /// Unpacks them, with room for a few more.
    pub fn unpack(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.names.len() + ROOM);
        for (name, value) in self.iter() {
            let value = HeaderValue::from_maybe_shared(self.packed.slice_ref(value));
            // They were field values when they were packed.
            headers.append(name, value.unwrap_or(EMPTY));
        }
        headers
    }

    /// Name and value of each line, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &[u8])> {
        let mut rest = &self.packed[..];
        self.names.iter().map_while(move |name| {
            let (value, others) = piece::read(rest)?;
            rest = others;
            Some((name, value))
        })
    }
}

impl Stored {
    /// Which part of the representation the body is, where it is not the whole.
    pub fn part(&self) -> Option<Part> {
        self.rare.as_ref().and_then(|rare| rare.part)
    }

    /// What of the request selects it among others of its URL.
    pub fn selected_by(&self) -> Option<&SelectedBy> {
        self.rare
            .as_ref()
            .and_then(|rare| rare.selected_by.as_ref())
    }

    /// The names that it can be purged by.
    pub fn tags(&self) -> &[Box<[u8]>] {
        self.rare.as_ref().map_or(&[], |rare| &rare.tags)
    }

    /// What it takes, roughly.
    pub fn weight(&self) -> usize {
        let rare = self.rare.as_ref().map_or(0, |rare| rare.weight());
        size_of::<Self>() + self.fields.packed.len() + self.body.len() + rare
    }
}

impl Rare {
    /// Itself, where it has anything.
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    fn weight(&self) -> usize {
        let selected_by = self.selected_by.as_ref().map_or(0, |selected_by| {
            selected_by.values.len() + selected_by.names.len() * size_of::<HeaderName>()
        });
        let tags: usize = self.tags.iter().map(|tag| tag.len() + 16).sum();
        size_of::<Self>() + selected_by + tags
    }
}

impl Shapes {
    fn share(&self, names: Box<[HeaderName]>) -> Arc<Box<[HeaderName]>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = known.get(&names) {
            return shape.clone();
        }
        if known.len() >= SHAPES_MAX {
            known.clear(); // those in use stay with who uses them
        }
        let shape = Arc::new(names);
        known.insert(shape.clone());
        shape
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");
/// Fields that are added on the way to a viewer: Age, Cache-Status, the request's id, and some by transforms.
const ROOM: usize = 6;
/// An origin that makes up names for each response shall not fill the memory with them.
const SHAPES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked_with_its_lines_and_order() {
        let shapes = Shapes::default();
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-b", ""), ("x-a", "2"), ("etag", "\"e\"")] {
            headers.append(name, value.parse().unwrap());
        }
        headers.append("x-bytes", HeaderValue::from_bytes(b"\xff").unwrap());
        let packed = Fields::pack(&headers, &shapes);
        assert_eq!(packed.unpack(), headers);
        let lines: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(lines, ["1", "2"]);
        let other = Fields::pack(&headers, &shapes);
        assert!(Arc::ptr_eq(&packed.names, &other.names));
    }
}
