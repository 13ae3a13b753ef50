//! From samples to rows, and from rows to the table and the JSON file.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Measured, Sample, StepCosts};

/// A line of the result; what a case does not have is `None`.
#[derive(Debug, Default, PartialEq)]
pub struct Row {
    pub case: String,
    pub system: String,
    pub requests_per_s: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    pub cpu_us_per_request: Option<f64>,
    pub cpu_ratio_to_nginx: Option<f64>,
    /// Where Varnish does the same.
    pub cpu_ratio_to_varnish: Option<f64>,
    /// The others as ratios to nginx's, for the table.
    pub to_nginx: Ratios,
    /// Resident memory, where that is what is measured.
    pub rss_bytes: Option<f64>,
}

/// Figures as ratios to nginx's plain proxying.
#[derive(Debug, Default, PartialEq)]
pub struct Ratios {
    requests_per_s: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
}

/// The medians over the rounds. A ratio is taken within its round, where the machine was the same for both: to nginx in the
/// same case, or to `nginx` where it has none of that case.
pub fn rows(measured: &Measured, nginx: &(&'static str, &'static str)) -> Vec<Row> {
    let base = |case| measured.get(&(case, "nginx")).or(measured.get(nginx));
    let row = |((case, system), samples): (&(&'static str, &str), &Vec<Sample>)| {
        let ratio = |figure: fn(&Sample) -> f64, peer: &[Sample]| {
            let pairs = samples.iter().zip(peer);
            median(pairs.map(|(sample, peer)| figure(sample) / figure(peer)))
        };
        let to_nginx = |figure| base(*case).map(|nginx| ratio(figure, nginx));
        let varnish = measured.get(&(*case, "varnish"));
        Row {
            case: (*case).into(),
            system: (*system).into(),
            requests_per_s: Some(median(samples.iter().map(|sample| sample.requests_per_s))),
            p50_us: Some(median(samples.iter().map(|sample| sample.p50_us))),
            p99_us: Some(median(samples.iter().map(|sample| sample.p99_us))),
            p999_us: Some(median(samples.iter().map(|sample| sample.p999_us))),
            cpu_us_per_request: Some(median(samples.iter().map(|sample| sample.cpu_us))),
            cpu_ratio_to_nginx: to_nginx(|sample| sample.cpu_us),
            cpu_ratio_to_varnish: varnish.map(|varnish| ratio(|sample| sample.cpu_us, varnish)),
            to_nginx: Ratios {
                requests_per_s: to_nginx(|sample| sample.requests_per_s),
                p50_us: to_nginx(|sample| sample.p50_us),
                p99_us: to_nginx(|sample| sample.p99_us),
                p999_us: to_nginx(|sample| sample.p999_us),
            },
            rss_bytes: None,
        }
    };
    measured.iter().map(row).collect()
}

/// What a call costs by itself, in every round; the ratio is to what nginx took for a request in that round.
pub fn steps(costs: &StepCosts, nginx: Option<&[Sample]>) -> Vec<Row> {
    let row = |(case, costs): (&&'static str, &Vec<f64>)| {
        let ratio = |nginx: &[Sample]| {
            let pairs = costs.iter().zip(nginx);
            median(pairs.map(|(cost, nginx)| cost / nginx.cpu_us))
        };
        Row {
            case: (*case).into(),
            system: "tidegate".into(),
            cpu_us_per_request: Some(median(costs.iter().copied())),
            cpu_ratio_to_nginx: nginx.map(ratio),
            ..Row::default()
        }
    };
    costs.iter().map(row).collect()
}

/// The memory of an idle node, in bytes.
pub fn idle(resident: &[f64]) -> Row {
    let row = Row {
        case: "idle-rss".into(),
        system: "tidegate".into(),
        ..Row::default()
    };
    Row {
        rss_bytes: Some(median(resident.iter().copied())),
        ..row
    }
}

/// The time from a node's start to its ready line, in microseconds; the slowest stands as the 99th percentile.
pub fn start(starts: &[f64]) -> Row {
    let row = Row {
        case: "start".into(),
        system: "tidegate".into(),
        ..Row::default()
    };
    Row {
        p50_us: Some(median(starts.iter().copied())),
        p99_us: starts.iter().copied().reduce(f64::max),
        ..row
    }
}

/// The middle value, or the mean of both middle ones; 0 of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

pub fn json(rows: &[Row]) -> String {
    let objects: Vec<Value> = rows.iter().map(object).collect();
    let mut text = serde_json::to_string_pretty(&objects).unwrap_or_default();
    text.push('\n');
    text
}

fn object(row: &Row) -> Value {
    let mut object = json!({
        "case": row.case,
        "system": row.system,
        "requests_per_s": rounded(row.requests_per_s),
        "p50_us": rounded(row.p50_us),
        "p99_us": rounded(row.p99_us),
        "p999_us": rounded(row.p999_us),
        "cpu_us_per_request": rounded(row.cpu_us_per_request),
        "cpu_ratio_to_nginx": rounded(row.cpu_ratio_to_nginx),
    });
    if let Some(ratio) = row.cpu_ratio_to_varnish {
        object["cpu_ratio_to_varnish"] = json!(rounded(Some(ratio)));
    }
    if let Some(bytes) = row.rss_bytes {
        object["rss_bytes"] = json!(bytes as u64);
    }
    object
}

/// Three decimals are more than the measurement gives.
fn rounded(value: Option<f64>) -> Option<f64> {
    value.map(|value| (value * 1000.0).round() / 1000.0)
}

pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "\n{:<17} {:<17} {:>16} {:>16} {:>16} {:>16} {:>16}\n",
        "case", "system", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs"
    );
    for row in rows {
        if let Some(bytes) = row.rss_bytes {
            let _ = writeln!(
                text,
                "{:<17} {:<17} {:>6.1} MiB resident",
                row.case,
                row.system,
                bytes / f64::from(1 << 20)
            );
            continue;
        }
        let _ = writeln!(
            text,
            "{:<17} {:<17} {:>16} {:>16} {:>16} {:>16} {:>16}",
            row.case,
            row.system,
            cell(row.requests_per_s, 0, row.to_nginx.requests_per_s),
            cell(row.p50_us, 1, row.to_nginx.p50_us),
            cell(row.p99_us, 1, row.to_nginx.p99_us),
            cell(row.p999_us, 1, row.to_nginx.p999_us),
            cell(row.cpu_us_per_request, 2, row.cpu_ratio_to_nginx),
        );
        if let (Some(ratio), true) = (row.cpu_ratio_to_varnish, row.system != "varnish") {
            let _ = writeln!(text, "{:<17} {:<17} CPU ×{ratio:.2} of Varnish's", "", "");
        }
    }
    text.push_str("(×n): as a ratio to nginx's plain proxying, the median of the rounds\n");
    text
}

/// What swaps and many plugins may cost, and whether they did: a line for each bound whose figures were measured.
pub fn verdicts(rows: &[Row]) -> String {
    let figure = |case: &str, system: &str, figure: fn(&Row) -> Option<f64>| {
        let found = rows
            .iter()
            .find(|row| row.case == case && row.system == system);
        found.and_then(figure)
    };
    let p99 = |system| figure("swap", system, |row| row.p99_us);
    let p50 = |system| figure("swap", system, |row| row.p50_us);
    let cpu = |system| figure("many-plugins", system, |row| row.cpu_us_per_request);
    let mut bounds = vec![
        (
            "a Rust plugin's way from a registry into traffic to 300 ms",
            Some(RUST_SWAP_US_MAX),
            p50("tidegate-rust-first"),
            1.0,
        ),
        (
            "a JavaScript plugin's to its bare compile time",
            p50("tidegate-javascript-bare"),
            p50("tidegate-javascript-first"),
            JAVASCRIPT_RATIO_MAX,
        ),
        (
            "p99 of a swap's second to the second before",
            p99("quiet-second"),
            p99("swap-second"),
            P99_RATIO_MAX,
        ),
        (
            "a node with 500 plugins to 3 GiB",
            Some(MANY_BYTES_MAX),
            figure("many-plugins", "500-plugins", |row| row.rss_bytes),
            1.0,
        ),
        (
            "a request to one of 500 plugins to one where it is alone",
            cpu("1-of-1"),
            cpu("1-of-500"),
            MANY_RATIO_MAX,
        ),
        (
            "a request to each of 500 plugins in turn to one where it is alone",
            cpu("1-of-1"),
            cpu("500-of-500"),
            MANY_RATIO_MAX,
        ),
        (
            "the same of plugins that have their code in common",
            cpu("1-of-1"),
            cpu("500-same-code"),
            MANY_RATIO_MAX,
        ),
    ];
    for (what, ending) in [
        ("memory after all swaps to that after 500", ""),
        ("the same under load", "-under-load"),
    ] {
        let memory = rows.iter().filter(|row| {
            let under_load = row.system.ends_with("-under-load");
            row.case == "swap-memory" && under_load != ending.is_empty()
        });
        let mut memory = memory.filter_map(|row| row.rss_bytes);
        let (early, late) = (memory.next(), memory.next());
        bounds.push((what, early, late, MEMORY_RATIO_MAX));
    }
    let mut text = String::new();
    for (what, before, after, bound) in bounds {
        let (Some(before), Some(after)) = (before, after) else {
            continue;
        };
        let ratio = after / before;
        let verdict = if ratio <= bound { "met" } else { "MISSED" };
        let _ = writeln!(text, "{what}: ×{ratio:.2}, at most ×{bound:.2}: {verdict}");
    }
    text
}

/// A figure, and behind it its ratio to nginx's.
fn cell(value: Option<f64>, decimals: usize, ratio: Option<f64>) -> String {
    match (value, ratio) {
        (None, _) => "–".into(),
        (Some(value), None) => format!("{value:.decimals$}"),
        (Some(value), Some(ratio)) => format!("{value:.decimals$} (×{ratio:.2})"),
    }
}

const RUST_SWAP_US_MAX: f64 = 300_000.0;
const JAVASCRIPT_RATIO_MAX: f64 = 1.5;
const P99_RATIO_MAX: f64 = 1.5;
const MANY_BYTES_MAX: f64 = 3.0 * (1u64 << 30) as f64;
/// What is aimed at, no slower but for what the figures vary. Where each has its own code and all take turns, it is for the
/// processor's cache to hold all of it.
const MANY_RATIO_MAX: f64 = 1.1;
/// What allocators keep is more than nothing.
const MEMORY_RATIO_MAX: f64 = 1.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swaps_are_judged_by_their_second_and_by_what_they_leave() {
        let row = |case: &str, system: &str, p99_us, rss_bytes| Row {
            case: case.into(),
            system: system.into(),
            p50_us: p99_us,
            p99_us,
            rss_bytes,
            ..Row::default()
        };
        let rows = [
            row("swap", "tidegate-rust-first", Some(150_000.0), None),
            row("swap", "quiet-second", Some(100.0), None),
            row("swap", "swap-second", Some(151.0), None),
            row("swap-memory", "after-500", None, Some(100.0)),
            row("swap-memory", "after-10000", None, Some(104.0)),
            row("swap-memory", "after-500-under-load", None, Some(100.0)),
            row("swap-memory", "after-10000-under-load", None, Some(106.0)),
        ];
        let words = |text: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.rsplit_once(": "));
            lines.map(|(_, verdict)| verdict.to_owned()).collect()
        };
        assert_eq!(words(&verdicts(&rows)), ["met", "MISSED", "met", "MISSED"]);
        assert_eq!(words(&verdicts(&rows[1..2])), Vec::<String>::new());
        assert!(verdicts(&rows).contains("×1.51, at most ×1.50"));

        let many = |system: &str, cpu_us_per_request| Row {
            cpu_us_per_request,
            ..row("many-plugins", system, None, Some(4e9))
        };
        let rows = [
            many("1-of-1", Some(10.0)),
            many("1-of-500", Some(10.5)),
            many("500-of-500", Some(20.0)),
            many("500-same-code", Some(11.0)),
            many("500-plugins", None),
        ];
        assert_eq!(words(&verdicts(&rows)), ["MISSED", "met", "MISSED", "met"]);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_ones() {
        let cases: [(&[f64], f64); 4] = [
            (&[], 0.0),
            (&[3.0], 3.0),
            (&[9.0, 1.0, 2.0], 2.0),
            (&[4.0, 1.0, 2.0, 9.0], 3.0),
        ];
        for (values, expected) in cases {
            assert_eq!(median(values.iter().copied()), expected, "{values:?}");
        }
    }

    fn sample(cpu_us: f64) -> Sample {
        Sample {
            requests_per_s: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
            p999_us: 1.0,
            cpu_us,
        }
    }

    #[test]
    fn a_ratio_compares_runs_of_the_same_round() {
        let measured = Measured::from([
            (
                ("bare", "nginx"),
                vec![sample(10.0), sample(20.0), sample(30.0)],
            ),
            (
                ("bare", "tidegate"),
                vec![sample(11.0), sample(22.0), sample(33.0)],
            ),
        ]);
        let rows = rows(&measured, &("bare", "nginx"));
        assert_eq!(rows[1].cpu_ratio_to_nginx, Some(1.1));
        assert_eq!(rows[1].to_nginx.p99_us, Some(1.0));
        let table = table(&rows);
        let line = table.lines().find(|line| line.contains("tidegate"));
        let line = line.expect("a line of its own");
        assert_eq!(line.matches("(×1.00)").count(), 4, "{line}");
        assert!(line.ends_with("22.00 (×1.10)"), "{line}");
        let object = object(&rows[1]);
        let fields: Vec<&str> = object
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let expected = [
            "case",
            "system",
            "requests_per_s",
            "p50_us",
            "p99_us",
            "p999_us",
            "cpu_us_per_request",
            "cpu_ratio_to_nginx",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn where_varnish_does_the_same_its_cpu_is_compared() {
        let measured = Measured::from([
            (("cache-hit", "nginx"), vec![sample(20.0)]),
            (("cache-hit", "tidegate"), vec![sample(10.0)]),
            (("cache-hit", "varnish"), vec![sample(40.0)]),
        ]);
        let rows = rows(&measured, &("bare", "nginx"));
        let tidegate = rows.iter().find(|row| row.system == "tidegate").unwrap();
        assert_eq!(tidegate.cpu_ratio_to_varnish, Some(0.25));
        assert_eq!(object(tidegate)["cpu_ratio_to_varnish"], 0.25);
        let table = table(&rows);
        assert_eq!(
            table.matches("of Varnish's").count(),
            2,
            "nginx's too: {table}"
        );
        assert!(table.contains("CPU ×0.25 of Varnish's"), "{table}");
    }

    #[test]
    fn a_call_is_compared_with_nginx_in_the_same_round() {
        let costs = StepCosts::from([("step-call", vec![2.0, 9.0, 1.0])]);
        let nginx = [sample(20.0), sample(30.0), sample(10.0)];
        let rows = steps(&costs, Some(&nginx));
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(
            (row.cpu_us_per_request, row.cpu_ratio_to_nginx),
            (Some(2.0), Some(0.1))
        );
        assert_eq!(steps(&costs, None)[0].cpu_ratio_to_nginx, None);
    }
}
