//! An entry as bytes, and back.
//!
//! The bodies stand behind all else as they are; the rest is postcard's. What is read was written by a node, and may have
//! been damaged in a way that no checksum saw: every field is looked at as if a stranger had sent it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tidegate_model::cache::range::Part;
use tidegate_model::cache::reuse::Span;

use crate::cache::store::{Entry, Mark, Responses};
use crate::cache::stored::{Content, Fields, Rare, SelectedBy, Shapes, Stored};

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    key: &'a [u8],
    #[serde(borrow)]
    responses: Vec<Response<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Response<'a> {
    status: u16,
    #[serde(borrow)]
    fields: Vec<(&'a str, &'a [u8])>,
    body_bytes: u64,
    part: Option<Part>,
    span: Span,
    selected_by: Option<(Vec<&'a str>, &'a [u8])>,
    tags: Vec<&'a [u8]>,
    purged: bool,
    encrypted: bool,
    asked: Mark,
}

/// Appends an entry to `text`.
pub fn write(text: &mut Vec<u8>, key: &[u8], entry: &Entry) {
    let responses = entry.responses.iter().map(|stored| Response {
        status: stored.status.as_u16(),
        fields: stored
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect(),
        body_bytes: stored.body().len() as u64,
        part: stored.part(),
        span: stored.span,
        selected_by: stored.selected_by().map(|by| {
            let names = by.names.iter().map(HeaderName::as_str);
            (names.collect(), &by.values[..])
        }),
        tags: stored.tags().iter().map(|tag| &tag[..]).collect(),
        purged: stored.is_purged(),
        encrypted: stored.encrypted,
        asked: stored.asked,
    });
    let record = Record {
        key,
        responses: responses.collect(),
    };
    // A vector takes all that there is.
    if let Ok(head) = postcard::to_allocvec(&record) {
        text.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
        text.extend_from_slice(&head);
        for stored in &entry.responses {
            text.extend_from_slice(stored.body());
        }
    }
}

/// Reads an entry, and its key; `None` where it is none.
pub fn read<'a>(text: &'a [u8], shapes: &Shapes) -> Option<(&'a [u8], Entry)> {
    let (length, rest) = text.split_first_chunk::<4>()?;
    let (head, bodies) =
        rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let record: Record<'_> = postcard::from_bytes(head).ok()?;
    let mut bodies = bodies;
    let mut responses = Responses::with_capacity(record.responses.len());
    for response in &record.responses {
        let length = usize::try_from(response.body_bytes).ok()?;
        let (body, others) = bodies.split_at_checked(length)?;
        bodies = others;
        responses.push(Arc::new(stored(response, body, shapes)?));
    }
    let entry = Entry {
        responses,
        apart_until: 0,
    };
    bodies.is_empty().then_some((record.key, entry))
}

fn stored(response: &Response<'_>, body: &[u8], shapes: &Shapes) -> Option<Stored> {
    let mut fields = HeaderMap::try_with_capacity(response.fields.len()).ok()?;
    for (name, value) in &response.fields {
        let name: HeaderName = name.parse().ok()?;
        let value = HeaderValue::from_bytes(value).ok()?;
        fields.try_append(name, value).ok()?;
    }
    let selected_by = match &response.selected_by {
        None => None,
        Some((names, values)) => {
            let names: Option<Box<[HeaderName]>> =
                names.iter().map(|name| name.parse().ok()).collect();
            Some(SelectedBy {
                names: names?,
                values: (*values).into(),
            })
        }
    };
    let rare = Rare {
        part: response.part,
        selected_by,
        tags: response.tags.iter().map(|tag| Box::from(*tag)).collect(),
    };
    Some(Stored {
        status: StatusCode::from_u16(response.status).ok()?,
        fields: Fields::pack(&fields, shapes),
        // Its own copy: what was read with it is not to be held on to.
        body: Content::Own(body.into()),
        span: response.span,
        rare: rare.boxed(),
        purged: response.purged.into(),
        encrypted: response.encrypted,
        asked: response.asked,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An entry with two responses that differ in all that can differ.
    pub fn entry() -> Entry {
        let shapes = Shapes::default();
        let mut headers = HeaderMap::new();
        for (name, value) in [("etag", "\"v\""), ("x-a", "1"), ("x-a", "2")] {
            headers.append(name, value.parse().unwrap());
        }
        headers.append("x-bytes", HeaderValue::from_bytes(b"\xff").unwrap());
        let plain = Stored {
            status: StatusCode::OK,
            fields: Fields::pack(&headers, &shapes),
            body: Content::Own(b"content".as_slice().into()),
            span: Span::fixed(60, 1000),
            rare: Rare {
                part: None,
                selected_by: Some(SelectedBy {
                    names: Box::new([http::header::ACCEPT_LANGUAGE]),
                    values: Box::from(&b"de"[..]),
                }),
                tags: Box::new([Box::from(&b"t"[..])]),
            }
            .boxed(),
            purged: false.into(),
            encrypted: false,
            asked: Mark { at: 7, place: 9 },
        };
        let part = Stored {
            status: StatusCode::PARTIAL_CONTENT,
            fields: Fields::pack(&headers, &shapes),
            body: Content::Own(b"part".as_slice().into()),
            span: plain.span,
            asked: plain.asked,
            rare: Rare {
                part: Some(Part {
                    first: 0,
                    last: 3,
                    total: Some(7),
                }),
                selected_by: None,
                tags: plain.tags().into(),
            }
            .boxed(),
            purged: true.into(),
            encrypted: true,
        };
        Entry {
            responses: [plain, part].map(Arc::new).into_iter().collect(),
            apart_until: 0,
        }
    }

    #[test]
    fn what_was_written_is_read_with_all_that_belongs_to_it() {
        let entry = entry();
        let mut text = Vec::new();
        write(&mut text, b"key", &entry);
        let (key, read) = read(&text, &Shapes::default()).unwrap();
        assert_eq!(key, b"key");
        assert_eq!(format!("{read:?}"), format!("{entry:?}"));
    }

    #[test]
    fn damaged_bytes_are_no_entry_and_no_panic() {
        let mut text = Vec::new();
        write(&mut text, b"key", &entry());
        let shapes = Shapes::default();
        for end in 0..text.len() {
            assert!(read(&text[..end], &shapes).is_none(), "{end}");
        }
        for at in 0..text.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut damaged = text.clone();
                damaged[at] ^= bits;
                let _ = read(&damaged, &shapes);
            }
        }
    }
}
