//! One run of wrk against one server, with the server's CPU time.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::systems::pinned;
use crate::process::{cpu_time, find};

/// What to ask of which process.
pub struct Load {
    pub case: &'static str,
    pub system: &'static str,
    pub url: String,
    pub headers: Vec<String>,
    /// The process under test.
    pub pid: u32,
    /// Another one, whose CPU time counts as well.
    pub beside: Option<u32>,
    /// Where there is one, each request is for the next of so many paths: the URL's, followed by a number from 0.
    pub rotate: Option<u32>,
    /// As many requests as keep the server busy half of the time, at times of their own: latency that is not made of waiting for
    /// the requests before.
    pub at_half: bool,
}

/// What one run showed. Latencies and CPU time are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub requests_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// CPU time of the process under test for each request.
    pub cpu_us: f64,
}

impl Load {
    /// Runs the load for `seconds`.
    ///
    /// # Errors
    /// Where any request failed: a figure for errors answered quickly says nothing.
    pub fn run(&self, folder: &Path, seconds: u32, connections: u32) -> anyhow::Result<Sample> {
        if !self.at_half {
            return self.run_with(folder, seconds, connections, "");
        }
        let paced = self.half(folder, connections)?;
        self.run_paced(folder, seconds, paced)
    }

    /// How many connections of [`Self::run_paced`] keep the server's core busy half of the time. Half of the most that it can
    /// answer to connections that never pause is where it begins: with time in between, a request costs another time.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn half(&self, folder: &Path, connections: u32) -> anyhow::Result<u32> {
        let most = self.run_with(folder, 1, connections, "")?.requests_per_s;
        let mut paced = (most / 2.0 * PAUSE_MS / 1000.0).max(1.0);
        for _ in 0..2 {
            let sample = self.run_paced(folder, 1, paced.round() as u32)?;
            let busy = sample.cpu_us * sample.requests_per_s / 1e6;
            paced = (paced * 0.5 / busy).max(1.0);
        }
        Ok(paced.round() as u32)
    }

    /// Runs the load for `seconds`; each connection sends one request in so many milliseconds on average, by chance between none
    /// and twice as many.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_paced(
        &self,
        folder: &Path,
        seconds: u32,
        connections: u32,
    ) -> anyhow::Result<Sample> {
        let pace = PACE.replace("PAUSE", &(PAUSE_MS * 2.0).to_string());
        self.run_with(folder, seconds, connections, &pace)
    }

    fn run_with(
        &self,
        folder: &Path,
        seconds: u32,
        connections: u32,
        pace: &str,
    ) -> anyhow::Result<Sample> {
        let script = folder.join("report.lua");
        let rotate = self
            .rotate
            .map(|paths| ROTATE.replace("PATHS", &paths.to_string()));
        fs::write(&script, rotate.unwrap_or_default() + pace + REPORT)?;
        let wrk = find("wrk").context("wrk is gone")?;
        let mut command: Command = pinned(1, &wrk);
        command
            .args([
                "-t1",
                &format!("-c{connections}"),
                &format!("-d{seconds}s"),
                "--timeout",
                "10s",
                "-s",
            ])
            .arg(&script);
        for header in &self.headers {
            command.args(["-H", header]);
        }
        let used = || -> anyhow::Result<Duration> {
            let beside = self.beside.map_or(Ok(Duration::ZERO), cpu_time)?;
            Ok(cpu_time(self.pid)? + beside)
        };
        let before = used()?;
        let output = command
            .arg(&self.url)
            .output()
            .context("cannot start wrk")?;
        let used = used()? - before;
        let text = String::from_utf8_lossy(&output.stdout);
        let (requests, sample) = parse(&text).with_context(|| {
            format!(
                "wrk said: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        })?;
        if sample.errors > 0 {
            bail!(
                "{} {}: {} of {requests} requests failed",
                self.case,
                self.system,
                sample.errors
            );
        }
        if requests == 0 {
            bail!("{} {}: no request was answered", self.case, self.system);
        }
        Ok(Sample {
            cpu_us: used.as_secs_f64() * 1e6 / requests as f64,
            ..sample.figures
        })
    }
}

struct Parsed {
    errors: u64,
    figures: Sample,
}

/// Reads the line that our script prints.
fn parse(output: &str) -> Option<(u64, Parsed)> {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("REPORT "))?;
    let report: Value = serde_json::from_str(line).ok()?;
    let figure = |name: &str| report[name].as_f64();
    let requests = report["requests"].as_u64()?;
    let figures = Sample {
        requests_per_s: requests as f64 * 1e6 / figure("duration_us")?,
        p50_us: figure("p50_us")?,
        p99_us: figure("p99_us")?,
        p999_us: figure("p999_us")?,
        cpu_us: 0.0,
    };
    Some((
        requests,
        Parsed {
            errors: report["errors"].as_u64()?,
            figures,
        },
    ))
}

const ROTATE: &str = r#"
local place = 0
request = function()
  place = (place + 1) % PATHS
  return wrk.format(nil, wrk.path .. place)
end
"#;

const PACE: &str = r#"
delay = function()
  return math.random(0, PAUSE)
end
"#;

const PAUSE_MS: f64 = 10.0;

/// wrk prints rounded latencies; its script interface has them in microseconds.
const REPORT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'REPORT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,"errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_line_is_found_among_what_wrk_prints() {
        let output = "Running 5s test\nREPORT {\"requests\":1000,\"duration_us\":2000000,\"p50_us\":10,\"p99_us\":20,\"p999_us\":30,\"errors\":1}\n";
        let (requests, parsed) = parse(output).unwrap();
        assert_eq!((requests, parsed.errors), (1000, 1));
        assert_eq!(
            parsed.figures,
            Sample {
                requests_per_s: 500.0,
                p50_us: 10.0,
                p99_us: 20.0,
                p999_us: 30.0,
                cpu_us: 0.0
            }
        );
        assert!(parse("unable to connect to 127.0.0.1:1").is_none());
    }
}
