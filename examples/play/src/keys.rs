//! Keys of a terminal, and Ctrl-C wherever the program runs.

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyModifiers, poll, read};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use kithara::decode::DecodeInterrupter;

use crate::Failure;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Key {
    /// So many seconds, forward or back.
    Jump(f64),
    /// To the next track.
    Skip,
    Pause,
    Quit,
}

/// The wish to leave. It is made once, and ends every wait.
#[derive(Clone)]
pub(crate) struct Quit {
    // Nothing is ever sent: the channel is closed, and that wakes all who wait for it.
    open: async_channel::Sender<Infallible>,
    _receiver: async_channel::Receiver<Infallible>,
    decoder: Arc<Mutex<Option<DecodeInterrupter>>>,
}

impl Quit {
    fn new() -> Self {
        let (open, receiver) = async_channel::bounded(1);
        Self {
            open,
            _receiver: receiver,
            decoder: Arc::default(),
        }
    }

    fn ask(&self) {
        // Before the decoder's wait ends: the thread that waits looks here next.
        self.open.close();
        if let Some(decoder) = &*self.decoder.lock().unwrap_or_else(PoisonError::into_inner) {
            decoder.interrupt();
        }
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.open.is_closed()
    }

    /// Returns when it is asked.
    pub(crate) async fn asked(&self) {
        self.open.closed().await;
    }

    /// Ends the waits of this decoder, too.
    pub(crate) fn interrupts(&self, decoder: DecodeInterrupter) {
        *self.decoder.lock().unwrap_or_else(PoisonError::into_inner) = Some(decoder);
        if self.is_asked() {
            self.ask();
        }
    }
}

/// As long as it lives the terminal hands over each key at once.
pub(crate) struct Keys {
    pressed: Receiver<Key>,
    quit: Quit,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    pub(crate) fn new() -> Result<Self, Failure> {
        let (sender, pressed) = channel();
        let quit = Quit::new();
        let (signal, asked) = (sender.clone(), quit.clone());
        ctrlc::set_handler(move || press(Key::Quit, &signal, &asked))?;
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let thread = (terminal && enable_raw_mode().is_ok()).then(|| {
            let quit = quit.clone();
            std::thread::spawn(move || listen(&sender, &quit))
        });
        Ok(Self {
            pressed,
            quit,
            thread,
        })
    }

    pub(crate) fn quit(&self) -> &Quit {
        &self.quit
    }

    /// The key that is pressed within `wait`.
    pub(crate) fn within(&self, wait: Duration) -> Option<Key> {
        match self.pressed.recv_timeout(wait) {
            Ok(key) => Some(key),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Key::Quit),
        }
    }

    /// The next key.
    pub(crate) fn next(&self) -> Key {
        self.pressed.recv().unwrap_or(Key::Quit)
    }
}

fn press(key: Key, sender: &Sender<Key>, quit: &Quit) {
    if key == Key::Quit {
        quit.ask();
    }
    // Without a player there is nothing to be told.
    let _ = sender.send(key);
}

fn listen(sender: &Sender<Key>, quit: &Quit) {
    while !quit.is_asked() {
        match poll(Duration::from_millis(100)) {
            Ok(true) => {
                if let Some(key) = read().ok().and_then(|event| meant(&event)) {
                    press(key, sender, quit);
                }
            }
            Ok(false) => {}
            Err(_) => return,
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
        KeyCode::Char('n') => Some(Key::Skip),
        KeyCode::Char(' ') => Some(Key::Pause),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        // The terminal does not turn it into a signal now.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        _ => None,
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.quit.ask();
        if let Some(thread) = self.thread.take() {
            // Nothing is left to be done about a terminal that is gone.
            let _ = (thread.join(), disable_raw_mode());
        }
    }
}
