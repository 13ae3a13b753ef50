//! `tidegate top`: what each binding of a running node costs, live.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Row as TableRow, Table};
use serde_json::{Value, json};
use tidegate_model::config::DurationText;

use super::admin::Node;

/// What is shown, and how.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Print the table once and end; so does --json, and where the output is no terminal.
    #[arg(long)]
    once: bool,
    /// The time over which rates are taken.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    every: String,
    /// What comes first; while it runs, its first letter changes it.
    #[arg(long, value_enum, default_value_t = Sort::Busy)]
    sort: Sort,
    #[command(flatten)]
    node: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// The share of one core's time.
    Busy,
    /// Calls a second.
    Calls,
    /// Faults a second.
    Faults,
    /// Memory of all instances.
    Memory,
}

/// What one binding, or one function, did in the time between two looks.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    binding: String,
    plugin: String,
    version: String,
    calls: f64,
    faults: f64,
    /// Calls that were not made after many faults in a row.
    refused: f64,
    /// Percent of one core.
    busy: f64,
    /// Of one call.
    mean_us: f64,
    instances: u64,
    memory_bytes: u64,
    /// Calls of the host's capabilities.
    host_calls: f64,
}

/// Shows it until `q`, or once.
pub fn run(arguments: &Arguments, json: bool) -> Result<ExitCode> {
    let every = match DurationText::parse(&arguments.every) {
        Ok(DurationText(every)) if every >= EVERY_LEAST => every,
        Ok(_) => bail!("--every: at least {EVERY_LEAST:?}"),
        Err(problem) => bail!("--every: {problem}"),
    };
    if json || arguments.once || !std::io::stdout().is_terminal() {
        return once(&arguments.node, every, arguments.sort, json);
    }
    let mut terminal = ratatui::init(); // gives the terminal back where we panic, too
    let shown = live(&mut terminal, &arguments.node, every, arguments.sort);
    ratatui::restore();
    shown.map(|()| ExitCode::SUCCESS)
}

fn once(node: &Node, every: Duration, sort: Sort, json: bool) -> Result<ExitCode> {
    let before = look(node)?;
    std::thread::sleep(every);
    let after = look(node)?;
    let rows = sorted(rows(&before, &after)?, sort);
    if json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!("{}", json!({ "node": after["node"], "bindings": rows }));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", summary(&after));
    println!("{}", HEADINGS.join("  "));
    for row in &rows {
        println!("{}", row.cells().join("  "));
    }
    Ok(ExitCode::SUCCESS)
}

fn live(
    terminal: &mut ratatui::DefaultTerminal,
    node: &Node,
    every: Duration,
    mut sort: Sort,
) -> Result<()> {
    let mut before = look(node)?;
    let mut shown = Vec::new();
    let mut at = summary(&before);
    loop {
        terminal.draw(|frame| draw(frame, &at, &shown, sort))?;
        let until = Instant::now() + every;
        // Keys are heard at once; the figures come when their time is over.
        while event::poll(until.saturating_duration_since(Instant::now()))? {
            if let Event::Key(key) = event::read()? {
                match pressed(key) {
                    Some(Pressed::End) => return Ok(()),
                    Some(Pressed::Sort(other)) => sort = other,
                    None => {}
                }
            }
            shown = sorted(shown, sort);
            terminal.draw(|frame| draw(frame, &at, &shown, sort))?;
        }
        // A node that is started again is waited for.
        match look(node).and_then(|after| Ok((rows(&before, &after)?, after))) {
            Ok((rows, after)) => {
                shown = sorted(rows, sort);
                at = summary(&after);
                before = after;
            }
            Err(error) => at = format!("{error:#}"),
        }
    }
}

enum Pressed {
    End,
    Sort(Sort),
}

fn pressed(key: KeyEvent) -> Option<Pressed> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => Some(Pressed::End),
        KeyCode::Char('q') | KeyCode::Esc => Some(Pressed::End),
        KeyCode::Char('b') => Some(Pressed::Sort(Sort::Busy)),
        KeyCode::Char('c') => Some(Pressed::Sort(Sort::Calls)),
        KeyCode::Char('f') => Some(Pressed::Sort(Sort::Faults)),
        KeyCode::Char('m') => Some(Pressed::Sort(Sort::Memory)),
        _ => None,
    }
}

fn draw(frame: &mut Frame<'_>, summary: &str, rows: &[Row], sort: Sort) {
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(summary).bold(), top);
    let headings = HEADINGS.iter().map(|heading| heading.trim());
    let cells = rows.iter().map(|row| {
        let style = match row.faults + row.refused > 0.0 {
            true => Style::new().red(),
            false => Style::new(),
        };
        TableRow::new(row.cells()).style(style)
    });
    let widths = WIDTHS.map(Constraint::Length);
    let mut columns = vec![Constraint::Fill(1)];
    columns.extend(widths);
    let table = Table::new(cells, columns).header(TableRow::new(headings).underlined());
    frame.render_widget(table, middle);
    let keys = format!("q ends · sorted by {sort:?}: b busy, c calls, f faults, m memory");
    frame.render_widget(Line::from(keys).dim(), bottom);
}

fn look(node: &Node) -> Result<Value> {
    node.get("/tidegate/v1/usage")
}

/// What happened between two looks. A binding that is new, or was counted anew, has what it did since it is there.
fn rows(before: &Value, after: &Value) -> Result<Vec<Row>> {
    let time = |look: &Value| look["uptime_ms"].as_u64();
    let (from, until) = (time(before), time(after));
    let until = until.context("the node's answer has no time")?;
    // The node was started again where its time goes back.
    let from = from.filter(|from| *from < until).unwrap_or(0);
    let seconds = (until - from).max(1) as f64 / 1000.0;
    let known = before["bindings"].as_array();
    let row = |now: &Value| {
        let same = |other: &&Value| {
            ["binding", "version"]
                .iter()
                .all(|member| other[member] == now[member])
        };
        let earlier = known
            .into_iter()
            .flatten()
            .find(same)
            .unwrap_or(&Value::Null);
        let since = |member: &str| {
            let value = |look: &Value| look[member].as_f64().unwrap_or_default();
            let grown = value(now) - value(earlier);
            if grown < 0.0 { value(now) } else { grown }
        };
        let text = |member: &str| now[member].as_str().unwrap_or_default().to_owned();
        let calls = since("calls");
        Row {
            binding: text("binding"),
            plugin: text("plugin"),
            version: text("version"),
            calls: calls / seconds,
            faults: since("faults") / seconds,
            refused: since("refused") / seconds,
            busy: since("busy_seconds") / seconds * 100.0,
            mean_us: since("seconds") * 1e6 / calls.max(1.0),
            instances: now["instances"].as_u64().unwrap_or_default(),
            memory_bytes: now["memory_bytes"].as_u64().unwrap_or_default(),
            host_calls: since("host_calls") / seconds,
        }
    };
    Ok(after["bindings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(row)
        .collect())
}

fn sorted(mut rows: Vec<Row>, sort: Sort) -> Vec<Row> {
    let key = |row: &Row| match sort {
        Sort::Busy => row.busy,
        Sort::Calls => row.calls,
        Sort::Faults => row.faults,
        Sort::Memory => row.memory_bytes as f64,
    };
    rows.sort_by(|a, b| {
        key(b)
            .total_cmp(&key(a))
            .then_with(|| a.binding.cmp(&b.binding))
    });
    rows
}

/// `node edge-1 · revision 4 · 12 instances · 84 MiB`.
fn summary(look: &Value) -> String {
    let node = &look["node"];
    format!(
        "node {} · revision {} · {} instances · {} MiB resident",
        node["name"].as_str().unwrap_or_default(),
        node["revision"],
        node["instances"],
        node["resident_bytes"].as_u64().unwrap_or_default() >> 20
    )
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let version = self.version.get(..8).unwrap_or(&self.version);
        vec![
            format!("{:<48}", self.binding),
            format!("{version:<8}"),
            format!("{:>9.1}", self.calls),
            format!("{:>8.1}", self.faults),
            format!("{:>9.1}", self.refused),
            format!("{:>7.2}", self.busy),
            format!("{:>9.1}", self.mean_us),
            format!("{:>9}", self.instances),
            format!("{:>9.1}", self.memory_bytes as f64 / f64::from(1 << 20)),
            format!("{:>9.1}", self.host_calls),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "binding": self.binding,
            "plugin": self.plugin,
            "version": self.version,
            "calls_per_s": self.calls,
            "faults_per_s": self.faults,
            "refused_per_s": self.refused,
            "busy_percent": self.busy,
            "mean_us": self.mean_us,
            "instances": self.instances,
            "memory_bytes": self.memory_bytes,
            "host_calls_per_s": self.host_calls,
        })
    }
}

const HEADINGS: [&str; 10] = [
    "binding                                         ",
    "version ",
    "  calls/s",
    "faults/s",
    "refused/s",
    "   CPU %",
    " µs/call",
    "instances",
    "      MiB",
    "   host/s",
];
/// Of the columns after the first.
const WIDTHS: [u16; 9] = [8, 9, 8, 9, 7, 9, 9, 9, 9];
/// More often would be a load of its own.
const EVERY_LEAST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn seen(uptime_ms: u64, calls: u64) -> Value {
        json!({
            "uptime_ms": uptime_ms,
            "node": { "name": "n", "revision": 1, "instances": 2, "resident_bytes": 3 << 20 },
            "bindings": [{
                "binding": "b", "plugin": "p", "version": "0123456789ab", "calls": calls, "faults": calls / 10,
                "refused": calls / 5,
                "seconds": calls as f64 * 2e-6, "busy_seconds": calls as f64 * 1e-6, "instances": 1,
                "memory_bytes": 1 << 20, "host_calls": calls * 2,
            }],
        })
    }

    #[test]
    fn rates_are_what_came_between_two_looks() {
        let rows = rows(&seen(1000, 100), &seen(3000, 10_100)).unwrap();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(
            (row.calls, row.faults, row.refused, row.host_calls),
            (5000.0, 500.0, 1000.0, 10_000.0)
        );
        assert!(
            (row.busy - 0.5).abs() < 1e-9 && (row.mean_us - 2.0).abs() < 1e-9,
            "{row:?}"
        );
    }

    #[test]
    fn a_node_that_was_started_again_counts_from_its_start() {
        let rows = rows(&seen(100_000, 1_000_000), &seen(2000, 10)).unwrap();
        assert_eq!(rows[0].calls, 5.0);
    }

    #[test]
    fn what_costs_most_comes_first() {
        let row = |binding: &str, busy, memory_bytes| Row {
            binding: binding.to_owned(),
            plugin: String::new(),
            version: String::new(),
            calls: 0.0,
            faults: 0.0,
            refused: 0.0,
            busy,
            mean_us: 0.0,
            instances: 0,
            memory_bytes,
            host_calls: 0.0,
        };
        let rows = vec![row("a", 1.0, 3), row("b", 2.0, 1), row("c", 2.0, 2)];
        for (sort, expected) in [
            (Sort::Busy, "bca"),
            (Sort::Memory, "acb"),
            (Sort::Calls, "abc"),
        ] {
            let order: String = sorted(rows.clone(), sort)
                .into_iter()
                .map(|row| row.binding)
                .collect();
            assert_eq!(order, expected);
        }
    }

    #[test]
    fn the_view_has_every_binding_and_the_keys() {
        let rows = rows(&seen(1000, 100), &seen(2000, 1100)).unwrap();
        let mut terminal = Terminal::new(TestBackend::new(120, 6)).unwrap();
        terminal
            .draw(|frame| draw(frame, &summary(&seen(0, 0)), &rows, Sort::Busy))
            .unwrap();
        let text = terminal.backend().to_string();
        for part in [
            "node n",
            "3 MiB resident",
            "calls/s",
            "01234567",
            "1000.0",
            "q ends",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
