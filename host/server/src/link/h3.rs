//! Bodies over HTTP/3 streams, both ways.
//!
//! A stream that is dropped half-way must not look finished: quinn finishes what is dropped, so a [`Sending`] resets it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use h3_quinn::{RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::task::AbortHandle;

use crate::body::{Body, BodyError, BoxError};

pub(super) type ClientReceiving = h3::client::RequestStream<RecvStream, Bytes>;
pub(super) type ServerReceiving = h3::server::RequestStream<RecvStream, Bytes>;
pub(super) type ClientSending = h3::client::RequestStream<SendStream<Bytes>, Bytes>;
pub(super) type ServerSending = h3::server::RequestStream<SendStream<Bytes>, Bytes>;

/// The receiving half of a request's stream, on either side.
pub(super) trait Receive: Send + Unpin + 'static {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>>;
    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, StreamError>>;
}

/// The sending half of a request's stream, on either side.
pub(super) trait Transmit: 'static {
    fn data(&mut self, data: Bytes) -> impl Future<Output = Result<(), StreamError>>;
    fn trailers(&mut self, trailers: HeaderMap) -> impl Future<Output = Result<(), StreamError>>;
    fn finish(&mut self) -> impl Future<Output = Result<(), StreamError>>;
    fn reset(&mut self, code: Code);
}

macro_rules! halves {
    ($receiving:ty, $sending:ty) => {
        impl Receive for $receiving {
            fn poll_data(
                &mut self,
                cx: &mut Context<'_>,
            ) -> Poll<Result<Option<Bytes>, StreamError>> {
                self.poll_recv_data(cx).map_ok(|data| {
                    data.map(|mut data| data.copy_to_bytes(data.remaining())) // shared, not copied: it is one piece
                })
            }

            fn poll_trailers(
                &mut self,
                cx: &mut Context<'_>,
            ) -> Poll<Result<Option<HeaderMap>, StreamError>> {
                self.poll_recv_trailers(cx)
            }
        }

        impl Transmit for $sending {
            async fn data(&mut self, data: Bytes) -> Result<(), StreamError> {
                self.send_data(data).await
            }

            async fn trailers(&mut self, trailers: HeaderMap) -> Result<(), StreamError> {
                self.send_trailers(trailers).await
            }

            async fn finish(&mut self) -> Result<(), StreamError> {
                <$sending>::finish(self).await
            }

            fn reset(&mut self, code: Code) {
                self.stop_stream(code);
            }
        }
    };
}

halves!(ClientReceiving, ClientSending);
halves!(ServerReceiving, ServerSending);

/// What arrives on a stream, as a body; `left` is its length, where that is known. `upload` is stopped with it: the request's
/// own body, where that is still sent.
pub(super) fn received(receiving: impl Receive, left: Option<u64>, upload: Option<Upload>) -> Body {
    if left == Some(0) && upload.is_none() {
        return Body::Empty;
    }
    Body::Boxed(UnsyncBoxBody::new(Received {
        receiving,
        left,
        at: At::Data,
        _upload: upload,
    }))
}

/// The length that a head tells of its body.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A request's body that is still being sent; it is given up when this is dropped.
pub(super) struct Upload(pub(super) AbortHandle);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Received<R> {
    receiving: R,
    /// Bytes that are still to come.
    left: Option<u64>,
    at: At,
    _upload: Option<Upload>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Data,
    Trailers,
    End,
}

impl<R: Receive> http_body::Body for Received<R> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match self.at {
                At::Data => match std::task::ready!(self.receiving.poll_data(cx)) {
                    Ok(Some(data)) => {
                        let bytes = data.len() as u64;
                        return match self.left.map(|left| left.checked_sub(bytes)) {
                            Some(None) => self.failed("more came than was announced".into()),
                            left => {
                                self.left = left.flatten();
                                Poll::Ready(Some(Ok(Frame::data(data))))
                            }
                        };
                    }
                    Ok(None) if self.left.is_some_and(|left| left > 0) => {
                        return self.failed("less came than was announced".into());
                    }
                    Ok(None) => self.at = At::Trailers,
                    Err(error) => return self.failed(error.into()),
                },
                At::Trailers => match std::task::ready!(self.receiving.poll_trailers(cx)) {
                    Ok(trailers) => {
                        self.at = At::End;
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    Err(error) => return self.failed(error.into()),
                },
                At::End => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Nothing is polled any more once the announced length has come, so that is the end.
        self.at == At::End || self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl<R> Received<R> {
    fn failed(&mut self, error: BoxError) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        (self.at, self.left) = (At::End, None);
        Poll::Ready(Some(Err(error)))
    }
}

/// Why a body was not sent whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the body failed")]
    Body(#[source] BodyError),
    #[error("the stream failed")]
    Stream(#[source] StreamError),
}

/// A stream that is being sent on; reset where it is dropped before its end.
pub(super) struct Sending<S: Transmit> {
    stream: S,
    open: bool,
}

impl<S: Transmit> Sending<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, open: true }
    }

    /// Sends a body to its end. Waits where the receiver's window is full: that is the back-pressure.
    ///
    /// # Cancel safety
    /// Dropped, it resets the stream.
    pub(super) async fn body(mut self, mut body: Body) -> Result<(), SendError> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(SendError::Body)?; // the drop resets
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => self.stream.data(data).await.map_err(SendError::Stream)?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let sent = self.stream.trailers(trailers).await;
                        sent.map_err(SendError::Stream)?;
                    }
                }
            }
        }
        self.stream.finish().await.map_err(SendError::Stream)?;
        self.open = false;
        Ok(())
    }
}

impl<S: Transmit> Drop for Sending<S> {
    fn drop(&mut self) {
        if self.open {
            self.stream.reset(Code::H3_REQUEST_CANCELLED);
        }
    }
}

/// A head without its body.
pub(super) fn split_request(request: Request<Body>) -> (Request<()>, Body) {
    let (head, body) = request.into_parts();
    (Request::from_parts(head, ()), body)
}

/// A head without its body.
pub(super) fn split_response(response: Response<Body>) -> (Response<()>, Body) {
    let (head, body) = response.into_parts();
    (Response::from_parts(head, ()), body)
}
