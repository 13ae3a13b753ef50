//! `tidegate bench-step`: what one step call costs, for the benchmark's table.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tidegate_sandbox::wit::Verdict;
use tidegate_sandbox::{
    Binding, BindingOptions, Exchange, Grants, Kept, Limits, Pool, Runtime, Settings, Step,
};

use crate::services::nothing::NoServices;

/// Calls an authorizer in a loop, warm and (unless `only_warm`) with a fresh instance each time, and prints nanoseconds of CPU
/// per call.
pub fn run(component: &Path, only_warm: bool, artifacts: Option<PathBuf>) -> Result<ExitCode> {
    let bytes = std::fs::read(component).with_context(|| component.display().to_string())?;
    let plugin = Runtime::new(Settings {
        artifacts,
        ..Settings::default()
    })?;
    let plugin = (plugin.plugin(&bytes)?, plugin);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let warm = runtime.block_on(measure(&plugin.0, true, WARM_CALLS))?;
    let fresh = match only_warm {
        true => None,
        false => Some(runtime.block_on(measure(&plugin.0, false, FRESH_CALLS))?),
    };
    println!(
        "{}",
        serde_json::json!({ "warm_call_ns": warm, "fresh_instance_ns": fresh })
    );
    Ok(ExitCode::SUCCESS)
}

async fn measure(plugin: &Arc<tidegate_sandbox::Plugin>, reuse: bool, calls: u32) -> Result<u64> {
    let options = BindingOptions {
        name: "bench".to_owned(),
        step: Step::Authorizer,
        configuration: "{}".to_owned(),
        grants: Grants::default(),
        limits: Limits {
            deadline: Duration::from_secs(1),
            start_deadline: Duration::from_secs(5),
            memory_bytes: 64 << 20,
            instances_max: 4,
        },
        reuse,
        kept: Kept::default(),
    };
    let pool = Pool::new(Binding::new(plugin.clone(), options, Arc::new(NoServices)).await?);
    let exchange: Arc<dyn Exchange> = Arc::new(FiveHeaders::new());
    for _ in 0..calls / 10 {
        pool.authorize(exchange.clone()).await?;
    }
    let (began, allowed) = (cpu_time()?, Instant::now());
    for _ in 0..calls {
        ensure!(
            matches!(pool.authorize(exchange.clone()).await?, Verdict::Allow(_)),
            "the authorizer refused"
        );
    }
    let took = cpu_time()?.saturating_sub(began).min(allowed.elapsed());
    Ok(u64::try_from(took.as_nanos() / u128::from(calls)).unwrap_or(u64::MAX))
}

/// CPU time of this thread (proc_pid_schedstat: nanoseconds on a CPU).
fn cpu_time() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("schedstat")?;
    let nanoseconds = text
        .split_whitespace()
        .next()
        .context("schedstat is empty")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// A request with the headers that the authorizer looks up.
struct FiveHeaders(HeaderMap);

impl FiveHeaders {
    fn new() -> Self {
        let mut headers = HeaderMap::new();
        for name in ["x-one", "x-two", "x-three", "x-four", "x-five"] {
            headers.insert(name, HeaderValue::from_static("some value"));
        }
        for name in ["host", "user-agent", "accept", "accept-encoding"] {
            headers.insert(name, HeaderValue::from_static("as browsers send it"));
        }
        Self(headers)
    }
}

impl Exchange for FiveHeaders {
    fn method(&self) -> &str {
        "GET"
    }

    fn path(&self) -> &str {
        "/"
    }

    fn query_string(&self) -> Option<&str> {
        None
    }

    fn headers(&self) -> &HeaderMap {
        &self.0
    }

    fn query_parameter(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn query_parameters(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn path_parameter(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn path_parameters(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn stage_variable(&self, _: &str) -> Option<&str> {
        None
    }

    fn context(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn body(&self) -> Option<&Bytes> {
        None
    }

    fn response(&self) -> Option<(StatusCode, &HeaderMap)> {
        None
    }

    fn response_body(&self) -> Option<&Bytes> {
        None
    }

    fn scope(&self) -> &str {
        "bench/bench"
    }
}

const WARM_CALLS: u32 = 200_000;
const FRESH_CALLS: u32 = 5_000;
