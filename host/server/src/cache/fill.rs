//! A response's body on its way to a viewer, of which a copy is kept.
//!
//! The viewer gets each piece as it comes. When the last one has passed, the response is stored, and who waits for it is
//! told; a body that turns out too large goes on to the viewer, and nobody waits for it any more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use super::Cache;
use super::flight::{Landed, Leader};
use super::stored::{Content, Stored};
use crate::body::{Body, BodyError, BoxError};

/// What becomes of a response when its body has come.
pub struct Fill {
    pub cache: Arc<Cache>,
    pub key: Vec<u8>,
    /// As it will be stored, without its body.
    pub stored: Stored,
    /// Who waits for it is led by this.
    pub leader: Option<Leader>,
    /// Until when a body that was too large keeps others from waiting.
    pub apart_until: u64,
    /// What was there before: the body goes on from it.
    pub begun: Bytes,
}

impl Fill {
    /// Lets the body pass and keeps a copy.
    pub fn of(self, body: Body) -> Body {
        match body {
            Body::Empty if self.begun.is_empty() => {
                self.store(Vec::new());
                Body::Empty
            }
            Body::Full(content) if self.begun.is_empty() => {
                self.store(content.to_vec());
                Body::Full(content)
            }
            source => {
                // What an origin announces is its word only: never more room than may be kept.
                let expected = source.size_hint().exact().unwrap_or(0);
                let expected = expected.min(self.cache.body_bytes_max);
                let mut filling = Filling {
                    ahead: Some(self.begun.clone()).filter(|begun| !begun.is_empty()),
                    source,
                    kept: Vec::with_capacity(usize::try_from(expected).unwrap_or(0)),
                    fill: None,
                };
                let begun = self.begun.clone();
                filling.fill = Some(self);
                filling.keep(&begun);
                Body::Boxed(UnsyncBoxBody::new(filling))
            }
        }
    }

    /// Reads the body to its end, for nobody; gives what was stored.
    ///
    /// # Errors
    /// The body's.
    pub async fn read(self, body: Body) -> Result<Arc<Stored>, BodyError> {
        let content = body.collect(self.cache.body_bytes_max).await?;
        Ok(self.store(content.to_vec()))
    }

    fn store(mut self, content: Vec<u8>) -> Arc<Stored> {
        // A part of nothing is of no use.
        let useful = !content.is_empty() || self.stored.part().is_none();
        self.stored.body = Content::Own(content.into_boxed_slice());
        let stored = Arc::new(self.stored);
        let kept = useful && self.cache.store.put(&self.key, stored.clone());
        if let Some(leader) = self.leader {
            leader.land(if kept { Landed::Stored } else { Landed::Apart });
        }
        stored
    }

    /// It is too large after all.
    fn give_up(mut self) {
        self.cache.store.keep_apart(&self.key, self.apart_until);
        self.land(Landed::Apart);
    }

    fn land(&mut self, landed: Landed) {
        if let Some(leader) = self.leader.take() {
            leader.land(landed);
        }
    }
}

struct Filling {
    ahead: Option<Bytes>,
    source: Body,
    kept: Vec<u8>,
    /// `None` once it is decided what becomes of it. Dropped before, the viewer has left: the next one asks.
    fill: Option<Fill>,
}

impl Filling {
    fn keep(&mut self, data: &[u8]) {
        let Some(fill) = &self.fill else {
            return;
        };
        if (self.kept.len() + data.len()) as u64 > fill.cache.body_bytes_max {
            self.kept = Vec::new();
            if let Some(fill) = self.fill.take() {
                fill.give_up();
            }
            return;
        }
        self.kept.extend_from_slice(data);
    }

    fn end(&mut self) {
        if let Some(fill) = self.fill.take() {
            fill.store(std::mem::take(&mut self.kept));
        }
    }
}

impl http_body::Body for Filling {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(ahead) = this.ahead.take() {
            return Poll::Ready(Some(Ok(Frame::data(ahead))));
        }
        match ready!(Pin::new(&mut this.source).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.keep(data);
                }
                // Who knows the length does not ask again.
                if this.source.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(mut fill) = this.fill.take() {
                    fill.land(Landed::Apart);
                }
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                this.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.len() as u64);
        let source = self.source.size_hint();
        match source.exact() {
            Some(exact) => SizeHint::with_exact(exact.saturating_add(ahead)),
            None => source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, StatusCode};
    use http_body_util::StreamBody;
    use tidegate_model::cache::reuse::Span;
    use tidegate_model::config::{ByteSize, NodeCache};

    use super::super::behind::Behind;
    use super::super::doubt::Url;
    use super::super::flight::Joined;
    use super::super::store::Store;
    use super::super::stored::Fields;
    use super::*;

    fn cache() -> Arc<Cache> {
        let settings = NodeCache {
            memory: ByteSize::mib(1),
            body: ByteSize(8),
            wait: Duration::from_secs(1),
            disk: None,
        };
        let store = Store::new(settings.memory.0);
        Arc::new(Cache::new(&settings, store, Arc::new(Behind::new(0)), 1))
    }

    fn fill(cache: &Arc<Cache>, leader: Option<Leader>) -> Fill {
        let url = Url {
            scope: "a/s",
            path: "/",
            query: None,
        };
        Fill {
            cache: cache.clone(),
            key: b"k".to_vec(),
            stored: Stored {
                status: StatusCode::OK,
                fields: Fields::pack(&HeaderMap::new(), &cache.store.shapes),
                body: Content::Own(Box::default()),
                span: Span::fixed(60, 0),
                rare: None,
                purged: false.into(),
                encrypted: false,
                asked: cache.store.mark(&url),
            },
            leader,
            apart_until: 9,
            begun: Bytes::new(),
        }
    }

    fn pieces(pieces: &[Result<&'static str, &'static str>]) -> Body {
        let frames: Vec<Result<Frame<Bytes>, BoxError>> = pieces
            .iter()
            .map(|piece| match piece {
                Ok(data) => Ok(Frame::data(Bytes::from_static(data.as_bytes()))),
                Err(error) => Err((*error).into()),
            })
            .collect();
        Body::Boxed(UnsyncBoxBody::new(StreamBody::new(
            futures_util::stream::iter(frames),
        )))
    }

    #[tokio::test]
    async fn the_viewer_gets_every_piece_and_the_store_a_copy_that_fits() {
        type Pieces = &'static [Result<&'static str, &'static str>];
        let cases: [(Pieces, Option<&str>, Landed); 4] = [
            (&[Ok("ab"), Ok("cd")], Some("abcd"), Landed::Stored),
            (&[Ok("abcdefgh"), Ok("i")], None, Landed::Apart),
            (&[Ok("ab"), Err("broken")], None, Landed::Apart),
            (&[], Some(""), Landed::Stored),
        ];
        for (parts, stored, landed) in cases {
            let cache = cache();
            let Joined::Leads(leader) = cache.flights.join(b"f") else {
                panic!("nobody else asks");
            };
            let Joined::Follows(mut follower) = cache.flights.join(b"f") else {
                panic!("one leads");
            };
            let body = fill(&cache, Some(leader)).of(pieces(parts));
            let seen = body.collect(100).await;
            let expected: Result<String, &str> = parts.iter().copied().collect();
            assert_eq!(seen.is_ok(), expected.is_ok());
            if let (Ok(seen), Ok(expected)) = (seen, expected) {
                assert_eq!(seen, expected);
            }
            assert_eq!(follower.landed().await, landed, "{parts:?}");
            let kept = cache.store.get(b"k");
            let kept = kept.as_ref().and_then(|entry| entry.responses.first());
            assert_eq!(kept.map(|kept| kept.body()), stored.map(str::as_bytes));
        }
    }

    /// Says that it is as long as a length can be, and has two bytes.
    struct Boaster(Option<&'static str>);

    impl http_body::Body for Boaster {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            let data = self.0.take().map(Bytes::from);
            Poll::Ready(data.map(|data| Ok(Frame::data(data))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(u64::MAX)
        }
    }

    #[tokio::test]
    async fn an_announced_length_makes_no_room_and_what_was_begun_counts() {
        let cases = [
            ("", Some("ab")),
            ("cdefgh", Some("cdefghab")),
            ("cdefghi", None),
        ];
        for (begun, stored) in cases {
            let cache = cache();
            let mut fill = fill(&cache, None);
            fill.begun = Bytes::from(begun);
            let mut body = fill.of(Body::Boxed(UnsyncBoxBody::new(Boaster(Some("ab")))));
            assert_eq!(body.size_hint().exact(), Some(u64::MAX));
            let mut seen = Vec::new();
            while let Some(frame) =
                std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
            {
                seen.extend_from_slice(&frame.unwrap().into_data().unwrap());
            }
            assert_eq!(
                seen,
                format!("{begun}ab").as_bytes(),
                "the viewer gets all of it"
            );
            let kept = cache.store.get(b"k");
            let kept = kept.as_ref().and_then(|entry| entry.responses.first());
            assert_eq!(kept.map(|kept| kept.body()), stored.map(str::as_bytes));
        }
    }

    #[tokio::test]
    async fn a_viewer_that_leaves_leaves_the_lead_to_the_next() {
        let cache = cache();
        let Joined::Leads(leader) = cache.flights.join(b"f") else {
            panic!("nobody else asks");
        };
        let Joined::Follows(mut follower) = cache.flights.join(b"f") else {
            panic!("one leads");
        };
        drop(fill(&cache, Some(leader)).of(pieces(&[Ok("ab")])));
        assert_eq!(follower.landed().await, Landed::Abandoned);
        assert!(cache.store.get(b"k").is_none());
    }
}
