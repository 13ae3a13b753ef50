//! The terminal: the topology, drawn again and again, and the keys. Without a terminal: lines.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::Stylize;
use crossterm::terminal::{
    self, Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use tidegate_tests::network::Network;
use tidegate_tests::world::{AWAY, Edge, HOME};
use tokio::sync::mpsc;

use crate::board::{Board, Line};

/// What a person wants.
pub enum Key {
    /// By the edge's place, from 0.
    Cut(usize),
    Deploy,
    Purge,
    Kill,
    End,
}

/// Where the demo is shown; a terminal is as it was when this is dropped.
pub struct Screen {
    terminal: bool,
    keys: mpsc::UnboundedReceiver<Key>,
    told: bool,
}

impl Screen {
    pub fn open() -> Self {
        let (sender, keys) = mpsc::unbounded_channel();
        let mut output = std::io::stdout();
        let terminal = output.is_terminal() && terminal::enable_raw_mode().is_ok();
        if terminal {
            _ = execute!(output, EnterAlternateScreen, DisableLineWrap, Hide);
            std::thread::spawn(move || {
                while let Ok(event) = crossterm::event::read() {
                    if let Some(key) = key_of(&event)
                        && sender.send(key).is_err()
                    {
                        return;
                    }
                }
            });
        } else {
            tokio::spawn(async move {
                if tokio::signal::ctrl_c().await.is_ok() {
                    _ = sender.send(Key::End);
                }
            });
        }
        Self {
            terminal,
            keys,
            told: false,
        }
    }

    /// The next key.
    pub async fn key(&mut self) -> Key {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }

    /// How often to show.
    pub fn every(&self) -> Duration {
        match self.terminal {
            true => Duration::from_millis(200),
            false => Duration::from_secs(1),
        }
    }

    pub fn show(&mut self, board: &Board, network: &Network, edges: &[Edge]) {
        let lines: Vec<Line> = AWAY.iter().map(|(region, _)| board.line(region)).collect();
        let cut: Vec<bool> = AWAY
            .iter()
            .map(|(region, _)| network.is_cut(HOME, region))
            .collect();
        match self.terminal {
            true => draw(&picture(board, &lines, &cut, edges)),
            false => {
                if !self.told {
                    self.told = true;
                    println!("{}", to_try(edges));
                }
                for (line, cut) in lines.iter().zip(cut) {
                    println!("{}", plain(line, cut));
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.terminal {
            _ = execute!(
                std::io::stdout(),
                EnableLineWrap,
                LeaveAlternateScreen,
                Show
            );
            _ = terminal::disable_raw_mode();
        }
    }
}

fn key_of(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if key.kind != KeyEventKind::Press {
        return None;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::End),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::End),
        KeyCode::Char('d') => Some(Key::Deploy),
        KeyCode::Char('p') => Some(Key::Purge),
        KeyCode::Char('k') => Some(Key::Kill),
        KeyCode::Char(digit) => digit
            .to_digit(10)?
            .checked_sub(1)
            .map(|place| Key::Cut(place as usize)),
        _ => None,
    }
}

fn draw(lines: &[String]) {
    let mut output = std::io::stdout().lock();
    // A terminal that nobody looks at has no height.
    let height = terminal::size().map_or(0, |(_, height)| height);
    let height = if height == 0 { 24 } else { height };
    for (row, line) in (0..height).zip(lines) {
        _ = queue!(output, MoveTo(0, row), Clear(ClearType::CurrentLine));
        _ = write!(output, "{line}");
    }
    _ = queue!(output, Clear(ClearType::FromCursorDown));
    _ = output.flush();
}

fn picture(board: &Board, lines: &[Line], cut: &[bool], edges: &[Edge]) -> Vec<String> {
    let origin = match board.origin() {
        Some(snapshot) => format!("{}  {}", "up".green(), snapshot),
        None => "down".red().to_string(),
    };
    let mut picture = vec![
        format!("{}", "Tidegate in four regions".bold()),
        String::new(),
        format!("  {}{origin}", format!("{HOME:<14}").bold()),
        "  │".to_owned(),
    ];
    for (place, (line, cut)) in lines.iter().zip(cut).enumerate() {
        let last = place + 1 == lines.len();
        picture.push(format!(
            "  {}{}",
            if last { "└" } else { "├" },
            branch(place, line, *cut)
        ));
        let trunk = if last { " " } else { "│" };
        picture.push(format!("  {trunk}      {}", seen(line)));
        picture.push(format!("  {trunk}"));
    }
    picture.push(String::new());
    picture.push(board.said());
    picture.push(String::new());
    picture.push(
        "1 2 3 cut or heal   d deploy   p purge   k kill or start the origin   q end".to_owned(),
    );
    picture.push(String::new());
    picture.extend(to_try(edges).lines().map(str::to_owned));
    picture
}

/// The way to an edge, and the edge.
fn branch(place: usize, line: &Line, cut: bool) -> String {
    let rtt_ms = AWAY[place].1;
    let way = match cut {
        true => format!("──── ╳ cut ─── [{}] ", place + 1).red().to_string(),
        false => format!("── {rtt_ms:>3} ms ──── [{}] ", place + 1),
    };
    let health = match line.health.as_str() {
        "up" => "up".green().to_string(),
        other => other.yellow().to_string(),
    };
    let rtt = line.rtt_ms.map_or(String::new(), |rtt| {
        format!("{rtt:.1} ms by {}", line.transport)
    });
    format!(
        "{way}{}  {health}  {}  {rtt}",
        line.region.bold(),
        line.snapshot
    )
}

/// What viewers there see.
fn seen(line: &Line) -> String {
    let failures = match line.failures {
        0 => String::new(),
        count => format!("   {}", format!("{count} without an answer").red()),
    };
    format!(
        "{:.0} requests/s   hits {}   {} at the edge, {} at the origin{failures}",
        line.requests_per_second,
        line.hits
            .map_or("?".to_owned(), |hits| format!("{hits:.0} %")),
        milliseconds(line.latency),
        milliseconds(line.direct),
    )
}

fn plain(line: &Line, cut: bool) -> String {
    format!(
        "{:<14} link={} rtt={} health={} snapshot={} requests/s={:.0} hits={} edge={} direct={} failures={} cut={cut}",
        line.region,
        line.transport,
        line.rtt_ms
            .map_or("?".to_owned(), |rtt| format!("{rtt:.1}ms")),
        line.health,
        line.snapshot,
        line.requests_per_second,
        line.hits
            .map_or("?".to_owned(), |hits| format!("{hits:.0}%")),
        milliseconds(line.latency).replace(' ', ""),
        milliseconds(line.direct).replace(' ', ""),
        line.failures,
    )
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or("nothing".to_owned(), |time| {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    })
}

/// How to get into a region from another terminal.
fn to_try(edges: &[Edge]) -> String {
    let lines = edges.iter().map(|edge| {
        format!(
            "nsenter -n -t {} curl -i http://{}/_aws/execute-api/api/test/version   # a viewer in {}\n",
            edge.node.id(),
            edge.node.address(),
            edge.region
        )
    });
    format!("Try, in another terminal:\n{}", lines.collect::<String>())
}
