//! The header section that was written last, so that a request can be sent again.
//!
//! hyper takes a request by value and writes it; should the connection turn out to be closed already, it is gone. Cloning
//! each request in case would cost 3 % of its CPU time; copying the few hundred bytes on their way to the socket costs next
//! to nothing, and reading them back is needed only for those that failed.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{HeaderName, HeaderValue, Method, Request, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use crate::body::Body;
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

/// What a connection keeps of its buffer between requests.
const KEPT_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests {
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
