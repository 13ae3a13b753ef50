//! A client of a node's admin address, for the commands that speak to one.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::plugin::Artifact;
use crate::signature;

/// Which node a command speaks to.
#[derive(Debug, Clone, Args)]
pub struct Node {
    /// The node's admin address.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9080",
        env = "TIDEGATE_ADMIN"
    )]
    admin: String,
}

impl Node {
    /// Whether anything listens at its address.
    pub fn is_there(&self) -> bool {
        std::net::TcpStream::connect(&self.admin).is_ok()
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// Where the node is not there, or refuses; with what it says.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None)
    }

    /// Sends a change.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn put(&self, path: &str) -> Result<Value> {
        self.send(Method::PUT, path, None)
    }

    /// Sends a component, with its signature where it has one.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn put_component(&self, path: &str, artifact: Artifact) -> Result<Value> {
        self.send(Method::PUT, path, Some(artifact))
    }

    /// Hands over an answer line by line, for as long as there are some.
    ///
    /// # Errors
    /// As [`Self::get`], and what `on_line` returns.
    pub fn follow(&self, path: &str, on_line: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.read_lines(path, on_line))
    }

    async fn read_lines(
        &self,
        path: &str,
        mut on_line: impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let (response, driver) = self.ask(Method::GET, path, None).await?;
        let failed = !response.status().is_success();
        let mut body = response.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the node's answer broke off")?;
            rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                on_line(String::from_utf8_lossy(&line).trim_end())?;
            }
            if rest.len() > ANSWER_BYTES_MAX {
                bail!("the node's answer has a line without an end");
            }
        }
        driver.abort();
        if failed {
            let answer: Value = serde_json::from_slice(&rest).unwrap_or_default();
            bail!("{}", answer["message"].as_str().unwrap_or("refused"));
        }
        Ok(())
    }

    fn send(&self, method: Method, path: &str, artifact: Option<Artifact>) -> Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let exchange = self.exchange(method, path, artifact);
        let patient = runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await });
        patient.with_context(|| {
            format!(
                "no answer for {} s; the node may do yet what it was asked: `tidegate plugin list` shows",
                PATIENCE.as_secs()
            )
        })?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        artifact: Option<Artifact>,
    ) -> Result<Value> {
        let (response, driver) = self.ask(method, path, artifact).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the node's answer broke off: {error}"))?
            .to_bytes();
        driver.abort();
        let answer: Value =
            serde_json::from_slice(&body).context("the node's answer is no JSON")?;
        if !status.is_success() {
            bail!("{}", answer["message"].as_str().unwrap_or("refused"));
        }
        Ok(answer)
    }

    /// Sends a request; gives the answer's head, and what moves the connection meanwhile.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        artifact: Option<Artifact>,
    ) -> Result<(Response<Incoming>, JoinHandle<hyper::Result<()>>)> {
        let stream = TcpStream::connect(&self.admin).await.with_context(|| {
            format!(
                "no node answers at {}: is it running, and is this its [admin] address? (--admin)",
                self.admin
            )
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let (component, signature) = match artifact {
            Some(artifact) => (artifact.component, artifact.signature),
            None => (Vec::new(), None),
        };
        let mut request = Request::new(Full::new(Bytes::from(component)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse()?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.admin.parse()?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/wasm"));
        if let Some(line) = signature {
            let line = HeaderValue::from_str(line.trim()).context("the signature is no line")?;
            headers.insert(signature::HEADER, line);
        }
        Ok((sender.send_request(request).await?, driver))
    }
}

/// The largest components take a compiler a good while.
const PATIENCE: Duration = Duration::from_secs(300);
const ANSWER_BYTES_MAX: usize = 16 << 20;
