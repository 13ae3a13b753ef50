//! A response as it is kept: as few allocations as can be, and none that holds on to more than its own.
//!
//! A million small responses are kept by their overhead, not by their content. The fields' values stand in one block; the
//! list of their names is shared by all responses that have the same ones, which is most of an origin's.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_model::cache::piece;
use tidegate_model::cache::range::Part;
use tidegate_model::cache::reuse::Span;

use super::store::Mark;

/// A response, immutable but for a mark. Whoever sends it holds on to all of it: buffers that could be shared by themselves
/// would each take a count and a place of their own.
#[derive(Debug)]
pub struct Stored {
    pub fields: Fields,
    pub body: Content,
    pub span: Span,
    /// When it was asked for.
    pub asked: Mark,
    pub rare: Option<Box<Rare>>,
    pub status: StatusCode,
    /// Somebody has marked it stale.
    pub purged: AtomicBool,
    /// It leaves memory encrypted only.
    pub encrypted: bool,
}

/// What most responses do not have.
#[derive(Debug, Default, PartialEq, Eq)]
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

/// A response's content.
#[derive(Debug)]
pub enum Content {
    Own(Box<[u8]>),
    /// That of the response that this one renews.
    Of(Arc<Stored>),
}

/// Header fields, packed.
#[derive(Debug)]
pub struct Fields {
    /// Boxed, so that who points at it takes one word.
    names: Arc<Box<[HeaderName]>>,
    /// A [`piece`] for each value.
    packed: Box<[u8]>,
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
            packed: packed.into_boxed_slice(),
        }
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
    /// Its header fields, with room for a few more.
    pub fn headers(self: &Arc<Self>) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.fields.names.len() + ROOM);
        let packed = Bytes::from_owner(Packed(self.clone()));
        for (name, value) in self.fields.iter() {
            let value = HeaderValue::from_maybe_shared(packed.slice_ref(value));
            // They were field values when they were packed.
            headers.append(name, value.unwrap_or(EMPTY));
        }
        headers
    }

    /// Its content, to be looked at.
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Content::Own(bytes) => bytes,
            Content::Of(other) => other.body(),
        }
    }

    /// Its content, to be sent.
    pub fn content(self: &Arc<Self>) -> Bytes {
        match &self.body {
            Content::Own(bytes) if bytes.is_empty() => Bytes::new(),
            Content::Own(_) => Bytes::from_owner(Sent(self.clone())),
            Content::Of(other) => other.content(),
        }
    }

    /// Its content, for a response that renews it.
    pub fn shared(self: &Arc<Self>) -> Content {
        match &self.body {
            Content::Own(_) => Content::Of(self.clone()),
            Content::Of(first) => Content::Of(first.clone()),
        }
    }

    /// Marks it stale.
    pub fn mark_purged(&self) {
        self.purged.store(true, Ordering::Release);
    }

    /// Whether somebody has marked it stale.
    pub fn is_purged(&self) -> bool {
        self.purged.load(Ordering::Acquire)
    }

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
        size_of::<Self>() + self.fields.packed.len() + self.body().len() + rare
    }
}

/// What is sent of a response while it is stored, or after.
struct Packed(Arc<Stored>);
struct Sent(Arc<Stored>);

impl AsRef<[u8]> for Packed {
    fn as_ref(&self) -> &[u8] {
        &self.0.fields.packed
    }
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        self.0.body()
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
        let stored = || {
            Arc::new(Stored {
                fields: Fields::pack(&headers, &shapes),
                body: Content::Own(b"content".as_slice().into()),
                span: Span::fixed(60, 1000),
                asked: Mark { at: 1, place: 2 },
                rare: None,
                status: StatusCode::OK,
                purged: AtomicBool::new(false),
                encrypted: false,
            })
        };
        let (one, other) = (stored(), stored());
        assert_eq!(one.headers(), headers);
        let lines: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(lines, ["1", "2"]);
        assert!(Arc::ptr_eq(&one.fields.names, &other.fields.names));
        // What is sent outlives the response, and so does what renews it.
        let (sent, fields, renewed) = (one.content(), one.headers(), one.shared());
        drop(one);
        assert_eq!((&sent[..], fields), (&b"content"[..], headers));
        assert!(matches!(renewed, Content::Of(first) if first.body() == b"content"));
    }
}
