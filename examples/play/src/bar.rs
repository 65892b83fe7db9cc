//! What is heard: a line for each track, and on a terminal a bar that moves.

use std::io::{IsTerminal as _, Write as _};
use std::ops::Range;
use std::time::{Duration, Instant};

use kithara::decode::{Format, Tags};

const CELLS: u32 = 32;

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(100);

/// Where a track is, and what of it can be heard without a wait.
pub(crate) struct Now {
    pub(crate) position: Duration,
    pub(crate) duration: Option<Duration>,
    pub(crate) buffered: Vec<Range<Duration>>,
}

pub(crate) struct Bar {
    terminal: bool,
    drawn: Option<Instant>,
    about: String,
    note: &'static str,
}

impl Bar {
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            drawn: None,
            about: String::new(),
            note: "",
        }
    }

    /// The next track begins.
    pub(crate) fn track(
        &mut self,
        (number, name): (usize, &str),
        count: usize,
        tags: &Tags,
        format: &Format,
        duration: Option<Duration>,
    ) {
        let title = match (&tags.artist, &tags.title) {
            (Some(artist), Some(title)) => format!("{artist} – {title}"),
            (None, Some(title)) => title.clone(),
            _ => name.rsplit(['/', '\\']).next().unwrap_or(name).to_owned(),
        };
        self.about = title;
        self.format(format);
        let length = duration.map_or_else(|| "no end known".to_owned(), clock);
        self.say(&format!("{number}/{count} {name}: {}, {length}", self.about));
    }

    /// The track goes on in another format.
    pub(crate) fn format(&mut self, format: &Format) {
        let title = self.about.split(" · ").next().unwrap_or_default();
        let rate = format
            .bit_rate
            .map_or_else(String::new, |rate| format!(" {} kbit/s", (rate + 500) / 1000));
        let (hertz, channels) = (format.spec.sample_rate, format.spec.channels.count());
        let (codec, container) = (format.codec, format.container);
        self.about = format!("{title} · {codec} in {container}{rate}, {hertz} Hz × {channels}");
    }

    /// What is the matter, where something is.
    #[cfg(feature = "device")]
    pub(crate) fn note(&mut self, note: &'static str) {
        self.note = note;
        self.drawn = None;
    }

    /// Draws the bar, ten times a second at most.
    pub(crate) fn show(&mut self, now: impl FnOnce() -> Now) {
        if !self.terminal || self.drawn.is_some_and(|drawn| drawn.elapsed() < TICK) {
            return;
        }
        self.drawn = Some(Instant::now());
        let now = now();
        let length = now.duration.map_or_else(|| "?".to_owned(), clock);
        let (about, note, at) = (&self.about, self.note, clock(now.position));
        let line = format!("[{}] {at}/{length}{note} {about}", picture(&now));
        let width = crossterm::terminal::size().map_or(80, |(columns, _)| columns);
        let line: String = line.chars().take(usize::from(width).saturating_sub(1)).collect();
        eprint!("\r{line}\x1b[K");
        // A bar that cannot be drawn is no reason to stop.
        drop(std::io::stderr().flush());
    }

    /// A line that stays.
    pub(crate) fn say(&mut self, line: &str) {
        self.clear();
        // A terminal that hands over each key does not go to a line's start by itself.
        println!("{line}{}", if self.terminal { "\r" } else { "" });
    }

    pub(crate) fn complain(&mut self, line: &str) {
        self.clear();
        eprintln!("play: {line}{}", if self.terminal { "\r" } else { "" });
    }

    pub(crate) fn clear(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
        self.drawn = None;
    }
}

/// `|` is heard, `#` is there, `.` is not.
fn picture(now: &Now) -> String {
    let Some(cell) = now.duration.map(|duration| duration / CELLS) else {
        return "endless".to_owned();
    };
    let draw = |number: u32| {
        let (from, to) = (cell * number, cell * (number + 1));
        if (from..to).contains(&now.position) {
            '|'
        } else if now
            .buffered
            .iter()
            .any(|there| there.start <= from && to <= there.end)
        {
            '#'
        } else {
            '.'
        }
    };
    (0..CELLS).map(draw).collect()
}

/// Minutes and seconds.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
