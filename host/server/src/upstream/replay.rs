//! What was sent of a request, so that it can be sent again: its header section, and a short body.
//!
//! hyper takes a request by value and writes it; should the connection turn out to be closed already, it is gone. Cloning
//! each request in case would cost 3 % of its CPU time; copying the few hundred bytes on their way to the socket costs next
//! to nothing, and reading them back is needed only for those that failed.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use crate::body::{Body, BoxError};
use crate::stream::Stream;

/// What was written of one connection's last request.
#[derive(Debug, Default)]
pub(super) struct SentHead {
    /// The next write is the first one of a request that is to be kept.
    wanted: Cell<bool>,
    bytes: RefCell<Vec<u8>>,
}

impl SentHead {
    /// A request comes next; it has no body where it is to be kept.
    pub(super) fn begin(&self, keep: bool) {
        self.wanted.set(keep);
        self.bytes.borrow_mut().clear();
    }

    /// The request as it was written; `None` where it was not to be kept, or not written.
    pub(super) fn request(&self) -> Option<Request<Body>> {
        parse(&self.bytes.borrow())
    }

    /// Takes note of what is offered to be written: hyper offers a header section in one piece.
    fn note<'a>(&self, offered: impl Iterator<Item = &'a [u8]>) {
        if self.wanted.replace(false) {
            let mut bytes = self.bytes.borrow_mut();
            bytes.shrink_to(KEPT_BYTES);
            offered.for_each(|piece| bytes.extend_from_slice(piece));
        }
    }
}

/// Reads what hyper wrote for a request without body.
fn parse(head: &[u8]) -> Option<Request<Body>> {
    let head = head.strip_suffix(b"\r\n\r\n")?;
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next()?.split(|&byte| byte == b' ');
    let mut request = Request::new(Body::Empty);
    *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

/// A connection's bytes, of which [`SentHead`] takes note.
#[derive(Debug)]
pub(super) struct Recorder {
    io: TokioIo<Stream>,
    sent: Rc<SentHead>,
}

impl Recorder {
    pub(super) fn new(stream: Stream, sent: Rc<SentHead>) -> Self {
        Self {
            io: TokioIo::new(stream),
            sent,
        }
    }
}

impl Read for Recorder {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl Write for Recorder {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.sent.note(std::iter::once(buf));
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Mostly the header section alone; send(2) is cheaper than writev(2).
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let this = self.get_mut();
        this.sent.note(bufs.iter().map(|buf| &**buf));
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// A request's body that can be sent again, as long as what was read of it is short.
///
/// hyper drops a body with the connection that it was sent on. So it is given one that only borrows: the source stays here,
/// with what was read of it.
#[derive(Debug)]
pub(super) struct SentBody(Arc<Mutex<Sent>>);

#[derive(Debug)]
struct Sent {
    /// What has not been read yet.
    source: Body,
    /// What has, from the beginning; `None` once that is more than [`BODY_KEPT_MAX`].
    read: Option<Vec<Frame<Bytes>>>,
    bytes: usize,
    /// Which attempt reads; a connection that ends may still hold the body of the one before.
    attempt: u32,
    /// How many of `read` this attempt has had.
    had: usize,
}

/// The body of one attempt.
#[derive(Debug)]
struct Lent {
    sent: Arc<Mutex<Sent>>,
    attempt: u32,
}

impl SentBody {
    /// Leaves the request a body that borrows its own; `None`, and the request as it was, where it is known to be too long.
    pub(super) fn keep(request: &mut Request<Body>) -> Option<Self> {
        if request.body().size_hint().lower() > BODY_KEPT_MAX as u64 {
            return None;
        }
        let sent = Sent {
            source: std::mem::take(request.body_mut()),
            read: Some(Vec::new()),
            bytes: 0,
            attempt: 0,
            had: 0,
        };
        let kept = Self(Arc::new(Mutex::new(sent)));
        *request.body_mut() = kept.lend();
        Some(kept)
    }

    /// The whole body once more; `None` where too much of it is gone.
    pub(super) fn again(&self) -> Option<Body> {
        {
            let mut sent = lock(&self.0);
            sent.read.as_ref()?;
            sent.attempt += 1;
            sent.had = 0;
        }
        Some(self.lend())
    }

    fn lend(&self) -> Body {
        let attempt = lock(&self.0).attempt;
        let sent = self.0.clone();
        Body::Boxed(Lent { sent, attempt }.boxed_unsync())
    }
}

impl Sent {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = self.read.as_ref().and_then(|read| read.get(self.had)) {
            self.had += 1;
            return Poll::Ready(Some(Ok(copy_of(frame))));
        }
        let frame = match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        self.bytes += frame.data_ref().map_or(0, Bytes::len);
        if self.bytes > BODY_KEPT_MAX {
            self.read = None;
        }
        if let Some(read) = &mut self.read {
            read.push(copy_of(&frame));
            self.had += 1;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Of what was read, that which this attempt has not had.
    fn to_repeat(&self) -> &[Frame<Bytes>] {
        self.read.as_ref().map_or(&[], |read| &read[self.had..])
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut sent = lock(&self.sent);
        if sent.attempt != self.attempt {
            return Poll::Ready(Some(Err("the request is being sent again".into())));
        }
        sent.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        let sent = lock(&self.sent);
        sent.to_repeat().is_empty() && sent.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let sent = lock(&self.sent);
        let data = sent.to_repeat().iter().filter_map(Frame::data_ref);
        let repeated = data.map(|data| data.len() as u64).sum::<u64>();
        let rest = sent.source.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + repeated);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + repeated);
        }
        hint
    }
}

/// Shares the octets.
fn copy_of(frame: &Frame<Bytes>) -> Frame<Bytes> {
    match (frame.data_ref(), frame.trailers_ref()) {
        (Some(data), _) => Frame::data(data.clone()),
        (None, trailers) => Frame::trailers(trailers.cloned().unwrap_or_default()),
    }
}

/// A lock since a body may be sent to another thread; nobody else wants it.
fn lock(sent: &Mutex<Sent>) -> MutexGuard<'_, Sent> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a connection keeps of its buffer between requests.
const KEPT_BYTES: usize = 8 << 10;
/// How much of a body is held until its response begins, in case it must be sent again.
pub(super) const BODY_KEPT_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_written_request_is_read_back() {
        let written = b"GET /a?b=c HTTP/1.1\r\nhost: x:1\r\naccept: a\r\naccept: b:c\r\nx-bytes: \xff\r\nempty: \r\n\r\n";
        let request = parse(written).unwrap();
        assert_eq!(
            (request.method(), request.uri().to_string().as_str()),
            (&Method::GET, "/a?b=c")
        );
        let fields: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let expected: [(&str, &[u8]); 5] = [
            ("host", b"x:1"),
            ("accept", b"a"),
            ("accept", b"b:c"),
            ("x-bytes", b"\xff"),
            ("empty", b""),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_body_is_read_again_from_its_beginning() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("9"));
        let frames = || {
            let pieces = ["first", "second"].map(|piece| Frame::data(Bytes::from(piece)));
            pieces
                .into_iter()
                .chain([Frame::trailers(trailers.clone())])
        };
        let source = http_body_util::StreamBody::new(futures_util::stream::iter(
            frames().map(Ok::<_, BoxError>),
        ));
        let mut request = Request::new(Body::Boxed(source.boxed_unsync()));
        let kept = SentBody::keep(&mut request).unwrap();
        let next = |body: &mut Body| {
            let frame = body.frame().now_or_never().expect("all is there");
            frame.map(|frame| frame.map(|frame| format!("{frame:?}")))
        };
        let expected: Vec<_> = frames().map(|frame| format!("{frame:?}")).collect();

        for had in 0..=expected.len() {
            let mut body = kept.again().unwrap();
            for expected in &expected[..had] {
                assert_eq!(next(&mut body).unwrap().unwrap(), *expected);
            }
            if had == expected.len() {
                assert!(next(&mut body).is_none());
            }
            let _again = kept.again().unwrap();
            assert!(next(&mut body).unwrap().is_err(), "it is another attempt's");
        }
    }

    #[test]
    fn a_body_that_was_read_too_far_is_not_sent_again() {
        let piece = || Ok::<_, BoxError>(Frame::data(Bytes::from(vec![0; BODY_KEPT_MAX / 2])));
        let pieces = futures_util::stream::iter([piece(), piece(), piece()]);
        let source = http_body_util::StreamBody::new(pieces);
        let mut request = Request::new(Body::Boxed(source.boxed_unsync()));
        let kept = SentBody::keep(&mut request).unwrap();
        for again in [true, true, false] {
            let frame = request.body_mut().frame().now_or_never();
            assert!(frame.expect("all is there").unwrap().is_ok());
            assert_eq!(lock(&kept.0).read.is_some(), again);
        }
        assert!(kept.again().is_none());

        let mut request = Request::new(Body::from(Bytes::from(vec![0; BODY_KEPT_MAX + 1])));
        assert!(SentBody::keep(&mut request).is_none());
        assert_eq!(
            request.body().size_hint().exact(),
            Some(BODY_KEPT_MAX as u64 + 1)
        );
    }

    #[test]
    fn half_a_header_section_is_no_request() {
        for written in [
            "",
            "GET / HTTP/1.1\r\nhost: x",
            "GET / HTTP/1.1\r\nhost: x\r\n",
        ] {
            assert!(parse(written.as_bytes()).is_none(), "{written:?}");
        }
    }
}
