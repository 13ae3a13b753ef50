//! The bytes of a viewer's connection, with what its supervisor must know noted on the way.
//!
//! Three things are done here, since only here they can be: bytes that were read to tell HTTP/2 from HTTP/1.1 are handed
//! out again; reading and writing leave a mark in the [`Activity`]; and the bare response that hyper gives to a request
//! that it cannot read is exchanged for one in the gateway's shape.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::StatusCode;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use super::supervise::Activity;
use crate::stream::Stream;

/// Makes the whole response to a request that could not be read, with the `Date` field line that is given.
pub(super) type Refuse = dyn Fn(StatusCode, &str) -> Bytes;

pub(super) struct Transport {
    io: TokioIo<Stream>,
    /// Read, but not handed out yet.
    prefix: Bytes,
    activity: Rc<Activity>,
    refuse: Option<Rc<Refuse>>,
    /// Ours, on its way out in place of hyper's; `reported` is the length of the latter.
    refusal: Option<Refusal>,
    /// Where small pieces are put together; of no meaning between writes.
    joined: Vec<u8>,
}

struct Refusal {
    bytes: Bytes,
    reported: usize,
}

impl Transport {
    pub(super) fn new(
        stream: Stream,
        prefix: Bytes,
        activity: Rc<Activity>,
        refuse: Option<Rc<Refuse>>,
    ) -> Self {
        Self {
            io: TokioIo::new(stream),
            prefix,
            activity,
            refuse,
            refusal: None,
            joined: Vec::new(),
        }
    }

    pub(super) fn into_inner(self) -> Stream {
        self.io.into_inner()
    }

    fn write_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(refusal) = &mut self.refusal else {
            return Poll::Ready(Ok(0));
        };
        while refusal.bytes.has_remaining() {
            match Pin::new(&mut self.io).poll_write(cx, &refusal.bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => refusal.bytes.advance(written),
                other => return other,
            }
        }
        let reported = refusal.reported;
        self.refusal = None;
        Poll::Ready(Ok(reported))
    }

    /// hyper answers what it cannot parse by itself, with a response that has no content. Outside a request, nothing but
    /// that starts like this and has no field of ours.
    fn refusal_for(&self, buf: &[u8]) -> Option<Refusal> {
        let refuse = self.refuse.as_ref()?;
        if !self.activity.reads_head() {
            return None;
        }
        let (status, date) = own_refusal(buf)?;
        Some(Refusal {
            bytes: refuse(status, date),
            reported: buf.len(),
        })
    }
}

/// The status of a whole error response that has none but hyper's own fields, and its `Date` line.
fn own_refusal(buf: &[u8]) -> Option<(StatusCode, &str)> {
    let text = std::str::from_utf8(buf).ok()?;
    let head = text
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| text.strip_prefix("HTTP/1.0 "))?
        .strip_suffix("\r\n\r\n")?;
    let (status, fields) = head.split_once("\r\n")?;
    let mut date = "";
    for field in fields.split("\r\n") {
        match field.split_once(": ")? {
            ("connection", _) | ("content-length", "0") => {}
            ("date", _) => date = field,
            _ => return None,
        }
    }
    let status = match status.get(..3)? {
        "400" => StatusCode::BAD_REQUEST,
        "414" => StatusCode::URI_TOO_LONG,
        "431" => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => return None,
    };
    Some((status, date))
}

impl Read for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.has_remaining() {
            let len = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix[..len]);
            this.prefix.advance(len);
            this.activity.read();
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if polled.is_ready() {
            this.activity.read();
        }
        polled
    }
}

impl Write for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.refusal.is_none() {
            this.refusal = this.refusal_for(buf);
        }
        let polled = match this.refusal {
            Some(_) => this.write_refusal(cx),
            None => Pin::new(&mut this.io).poll_write(cx, buf),
        };
        this.activity.wrote(polled.is_ready());
        polled
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
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // hyper's own refusal has no body, and so comes in one piece.
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let this = self.get_mut();
        let polled = if bufs.iter().map(|buf| buf.len()).sum::<usize>() <= JOINED_BYTES {
            this.joined.clear();
            bufs.iter()
                .for_each(|buf| this.joined.extend_from_slice(buf));
            Pin::new(&mut this.io).poll_write(cx, &this.joined)
        } else {
            Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
        };
        this.activity.wrote(polled.is_ready());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Header section and body of a small response go out by one send(2): to copy them costs less than writev(2) costs more.
const JOINED_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_response_without_fields_of_ours_is_taken_for_hypers() {
        let own =
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let cases = [
            (own, Some(400)),
            (
                "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                Some(431),
            ),
            (
                "HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\n\r\n",
                Some(414),
            ),
            (
                "HTTP/1.1 400 Bad Request\r\nx-amzn-requestid: 1\r\ncontent-length: 0\r\n\r\n",
                None,
            ),
            (
                "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nhi",
                None,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                own_refusal(text.as_bytes()).map(|(status, _)| status.as_u16()),
                expected,
                "{text:?}"
            );
        }
    }

    /// Whatever is written: only a whole response of hyper's own shape is exchanged, and nothing reaches a panic.
    #[test]
    fn no_bytes_reach_a_panic_or_are_taken_for_hypers_by_mistake() {
        const SAMPLE: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut below = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % bound as u64) as usize
        };
        let mut taken = 0;
        for _ in 0..100_000 {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            for _ in 0..=below(3) {
                let at = below(bytes.len().max(1));
                match below(4) {
                    0 if !bytes.is_empty() => bytes[at] = b"\r\n :0149\xff\xc3x"[below(11)],
                    1 if !bytes.is_empty() => drop(bytes.remove(at)),
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, b"\r\n :0149\xa9c"[below(10)]),
                }
            }
            if let Some((status, date)) = own_refusal(&bytes) {
                taken += 1;
                assert!([400, 414, 431].contains(&status.as_u16()));
                assert!(!date.contains("\r\n"), "{date:?}");
                assert!(bytes.ends_with(b"\r\n\r\n"));
            }
        }
        assert!(taken > 100, "{taken}");
    }
}
