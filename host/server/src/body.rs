//! Bodies of requests and responses: moved through, never collected unless a step reads them.
//!
//! A [`Body`] is one of the plain sources, or a source that is *watched*: with a size limit, an idle timeout, and a hook
//! that is told once how it ended. Watching costs one allocation for the body, whatever is watched.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Incoming;
use tokio::time::Instant;
use wasmtime_wasi_http::WasiBody;

use crate::alarm::Alarm;
use crate::upstream::Lease;

/// An error of a type that only its maker knows.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request or a response; `Send`, so that it can also be handed to a function.
#[derive(Debug, Default)]
pub enum Body {
    #[default]
    Empty,
    /// One piece, made here.
    Full(Bytes),
    /// From a viewer or a target, as it arrives.
    Incoming(Incoming),
    /// From elsewhere: a function, a store.
    Boxed(UnsyncBoxBody<Bytes, BoxError>),
    /// Any of these under watch.
    Watched(Box<Watched>),
}

/// A body with a limit, an idle timeout, a hook at its end.
#[derive(Debug)]
pub struct Watched {
    source: Body,
    /// Bytes that have passed.
    bytes: u64,
    bytes_max: u64,
    idle: Option<Idle>,
    hook: Option<Hook>,
    /// Not reading it is its regular end: the response to HEAD, 304.
    unread: bool,
    fault: Option<Arc<OnceLock<Fault>>>,
    /// The place at an upstream that this response occupies until it ends.
    lease: Option<Lease>,
}

/// Learns how a body ended, once.
pub trait OnEnd: Send {
    /// `bytes` of content had been passed on when the body came to its `end`. Passed on to the connection's buffers: what
    /// the viewer's network does with the last few kilobytes is not seen.
    fn on_end(self: Box<Self>, bytes: u64, end: End<'_>);
}

/// How a body ended.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// To its last byte.
    Complete,
    /// Who read it stopped before the end: for a response, the viewer left (logged as 499).
    Abandoned,
    /// Its source failed.
    Failed(&'a BodyError),
}

/// Why a body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("body exceeds {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    #[error("no data for {} ms", after.as_millis())]
    IdleTimeout { after: Duration },
    /// The connection ended before the body did, or its sender gave it up.
    #[error("connection ended before the body")]
    Terminated(#[source] hyper::Error),
    /// Its framing cannot be read: a chunk size that is none.
    #[error("malformed body")]
    Malformed(#[source] hyper::Error),
    #[error("body failed")]
    Source(#[source] BoxError),
}

/// What went wrong with a body, without its causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    #[error("too large")]
    TooLarge,
    #[error("nothing came for too long")]
    IdleTimeout,
    #[error("ended early")]
    Terminated,
    #[error("malformed")]
    Malformed,
    #[error("failed at its source")]
    Source,
}

impl Body {
    /// What a component sends. One without content is known as such: it needs no framing.
    pub fn from_component(mut body: WasiBody) -> Self {
        if body.is_end_stream() {
            return Self::Empty;
        }
        let first = match body.frame().now_or_never() {
            Some(None) => return Self::Empty,
            Some(Some(frame)) => Some(frame),
            None => None,
        };
        let rest = BodyStream::new(body);
        let frames = futures_util::stream::iter(first).chain(rest);
        let failed = |error: wasmtime_wasi_http::Error| -> BoxError { format!("{error:?}").into() };
        Self::Boxed(UnsyncBoxBody::new(StreamBody::new(frames.map_err(failed))))
    }

    /// As a component receives it.
    pub fn into_component(self) -> WasiBody {
        let failed =
            |error: BodyError| wasmtime_wasi_http::Error::InternalError(Some(error.to_string()));
        UnsyncBoxBody::new(self.map_err(failed))
    }

    /// Fails with [`BodyError::TooLarge`] once more than `bytes_max` have come; the bytes up to it have passed by then.
    pub fn with_limit(self, bytes_max: u64) -> Self {
        let fits = self
            .size_hint()
            .upper()
            .is_some_and(|upper| upper <= bytes_max);
        if fits {
            return self;
        }
        let mut watched = self.watched();
        watched.bytes_max = watched.bytes_max.min(bytes_max);
        Self::Watched(watched)
    }

    /// Fails with [`BodyError::IdleTimeout`] when it is waited for and nothing comes for `after`. Time in which nobody
    /// reads does not count.
    pub fn with_idle_timeout(self, after: Duration) -> Self {
        if self.is_end_stream() || matches!(self, Self::Full(_)) {
            return self;
        }
        let mut watched = self.watched();
        watched.idle = Some(Idle::new(after));
        Self::Watched(watched)
    }

    /// Calls `hook` once: when the last frame was read, an error was, or the body is dropped.
    pub fn with_on_end(self, hook: Box<dyn OnEnd>) -> Self {
        let mut watched = match self {
            Self::Watched(watched) if watched.hook.is_none() => watched,
            other => Watched::over(other),
        };
        watched.hook = Some(Hook(hook));
        Self::Watched(watched)
    }

    /// Counts dropping the body unread as its regular end, where HTTP sends none: to HEAD, with 204 and 304.
    pub fn mark_unread(&mut self) {
        if let Self::Watched(watched) = self {
            watched.unread = true;
            watched.source.mark_unread();
        }
    }

    /// Reads it to its end; trailers are dropped.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] when there are more than `bytes_max`, without reading on, or the error of its source.
    ///
    /// # Cancel safety
    /// What was read is lost.
    pub async fn collect(mut self, bytes_max: u64) -> Result<Bytes, BodyError> {
        let too_large = BodyError::TooLarge { bytes_max };
        if self.size_hint().lower() > bytes_max {
            return Err(too_large);
        }
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await
        {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            if (first.len() + rest.len() + data.len()) as u64 > bytes_max {
                return Err(too_large);
            }
            if first.is_empty() {
                first = data; // the only one, mostly: not copied
            } else {
                rest.extend_from_slice(&data);
            }
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let mut whole = BytesMut::with_capacity(first.len() + rest.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&rest);
        Ok(whole.freeze())
    }

    /// Occupies a place at an upstream until it ends.
    pub(crate) fn with_lease(self, lease: Lease) -> Self {
        let mut watched = self.watched();
        watched.lease = Some(lease);
        Self::Watched(watched)
    }

    /// Notes in `slot` why it failed, if it does.
    pub(crate) fn with_fault(self, slot: Arc<OnceLock<Fault>>) -> Self {
        let mut watched = self.watched();
        watched.fault = Some(slot);
        Self::Watched(watched)
    }

    fn watched(self) -> Box<Watched> {
        match self {
            Self::Watched(watched) => watched,
            other => Watched::over(other),
        }
    }
}

impl Watched {
    fn over(source: Body) -> Box<Self> {
        Box::new(Self {
            source,
            bytes: 0,
            bytes_max: u64::MAX,
            idle: None,
            hook: None,
            unread: false,
            fault: None,
            lease: None,
        })
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.source).poll_frame(cx);
        let frame = match (polled, &mut self.idle) {
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(idle)) => Some(Err(ready!(idle.poll(cx)))),
            (Poll::Ready(frame), idle) => {
                if let Some(idle) = idle {
                    idle.since = None;
                }
                frame
            }
        };
        let frame = match frame {
            Some(Ok(frame)) => self.count(frame),
            other => other,
        };
        match &frame {
            Some(Err(error)) => self.end(End::Failed(error)),
            None => self.end(End::Complete),
            Some(Ok(_)) if self.source.is_end_stream() => self.end(End::Complete),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Option<Result<Frame<Bytes>, BodyError>> {
        if let Some(data) = frame.data_ref() {
            if data.len() as u64 > self.bytes_max - self.bytes {
                return Some(Err(BodyError::TooLarge {
                    bytes_max: self.bytes_max,
                }));
            }
            self.bytes += data.len() as u64;
        }
        Some(Ok(frame))
    }

    fn end(&mut self, end: End<'_>) {
        self.lease = None;
        if let (End::Failed(error), Some(slot)) = (end, &self.fault) {
            let _ = slot.set(error.fault()); // the first one counts
        }
        if let Some(Hook(hook)) = self.hook.take() {
            hook.on_end(self.bytes, end);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let complete = self.unread || self.source.is_end_stream();
        self.end(if complete {
            End::Complete
        } else {
            End::Abandoned
        });
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Incoming(incoming) => Pin::new(incoming)
                .poll_frame(cx)
                .map_err(BodyError::from_incoming),
            Self::Boxed(boxed) => Pin::new(boxed).poll_frame(cx).map_err(BodyError::Source),
            Self::Watched(watched) => watched.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Boxed(boxed) => boxed.is_end_stream(),
            Self::Watched(watched) => watched.source.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Boxed(boxed) => boxed.size_hint(),
            Self::Watched(watched) => watched.source.size_hint(),
        }
    }
}

impl BodyError {
    /// Which of the faults it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::TooLarge { .. } => Fault::TooLarge,
            Self::IdleTimeout { .. } => Fault::IdleTimeout,
            Self::Terminated(_) => Fault::Terminated,
            Self::Malformed(_) => Fault::Malformed,
            Self::Source(_) => Fault::Source,
        }
    }

    fn from_incoming(error: hyper::Error) -> Self {
        let malformed = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|io| {
                matches!(
                    io.kind(),
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput
                )
            });
        if malformed {
            Self::Malformed(error)
        } else {
            Self::Terminated(error)
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            Self::Empty
        } else {
            Self::Incoming(incoming)
        }
    }
}

struct Hook(Box<dyn OnEnd>);

impl fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hook")
    }
}

#[derive(Debug)]
struct Idle {
    after: Duration,
    /// Since when nothing has come; `None` while it is not waited for.
    since: Option<Instant>,
    alarm: Alarm,
}

impl Idle {
    fn new(after: Duration) -> Self {
        Self {
            after,
            since: None,
            alarm: Alarm::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        ready!(self.alarm.poll(cx, Some(since + self.after)));
        Poll::Ready(BodyError::IdleTimeout { after: self.after })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::HeaderMap;
    use tokio::sync::mpsc;

    use super::*;

    type Piece = Result<Frame<Bytes>, BoxError>;

    /// A body that yields what is sent to it.
    struct Fed(mpsc::UnboundedReceiver<Piece>);

    impl http_body::Body for Fed {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
            self.0.poll_recv(cx)
        }
    }

    fn fed(pieces: impl IntoIterator<Item = Piece>) -> (mpsc::UnboundedSender<Piece>, Body) {
        let (sender, receiver) = mpsc::unbounded_channel();
        for piece in pieces {
            sender.send(piece).unwrap();
        }
        (sender, Body::Boxed(UnsyncBoxBody::new(Fed(receiver))))
    }

    fn data(text: &'static str) -> Piece {
        Ok(Frame::data(Bytes::from(text)))
    }

    async fn frame(body: &mut Body) -> Option<Result<Frame<Bytes>, BodyError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl OnEnd for Seen {
        fn on_end(self: Box<Self>, bytes: u64, end: End<'_>) {
            let end = match end {
                End::Complete => "complete".to_owned(),
                End::Abandoned => "abandoned".to_owned(),
                End::Failed(error) => error.fault().to_string(),
            };
            self.0.lock().unwrap().push(format!("{bytes} {end}"));
        }
    }

    #[tokio::test]
    async fn the_end_is_told_once_and_with_its_bytes() {
        let broken = || Err(BoxError::from("broken"));
        let cases: [(&str, Body, usize, &str); 7] = [
            (
                "read to its end",
                fed([data("ab"), data("c")]).1,
                9,
                "3 complete",
            ),
            (
                "one piece, and not asked again",
                "abc".into(),
                1,
                "3 complete",
            ),
            (
                "dropped in between",
                fed([data("ab"), data("c")]).1,
                1,
                "2 abandoned",
            ),
            ("never read", "abc".into(), 0, "0 abandoned"),
            ("nothing to read", Body::Empty, 0, "0 complete"),
            (
                "broken",
                fed([data("ab"), broken()]).1,
                9,
                "2 failed at its source",
            ),
            (
                "too large",
                fed([data("ab"), data("cdef")]).1.with_limit(5),
                9,
                "2 too large",
            ),
        ];
        for (what, body, reads, expected) in cases {
            let seen = Seen::default();
            let mut body = body.with_on_end(Box::new(seen.clone()));
            for _ in 0..reads {
                match frame(&mut body).await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                }
            }
            drop(body);
            assert_eq!(*seen.0.lock().unwrap(), [expected], "{what}");
        }
    }

    #[tokio::test]
    async fn two_hooks_are_both_told() {
        let (first, second) = (Seen::default(), Seen::default());
        let body = Body::from("abc")
            .with_on_end(Box::new(first.clone()))
            .with_on_end(Box::new(second.clone()));
        body.collect(9).await.unwrap();
        assert_eq!(*first.0.lock().unwrap(), ["3 complete"]);
        assert_eq!(*second.0.lock().unwrap(), ["3 complete"]);
    }

    #[tokio::test]
    async fn dropping_unread_is_the_end_where_there_is_nothing_to_send() {
        let seen = Seen::default();
        let mut body = Body::from("abc").with_on_end(Box::new(seen.clone()));
        body.mark_unread();
        drop(body);
        assert_eq!(*seen.0.lock().unwrap(), ["0 complete"]);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_too_long_for_a_piece_is_an_error() {
        let (feed, body) = fed([]);
        let mut body = body.with_idle_timeout(Duration::from_secs(30));
        let feeding = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(29)).await;
                feed.send(data("x")).unwrap();
            }
            feed.closed().await;
        };
        let reading = async {
            for _ in 0..3 {
                assert!(frame(&mut body).await.unwrap().is_ok(), "within the time");
            }
            tokio::time::sleep(Duration::from_secs(300)).await; // not waited for: does not count
            let started = Instant::now();
            let error = frame(&mut body).await.unwrap().unwrap_err();
            assert_eq!(
                (error.fault(), started.elapsed().as_secs()),
                (Fault::IdleTimeout, 30)
            );
            drop(body);
        };
        tokio::join!(feeding, reading);
    }

    #[tokio::test]
    async fn sizes_and_trailers_are_those_of_the_source() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        let (feed, body) = fed([data("ab"), Ok(Frame::trailers(trailers.clone()))]);
        drop(feed);
        let mut body = body.with_limit(5).with_idle_timeout(Duration::from_secs(1));
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(
            frame(&mut body)
                .await
                .unwrap()
                .unwrap()
                .into_data()
                .unwrap(),
            "ab"
        );
        assert_eq!(
            frame(&mut body)
                .await
                .unwrap()
                .unwrap()
                .into_trailers()
                .unwrap(),
            trailers
        );
        assert!(frame(&mut body).await.is_none());

        let watched = Body::from("abc").with_on_end(Box::new(Seen::default()));
        assert_eq!(
            (watched.size_hint().exact(), watched.is_end_stream()),
            (Some(3), false)
        );
        assert!(Body::from("").is_end_stream());
    }

    #[tokio::test]
    async fn collecting_stops_at_the_limit() {
        let whole = || {
            let (_, body) = fed([data("ab"), data("cd")]);
            body
        };
        assert_eq!(whole().collect(4).await.unwrap(), "abcd");
        assert_eq!(
            whole().collect(3).await.unwrap_err().fault(),
            Fault::TooLarge
        );
        assert_eq!(
            Body::from("abc").collect(2).await.unwrap_err().fault(),
            Fault::TooLarge
        );
        assert_eq!(Body::from("abc").collect(3).await.unwrap(), "abc");
        assert_eq!(Body::Empty.collect(0).await.unwrap(), "");
    }
}
