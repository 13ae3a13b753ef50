//! A client of a node's admin address, for the commands that speak to one.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::plugin::Artifact;
use crate::signature;

/// Which node a command speaks to.
#[derive(Debug, Args)]
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

    fn send(&self, method: Method, path: &str, artifact: Option<Artifact>) -> Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let exchange = self.exchange(method, path, artifact);
        runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await })?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        artifact: Option<Artifact>,
    ) -> Result<Value> {
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
        let response = sender.send_request(request).await?;
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
}

/// The largest components take a compiler a good while.
const PATIENCE: Duration = Duration::from_secs(300);
const ANSWER_BYTES_MAX: usize = 16 << 20;
