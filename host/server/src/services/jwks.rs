//! Key sets of identity providers: fetched, kept, and refreshed without a stampede.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_sandbox::wit::OutgoingRequest;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::client::Client;

/// The documents fetched so far, by URI.
pub struct KeySets {
    client: Client,
    /// Each document has a lock of its own, held while it is fetched: who comes meanwhile waits for the same answer.
    documents: Mutex<HashMap<String, Arc<Mutex<Document>>>>,
}

#[derive(Default)]
struct Document {
    text: Option<String>,
    fresh_until: Option<Instant>,
    fetched_at: Option<Instant>,
}

impl KeySets {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            documents: Mutex::default(),
        }
    }

    /// The document at `uri`: the kept one while it is fresh, the last good one while a fetch fails. `refresh` fetches it
    /// anew, but not within 30 seconds of the last time.
    pub async fn get(&self, uri: String, refresh: bool) -> Result<String, String> {
        let document = {
            let mut documents = self.documents.lock().await;
            if documents.len() >= DOCUMENTS_MAX && !documents.contains_key(&uri) {
                documents.clear();
            }
            documents.entry(uri.clone()).or_default().clone()
        };
        let mut document = document.lock().await;
        let now = Instant::now();
        let fresh = document.fresh_until.is_some_and(|until| now < until);
        let lately = document
            .fetched_at
            .is_some_and(|at| now.duration_since(at) < REFRESH_PAUSE);
        if let Some(text) = &document.text
            && (lately || (fresh && !refresh))
        {
            return Ok(text.clone());
        }
        document.fetched_at = Some(now);
        match self.fetch(&uri).await {
            Ok((text, lifetime)) => {
                document.fresh_until = Some(now + lifetime);
                document.text = Some(text.clone());
                Ok(text)
            }
            Err(problem) => match &document.text {
                Some(text) => {
                    tracing::warn!(
                        uri,
                        problem,
                        "key set cannot be fetched: the last good one serves on"
                    );
                    Ok(text.clone())
                }
                None => Err(problem),
            },
        }
    }

    async fn fetch(&self, uri: &str) -> Result<(String, Duration), String> {
        let request = OutgoingRequest {
            method: "GET".to_owned(),
            uri: uri.to_owned(),
            headers: vec![("accept".to_owned(), "application/json".to_owned())],
            body: Vec::new(),
            timeout_ms: 5000,
        };
        let response = self
            .client
            .send_whole(request)
            .await
            .map_err(|error| format!("{uri}: {error}"))?;
        if response.status != 200 {
            return Err(format!("{uri} answered {}", response.status));
        }
        let max_age = response
            .headers
            .iter()
            .find(|(name, _)| name == "cache-control")
            .and_then(|(_, value)| max_age(value));
        let text = String::from_utf8(response.body).map_err(|_| format!("{uri} is not UTF-8"))?;
        Ok((
            text,
            max_age
                .unwrap_or(LIFETIME)
                .clamp(REFRESH_PAUSE, LIFETIME_MAX),
        ))
    }
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let seconds = cache_control
        .split(',')
        .find_map(|directive| directive.trim().strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// The contract's: a key set without a lifetime.
const LIFETIME: Duration = Duration::from_secs(300);
/// A key that was withdrawn is not believed for longer, whatever the provider says.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// The contract's: tokens with unknown keys cannot make the node ask more often.
const REFRESH_PAUSE: Duration = Duration::from_secs(30);
const DOCUMENTS_MAX: usize = 1000;
