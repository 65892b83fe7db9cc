//! Keys of a terminal; none where there is no terminal.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyModifiers, poll, read};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use kithara::file::FileError;
use kithara::storage::Interrupter;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Key {
    /// So many seconds, forward or back.
    Jump(f64),
    Pause,
    Quit,
}

/// As long as it lives the terminal hands over each key at once.
pub(crate) struct Keys {
    pressed: Receiver<Key>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    /// `q` also ends the reader's wait for bytes.
    pub(crate) fn new(reader: Interrupter<FileError>) -> Self {
        let (sender, pressed) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let thread = (terminal && enable_raw_mode().is_ok()).then(|| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || listen(&sender, &over, &reader))
        });
        Self {
            pressed,
            over,
            thread,
        }
    }

    /// Whether the track is to end.
    pub(crate) fn quit(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// The key that is pressed within `wait`.
    pub(crate) fn within(&self, wait: Duration) -> Option<Key> {
        if self.thread.is_none() {
            std::thread::sleep(wait);
        }
        self.pressed.recv_timeout(wait).ok()
    }

    /// The next key.
    pub(crate) fn next(&self) -> Option<Key> {
        self.pressed.recv().ok()
    }
}

fn listen(sender: &Sender<Key>, over: &AtomicBool, reader: &Interrupter<FileError>) {
    while !over.load(Ordering::Relaxed) {
        let key = match poll(Duration::from_millis(100)) {
            Ok(true) => read().ok().and_then(|event| meant(&event)),
            Ok(false) => None,
            Err(_) => return,
        };
        if key == Some(Key::Quit) {
            over.store(true, Ordering::Relaxed);
            reader.interrupt();
        }
        if key.is_some_and(|key| sender.send(key).is_err()) {
            return;
        }
    }
}

fn meant(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if !key.is_press() {
        return None;
    }
    match key.code {
        KeyCode::Left => Some(Key::Jump(-5.0)),
        KeyCode::Right => Some(Key::Jump(5.0)),
        KeyCode::Down => Some(Key::Jump(-30.0)),
        KeyCode::Up => Some(Key::Jump(30.0)),
        KeyCode::Char(' ') => Some(Key::Pause),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        // The terminal does not turn it into a signal now.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        _ => None,
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Nothing is left to be done about a terminal that is gone.
            let _ = (thread.join(), disable_raw_mode());
        }
    }
}
