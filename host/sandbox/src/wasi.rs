//! WASI for steps: clocks, random numbers, output into the node's log; no files, no sockets, no environment.
//!
//! There are two forms. The *waiting* one is wasmtime's own. The *calm* one has the same interfaces with functions that
//! never wait, so that a plugin can be called synchronously: a stream that is not ready traps instead.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::io::AsyncWrite;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiView};
use wasmtime_wasi_io::bindings::wasi::io::poll as waiting_poll;
use wasmtime_wasi_io::bindings::wasi::io::streams as waiting;

use crate::capabilities::Services;
use crate::printable::printable;
use crate::recent::Recent;
use crate::wit::Level;

/// The context of one instance: what it prints goes into the node's log, line by line.
pub(crate) fn context(
    services: &Arc<dyn Services>,
    binding: &Arc<str>,
    recent: &Recent,
) -> WasiCtx {
    let output = |level| LogStream {
        services: services.clone(),
        binding: binding.clone(),
        recent: recent.clone(),
        level,
    };
    WasiCtx::builder()
        .stdout(output(Level::Info))
        .stderr(output(Level::Warn))
        .build()
}

/// As [`context`], with environment variables.
pub(crate) fn function_context(
    services: &Arc<dyn Services>,
    function: &Arc<str>,
    environment: &[(String, String)],
    recent: &Recent,
) -> WasiCtx {
    let output = |level| LogStream {
        services: services.clone(),
        binding: function.clone(),
        recent: recent.clone(),
        level,
    };
    WasiCtx::builder()
        .stdout(output(Level::Info))
        .stderr(output(Level::Warn))
        .envs(environment)
        .build()
}

/// Adds the calm form.
///
/// Files and sockets are there by name only: [`waits`] keeps a component that imports them out of this form.
pub(crate) fn add_calm<T: WasiView + 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<T, Calm>(linker, |state| Calm(state.ctx().table))?;
    streams::add_to_linker::<T, Calm>(linker, |state| Calm(state.ctx().table))?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Whether a function of this WASI interface leads to waiting for something other than the instance's own output.
///
/// `wasi:io/poll` alone does not: every Rust component imports `pollable.block` for its standard output, which is always
/// ready. What counts is whether it can get hold of a pollable that is not.
pub(crate) fn waits(interface: &str, function: &str) -> bool {
    let interface = interface.split('@').next().unwrap_or(interface);
    match interface {
        "wasi:clocks/monotonic-clock" => function.starts_with("subscribe"),
        "wasi:filesystem/types" => true,
        _ => interface.starts_with("wasi:sockets/") || interface.starts_with("wasi:http/"),
    }
}

/// The tables of streams and pollables, without waiting.
struct Calm<'a>(&'a mut ResourceTable);

impl HasData for Calm<'static> {
    type Data<'a> = Calm<'a>;
}

/// The value of a future that is ready, or a trap.
fn at_once<T>(future: impl Future<Output = T>) -> wasmtime::Result<T> {
    future.now_or_never().ok_or_else(|| {
        wasmtime::format_err!("a stream would wait, in a plugin that is called synchronously")
    })
}

fn at_once_stream<T>(future: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    at_once(future).map_err(StreamError::Trap)?
}

impl poll::Host for Calm<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        at_once(waiting_poll::Host::poll(self.0, pollables))?
    }
}

impl poll::HostPollable for Calm<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        at_once(waiting_poll::HostPollable::ready(self.0, pollable))?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        at_once(waiting_poll::HostPollable::block(self.0, pollable))?
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        waiting_poll::HostPollable::drop(self.0, pollable)
    }
}

impl streams::Host for Calm<'_> {
    fn convert_stream_error(
        &mut self,
        error: StreamError,
    ) -> wasmtime::Result<streams::StreamError> {
        Ok(waiting::Host::convert_stream_error(self.0, error)?.into())
    }
}

type Output = Resource<streams::OutputStream>;
type Input = Resource<streams::InputStream>;

impl streams::HostOutputStream for Calm<'_> {
    fn drop(&mut self, stream: Output) -> wasmtime::Result<()> {
        at_once(waiting::HostOutputStream::drop(self.0, stream))?
    }

    fn check_write(&mut self, stream: Output) -> StreamResult<u64> {
        waiting::HostOutputStream::check_write(self.0, stream)
    }

    fn write(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        waiting::HostOutputStream::write(self.0, stream, bytes)
    }

    fn blocking_write_and_flush(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        at_once_stream(waiting::HostOutputStream::blocking_write_and_flush(
            self.0, stream, bytes,
        ))
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Output, length: u64) -> StreamResult<()> {
        at_once_stream(waiting::HostOutputStream::blocking_write_zeroes_and_flush(
            self.0, stream, length,
        ))
    }

    fn subscribe(&mut self, stream: Output) -> wasmtime::Result<Resource<DynPollable>> {
        waiting::HostOutputStream::subscribe(self.0, stream)
    }

    fn write_zeroes(&mut self, stream: Output, length: u64) -> StreamResult<()> {
        waiting::HostOutputStream::write_zeroes(self.0, stream, length)
    }

    fn flush(&mut self, stream: Output) -> StreamResult<()> {
        waiting::HostOutputStream::flush(self.0, stream)
    }

    fn blocking_flush(&mut self, stream: Output) -> StreamResult<()> {
        at_once_stream(waiting::HostOutputStream::blocking_flush(self.0, stream))
    }

    fn splice(&mut self, to: Output, from: Input, length: u64) -> StreamResult<u64> {
        waiting::HostOutputStream::splice(self.0, to, from, length)
    }

    fn blocking_splice(&mut self, to: Output, from: Input, length: u64) -> StreamResult<u64> {
        at_once_stream(waiting::HostOutputStream::blocking_splice(
            self.0, to, from, length,
        ))
    }
}

impl streams::HostInputStream for Calm<'_> {
    fn drop(&mut self, stream: Input) -> wasmtime::Result<()> {
        at_once(waiting::HostInputStream::drop(self.0, stream))?
    }

    fn read(&mut self, stream: Input, length: u64) -> StreamResult<Vec<u8>> {
        waiting::HostInputStream::read(self.0, stream, length)
    }

    fn blocking_read(&mut self, stream: Input, length: u64) -> StreamResult<Vec<u8>> {
        at_once_stream(waiting::HostInputStream::blocking_read(
            self.0, stream, length,
        ))
    }

    fn skip(&mut self, stream: Input, length: u64) -> StreamResult<u64> {
        waiting::HostInputStream::skip(self.0, stream, length)
    }

    fn blocking_skip(&mut self, stream: Input, length: u64) -> StreamResult<u64> {
        at_once_stream(waiting::HostInputStream::blocking_skip(
            self.0, stream, length,
        ))
    }

    fn subscribe(&mut self, stream: Input) -> wasmtime::Result<Resource<DynPollable>> {
        waiting::HostInputStream::subscribe(self.0, stream)
    }
}

/// Standard output or standard error of a component: each line becomes a line of the node's log.
struct LogStream {
    services: Arc<dyn Services>,
    binding: Arc<str>,
    recent: Recent,
    level: Level,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(LineWriter::of(self))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(LineWriter::of(self))
    }
}

/// Collects lines; what is left at the end is a line too.
struct LineWriter {
    services: Arc<dyn Services>,
    binding: Arc<str>,
    recent: Recent,
    level: Level,
    line: Vec<u8>,
}

impl LineWriter {
    fn of(stream: &LogStream) -> Self {
        Self {
            services: stream.services.clone(),
            binding: stream.binding.clone(),
            recent: stream.recent.clone(),
            level: stream.level,
            line: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&octet| octet == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        if !self.line.is_empty() {
            let line = String::from_utf8_lossy(&self.line);
            let line = printable(line.trim_end_matches('\r'));
            self.recent.push(&line);
            self.services.log(&self.binding, None, self.level, &line);
            self.line.clear();
        }
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        self.end_line();
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LineWriter {
    async fn ready(&mut self) {}
}

impl OutputStream for LineWriter {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LINE_BYTES_MAX)
    }
}

impl AsyncWrite for LineWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A longer line is cut.
const LINE_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_waited_for_makes_a_plugin_wait() {
        let cases = [
            ("wasi:io/poll@0.2.6", "[method]pollable.block", false),
            (
                "wasi:io/streams@0.2.6",
                "[method]output-stream.blocking-flush",
                false,
            ),
            ("wasi:clocks/monotonic-clock@0.2.6", "now", false),
            (
                "wasi:clocks/monotonic-clock@0.2.6",
                "subscribe-duration",
                true,
            ),
            (
                "wasi:sockets/tcp@0.2.6",
                "[method]tcp-socket.start-connect",
                true,
            ),
        ];
        for (interface, function, expected) in cases {
            assert_eq!(
                waits(interface, function),
                expected,
                "{interface} {function}"
            );
        }
    }
}
